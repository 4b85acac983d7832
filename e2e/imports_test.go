package e2e

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

// mayImport says which of the module's packages a package may import. The imports run one way; e2e
// and tests stand outside.
var mayImport = map[string][]string{
	"filter/maintenance/graphql":   nil,
	"filter/maintenance":           {"filter/maintenance/graphql"},
	"filter/maintenance/adversary": {"filter/maintenance"},
	"filter/maintenance/cases":     nil,
	"filter":                       {"filter/maintenance"},
	"filter/trim":                  nil,
	"internal/golden":              nil,
	"filter/wasmhost":              nil,
	"controller/store":             nil,
	"controller/keeper":            {"controller/store", "filter/maintenance", "filter/maintenance/graphql"},
	"controller/web":               {"controller/keeper", "filter/maintenance", "filter/maintenance/graphql"},
	"controller":                   {"controller/keeper", "controller/store", "controller/web", "filter/maintenance"},
	"controller/cli":               {"controller", "controller/keeper", "controller/web", "filter/maintenance"},
	"controller/cmd/drydock":       {"controller/cli"},
}

// The core runs in every worker of every proxy. Each of these was looked at for what it adds to the
// module and does at run time; to add one, do the same.
var coreImports = []string{
	"bytes", "cmp", "crypto/sha256", "embed", "encoding/binary", "encoding/hex", "errors", "fmt", "io", "iter", "maps", "math", "math/bits", "net/netip",
	"slices", "strconv", "strings", "sync", "sync/atomic", "time", "unicode", "unicode/utf16", "unicode/utf8",
	"github.com/go-json-experiment/json/jsontext", "github.com/tidwall/gjson",
}

// What must not get into the module by any detour: weight, or a part of the runtime that Envoy has
// no host for.
var notInModule = []string{"net", "net/http", "crypto/tls", "crypto/x509", "regexp", "text/template", "html/template", "os/exec", "os/signal", "time/tzdata", "context", "log", "log/slog", "testing", "flag"}

type goPackage struct {
	ImportPath    string
	Imports, Deps []string
	Standard      bool
}

func goList(t *testing.T, env []string, args ...string) (packages []goPackage) {
	t.Helper()
	root, err := Root()
	must(t, err)
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps,Standard"}, args...)...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p goPackage
		must(t, dec.Decode(&p))
		packages = append(packages, p)
	}
	return packages
}

func TestImportsRunOneWay(t *testing.T) {
	for _, p := range goList(t, nil, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, "e2e") {
			continue
		}
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("%s is new: say in mayImport what it may import", name)
			continue
		}
		for _, imported := range p.Imports {
			if short, own := strings.CutPrefix(imported, module); own && !slices.Contains(allowed, short) {
				t.Errorf("%s imports %s; it may import %v", name, short, allowed)
			}
		}
		if name == "filter/maintenance" || name == "filter/maintenance/graphql" {
			for _, imported := range p.Imports {
				if !strings.HasPrefix(imported, module) && !slices.Contains(coreImports, imported) {
					t.Errorf("the core (%s) imports %s, which is not on its list", name, imported)
				}
			}
		}
	}
	for _, p := range goList(t, []string{"GOOS=wasip1", "GOARCH=wasm"}, "./filter") {
		for _, dep := range p.Deps {
			if slices.Contains(notInModule, dep) {
				t.Errorf("the module draws in %s", dep)
			}
		}
	}
}
