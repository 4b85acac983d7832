package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Two filters in one Envoy that follow different controllers do not affect each other.
func TestTwoFiltersInOneEnvoyAreIndependent(t *testing.T) {
	edge, listen, sync := reservePort(t), reservePort(t), reservePort(t)
	d := deploy(t, deployOptions{bootstrap: "two-filters.yaml", withoutEnvoy: true, ports: map[int]string{
		8090: edge.Addr(), 7171: sync.Addr(),
	}})
	dir := t.TempDir()
	controller, err := StartController(t.Context(), ControllerOptions{
		Binary: d.drydock, Data: filepath.Join(dir, "data"), Listen: listen.Addr(), Proxy: sync.Addr(),
		Token: operatorToken, Sync: syncToken, Log: filepath.Join(dir, "controller.log"),
	})
	must(t, err)
	t.Cleanup(func() { controller.Kill() })

	d.startEnvoy()
	d.awaitProxy()
	partners := *d // the same Envoy with the second controller
	partners.controller = controller
	partners.awaitProxy()

	public, partner := d.visitorFrom("127.0.0.1"), newVisitor(t, "127.0.0.1", edge.Addr())
	expect := func(when string, wantPublic, wantPartner int) {
		t.Helper()
		if a, b := public.get("/").Status, partner.get("/").Status; a != wantPublic || b != wantPartner {
			t.Errorf("%s: public %d, partners %d; want %d, %d", when, a, b, wantPublic, wantPartner)
		}
	}

	d.putApp(maintenance.Spec{Name: "default"})
	partners.putApp(maintenance.Spec{Name: "default"})
	expect("off", 200, 200)
	partners.enforce("default", maintenance.NoAccess, "partners closed")
	expect("partners on", 200, 503)
	d.enforce("default", maintenance.NoAccess, "closed")
	expect("both on", 503, 503)
	a, b := public.get("/").Body, partner.get("/").Body
	if !strings.Contains(a, "closed") || strings.Contains(a, "partners") || !strings.Contains(b, "partners closed") {
		t.Errorf("public gets %q, partners get %q", a, b)
	}

	partners.enforceOff("default")
	expect("partners off", 503, 200)
	controller.Kill()
	d.enforceOff("default")
	expect("public off, the partners' controller is gone", 200, 200)
	d.enforce("default", maintenance.NoAccess, "closed")
	expect("public on, the partners' controller is gone", 503, 200)
}
