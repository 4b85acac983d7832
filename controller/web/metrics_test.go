package web

import (
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestMetricsShowAppsProxiesAndRequests(t *testing.T) {
	r := startRig(t)
	r.call("POST /api/v1/apps/default/activations", operatorToken, `{"mode":"read-only"}`, anyState)
	// The new store has revision 0, and turning the app on made revision 1. The proxy is behind by
	// one.
	behind := maintenance.Version{Epoch: r.version().Epoch, Revision: 0}
	r.ack(t, maintenance.Ack{Version: behind, Proxy: "p", VM: "1"})

	a := r.call("GET /metrics", "", "")
	for _, want := range []string{
		`drydock_app_mode{app="default",mode="read-only"} 1`,
		`drydock_app_mode{app="default",mode="off"} 0`,
		`drydock_app_phase{app="default",phase="pending"} 1`,
		`drydock_app_enforced{app="default"} 0`,
		`drydock_revision 1`,
		`drydock_proxies{state="live"} 1`,
		`drydock_proxies_enforcing 0`,
		`drydock_vms{state="live"} 1`,
		`drydock_vm_lag_revisions 1`,
		`drydock_http_request_duration_seconds_count{code="200",route="POST /api/v1/apps/{app}/activations"} 1`,
	} {
		if !strings.Contains(a.body, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	for _, secret := range []string{operatorToken, viewerToken, syncToken} {
		if strings.Contains(a.body, secret) {
			t.Error("the metrics contain a secret")
		}
	}
}
