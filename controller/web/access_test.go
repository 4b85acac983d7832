package web

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// callers are all kinds of credentials, and whether they read and change.
var callers = []struct {
	name, token       string
	mayRead, mayWrite bool
}{
	{"a caller without a token", "", false, false},
	{"a caller with an unknown token", "wrong", false, false},
	{"a proxy", syncToken, false, false},
	{"a viewer", viewerToken, true, false},
	{"an operator", operatorToken, true, true},
}

// TestEveryOperationChecksAccess calls every operation of the OpenAPI document as every kind of
// caller.
func TestEveryOperationChecksAccess(t *testing.T) {
	r := startRig(t)
	open := map[string]bool{"GET /api/system/maintenance/status": true}
	// Operations that change nothing although their method allows it.
	reads := map[string]bool{"POST /api/v1/explain": true}
	// Only operators may list the tokens.
	forOperators := map[string]bool{"GET /api/v1/tokens": true}

	operations := operationsOf(t, "testdata/openapi.json")
	if len(operations) < 25 {
		t.Errorf("only %d operations were found", len(operations))
	}

	for _, op := range operations {
		writes := !strings.HasPrefix(op, "GET ") && !reads[op] || forOperators[op]
		for _, caller := range callers {
			before := r.version()
			a := r.call(withoutParameters.Replace(op), caller.token, "")
			switch {
			case !open[op] && !caller.mayRead:
				if a.status != http.StatusUnauthorized {
					t.Errorf("%s by %s: %d, want 401: %s", op, caller.name, a.status, a.body)
				}
			case !open[op] && writes && !caller.mayWrite:
				if a.status != http.StatusForbidden {
					t.Errorf("%s by %s: %d, want 403: %s", op, caller.name, a.status, a.body)
				}
			case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
				t.Errorf("%s by %s: %d: %s", op, caller.name, a.status, a.body)
			}

			if (a.status == http.StatusUnauthorized) != (a.header.Get("WWW-Authenticate") != "") {
				t.Errorf("%s by %s: %d with WWW-Authenticate %q", op, caller.name, a.status, a.header.Get("WWW-Authenticate"))
			}
			if a.status >= 400 && a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s by %s: %d as %s", op, caller.name, a.status, a.header.Get("Content-Type"))
			}

			if !caller.mayWrite && r.version() != before {
				t.Errorf("%s by %s changed the state", op, caller.name)
			}
		}
	}

	if len(r.keeper.Tokens()) != 2 {
		t.Error("a token was created or revoked")
	}
}

// withoutParameters fills the parameters of a path with names that do not exist.
var withoutParameters = strings.NewReplacer("{app}", "nope", "{sha256}", strings.Repeat("0", 64), "{proxy}", "nope", "{token}", "nope")

// operationsOf returns the operations of an OpenAPI document, such as "GET /api/v1/apps/{app}".
func operationsOf(t *testing.T, file string) (operations []string) {
	t.Helper()
	document, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	var openAPI struct {
		Paths map[string]map[string]struct{}
	}
	if err := json.Unmarshal(document, &openAPI); err != nil {
		t.Fatal(err)
	}

	for path, methods := range openAPI.Paths {
		for method := range methods {
			operations = append(operations, strings.ToUpper(method)+" "+path)
		}
	}
	return operations
}

func TestProxyListenerTakesOnlyTheSyncToken(t *testing.T) {
	r := startRig(t)
	for _, what := range []string{"POST /proxy/v1/sync", "POST /proxy/v1/ack", "GET /proxy/v1/pages/x"} {
		for _, token := range []string{"", "wrong", operatorToken} {
			if a := r.call(what, token, "{}"); a.status != http.StatusUnauthorized {
				t.Errorf("%s with token %q: %d", what, token, a.status)
			}
		}
	}
}
