package conventions

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/drydock-proxy/drydock/"

// mayImport names the module's packages that each of its packages may import. Imports run one
// way: the filter's core knows neither the filter nor the controller, and what is stored knows
// nothing of what serves it. The packages below e2e and all tests stand outside.
var mayImport = map[string][]string{
	"filter/maintenance/graphql":   nil,
	"filter/maintenance":           {"filter/maintenance/graphql"},
	"filter/maintenance/adversary": {"filter/maintenance"},
	"filter/maintenance/cases":     nil,
	"filter":                       {"filter/maintenance"},
	"filter/trim":                  nil,
	"filter/wasmhost":              nil,
	"controller/store":             nil,
	"controller/keeper":            {"controller/store", "filter/maintenance"},
	"controller/web":               {"controller/keeper", "filter/maintenance"},
	"controller":                   {"controller/keeper", "controller/store", "controller/web"},
	"controller/cli":               {"controller", "controller/keeper", "controller/web", "filter/maintenance"},
	"controller/cmd/drydock":       {"controller/cli"},
}

func TestImportsRunOneWay(t *testing.T) {
	for _, p := range goList(t, nil, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, "e2e") {
			continue
		}

		allowed, known := mayImport[name]
		if !known {
			t.Errorf("%s is a new package: name in mayImport what it may import, and describe it in CONTRIBUTING.md", name)
			continue
		}
		for _, imported := range p.Imports {
			if own, found := strings.CutPrefix(imported, module); found && !slices.Contains(allowed, own) {
				t.Errorf("%s imports %s; it may import %v", name, own, allowed)
			}
		}
		for _, own := range allowed {
			if !slices.Contains(p.Imports, module+own) {
				t.Errorf("%s does not import %s any longer: remove it from mayImport", name, own)
			}
		}
	}
}

// Every worker of every proxy holds the module, and V8 compiles all of it at each start of Envoy.
var (
	// standard are the packages of the standard library that the core may import. Each was looked
	// at for what it adds to the module. None of them does I/O.
	standard = []string{
		"bytes", "cmp", "crypto/sha256", "embed", "encoding/binary", "encoding/hex", "errors", "fmt", "io", "iter", "maps",
		"math", "math/bits", "net/netip", "slices", "strconv", "strings", "sync", "sync/atomic", "time", "unicode",
		"unicode/utf16", "unicode/utf8",
	}

	// foreign are the packages from outside the standard library that the core may depend on.
	foreign = []string{module, "github.com/go-json-experiment/json/internal", "github.com/go-json-experiment/json/jsontext"}

	// heavy are packages of the standard library that the module must not depend on, directly or
	// not, because of their size or because Envoy offers nothing of what they need.
	heavy = []string{
		"context", "crypto/rand", "crypto/tls", "crypto/x509", "encoding/base64", "encoding/gob", "encoding/json", "flag",
		"html/template", "log", "log/slog", "math/big", "net", "net/http", "net/url", "os/exec", "os/signal", "regexp",
		"regexp/syntax", "sort", "testing", "text/template", "time/tzdata",
	}
)

func TestModuleStaysSmall(t *testing.T) {
	wasm := []string{"GOOS=wasip1", "GOARCH=wasm"}
	for _, p := range goList(t, wasm, "-deps", "./filter") {
		if slices.Contains(heavy, p.ImportPath) {
			t.Errorf("the filter depends on %s, which makes the module heavy: do without it", p.ImportPath)
		}
	}

	for _, p := range goList(t, wasm, "./filter/maintenance", "./filter/maintenance/graphql") {
		for _, imported := range p.Imports {
			if isStandard := !strings.Contains(imported, "."); isStandard && !slices.Contains(standard, imported) {
				t.Errorf("%s imports %s: do without it, or look at what it adds and list it here", p.ImportPath, imported)
			}
		}
	}
	for _, p := range goList(t, wasm, "-deps", "./filter/maintenance") {
		allowed := slices.ContainsFunc(foreign, func(prefix string) bool {
			return strings.HasPrefix(p.ImportPath+"/", strings.TrimSuffix(prefix, "/")+"/")
		})
		if !p.Standard && !allowed {
			t.Errorf("the core depends on %s; from outside the standard library it may use jsontext only", p.ImportPath)
		}
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// goList returns what "go list" says of packages in an environment.
func goList(t *testing.T, environment []string, args ...string) (packages []goPackage) {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Standard"}, args...)...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), environment...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}

	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p goPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatalf("reading what go list printed: %v", err)
		}
		packages = append(packages, p)
	}
	return packages
}
