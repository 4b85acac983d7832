package web

import (
	"net/http"
	"testing"
	"time"
)

// Without the store, the controller serves what it has in memory, but cannot make changes: /readyz
// says so, and /healthz does not.
func TestNotReadyWithoutTheStore(t *testing.T) {
	r := startRig(t)
	if a := r.call("GET /readyz", "", ""); a.status != http.StatusOK {
		t.Fatal(a)
	}

	r.closeStore()
	time.Sleep(1100 * time.Millisecond) // /readyz repeats its last result for a second
	if a := r.call("GET /readyz", "", ""); a.status != http.StatusServiceUnavailable {
		t.Fatal(a)
	}

	a := r.call("POST /api/v1/apps/default/activations", operatorToken, `{}`, anyState)
	if a.status != http.StatusServiceUnavailable {
		t.Fatal(a)
	}
	if a := r.call("GET /healthz", "", ""); a.status != http.StatusOK {
		t.Fatal(a)
	}
}
