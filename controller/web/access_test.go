package web

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// callers are the kinds of clients, and whether operations that are not public let them read and
// make changes.
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

// Most operations only read if their method is GET, and make changes otherwise. These are the
// others.
var (
	publicOperations = map[string]bool{"GET /api/system/maintenance/status": true}
	// Operations that read, although their method is not GET.
	readsByOtherMethod = map[string]bool{"POST /api/v1/explain": true}
	// Operations that require the role operator, although they only read.
	readsForOperators = map[string]bool{"GET /api/v1/tokens": true}
)

// TestEveryOperationChecksAccess calls every operation of the OpenAPI document as every kind of
// client. The requests name resources that do not exist and have no body, so that no operation gets
// further than the check of its access and its input.
func TestEveryOperationChecksAccess(t *testing.T) {
	r := startRig(t)
	operations := operationsOf(t, "testdata/openapi.json")
	if len(operations) < 25 { // in case the document is not read as expected
		t.Errorf("only %d operations were found", len(operations))
	}

	for _, op := range operations {
		isRead := strings.HasPrefix(op, "GET ") || readsByOtherMethod[op]
		needsOperator := !isRead || readsForOperators[op]
		for _, caller := range callers {
			before := r.version()
			a := r.call(unknownResources.Replace(op), caller.token, "")

			refusal := 0 // the status with which access must be refused, if it must be
			switch {
			case publicOperations[op]:
			case !caller.mayRead:
				refusal = http.StatusUnauthorized
			case needsOperator && !caller.mayWrite:
				refusal = http.StatusForbidden
			}

			isRefused := a.status == http.StatusUnauthorized || a.status == http.StatusForbidden
			if refusal != 0 && a.status != refusal || refusal == 0 && isRefused {
				t.Errorf("%s by %s: %d, want %d (0: any other status): %s", op, caller.name, a.status, refusal, a.body)
			}

			// RFC 9110 section 15.5.2 requires the header for 401.
			challenge := a.header.Get("WWW-Authenticate")
			if (a.status == http.StatusUnauthorized) != (challenge != "") {
				t.Errorf("%s by %s: %d with WWW-Authenticate %q", op, caller.name, a.status, challenge)
			}
			if a.status >= 400 && a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s by %s: %d as %s", op, caller.name, a.status, a.header.Get("Content-Type"))
			}

			if !caller.mayWrite && r.version() != before {
				t.Errorf("%s by %s changed the state", op, caller.name)
			}
		}
	}

	// Tokens are not a part of the state, so the version does not show changes of them.
	if len(r.keeper.Tokens()) != 2 {
		t.Error("a token was created or revoked")
	}
}

// unknownResources replaces the parameters of a path by names of resources that do not exist.
var unknownResources = strings.NewReplacer(
	"{app}", "nope", "{sha256}", strings.Repeat("0", 64), "{proxy}", "nope", "{token}", "nope",
)

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
	for _, methodAndPath := range []string{"POST /proxy/v1/sync", "POST /proxy/v1/ack", "GET /proxy/v1/pages/x"} {
		for _, token := range []string{"", "wrong", operatorToken} {
			if a := r.call(methodAndPath, token, "{}"); a.status != http.StatusUnauthorized {
				t.Errorf("%s with token %q: %d, want 401", methodAndPath, token, a.status)
			}
		}
	}
}
