package maintenance_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The core runs in every worker of every proxy, and V8 compiles all that it draws in at
// each start of Envoy: from outside the standard library a tokenizer, and of the standard
// library nothing that reflects, listens or matches patterns.
func TestImports(t *testing.T) {
	allowed := []string{
		"github.com/drydock-proxy/drydock/filter/maintenance",
		"github.com/drydock-proxy/drydock/filter/maintenance/graphql",
		"github.com/go-json-experiment/json/internal",
		"github.com/go-json-experiment/json/internal/jsonflags",
		"github.com/go-json-experiment/json/internal/jsonopts",
		"github.com/go-json-experiment/json/internal/jsonwire",
		"github.com/go-json-experiment/json/jsontext",
	}
	refused := []string{
		"context", "crypto/rand", "encoding/base64", "encoding/gob", "encoding/json", "flag", "html/template", "log", "log/slog", "math/big", "net", "net/http", "net/url",
		"os/exec", "os/signal", "regexp", "regexp/syntax", "sort", "testing", "text/template", "time/tzdata",
	}
	cmd := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}} {{.Standard}}", ".")
	cmd.Env = append(cmd.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var foreign []string
	for line := range strings.Lines(string(out)) {
		name, standard, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case standard == "false":
			foreign = append(foreign, name)
		case slices.Contains(refused, name):
			t.Errorf("the core draws in %s", name)
		}
	}
	slices.Sort(foreign)
	if !slices.Equal(foreign, allowed) {
		t.Errorf("from outside the standard library the core draws in\n%s\nwant\n%s", strings.Join(foreign, "\n"), strings.Join(allowed, "\n"))
	}
}
