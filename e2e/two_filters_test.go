package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// deploy starts a controller, an Envoy with the Drydock filter, and a demo app behind Envoy
// (deployment_test.go). enforce puts an app into a mode and returns once every worker of Envoy
// enforces the mode; enforceOff ends it. In no-access, all requests are refused with 503. A visitor
// is a client of Envoy (clients_test.go). The app default applies to every request that no other
// app matches.

// One Envoy may have several Drydock filters, each with a listener, a name and a controller of its
// own. two-filters.yaml has two: a public listener (port 8080, with the deployment's controller)
// and one for partners (port 8090, with a second controller whose listener for proxies has port
// 7171). Toggles at one controller do not affect the other filter.
func TestTwoFiltersInOneEnvoyAreIndependent(t *testing.T) {
	partnersPort, apiPort, syncPort := reservePort(t), reservePort(t), reservePort(t)
	d := deploy(t, deployOptions{bootstrap: "two-filters.yaml", withoutEnvoy: true, ports: map[int]string{
		8090: partnersPort.Addr(), 7171: syncPort.Addr(),
	}})
	dir := t.TempDir()
	controller, err := StartController(t.Context(), ControllerOptions{
		Binary: d.drydock, Data: filepath.Join(dir, "data"), Listen: apiPort.Addr(), Proxy: syncPort.Addr(),
		Token: operatorToken, Sync: syncToken, Log: filepath.Join(dir, "controller.log"),
	})
	must(t, err)
	t.Cleanup(func() { controller.Kill() })

	d.startEnvoy()
	d.awaitProxy()
	partners := *d // a copy with the same Envoy and the second controller, for the methods below
	partners.controller = controller
	partners.awaitProxy()

	public, partner := d.visitorFrom("127.0.0.1"), newVisitor(t, "127.0.0.1", partnersPort.Addr())
	expect := func(when string, wantPublic, wantPartner int) {
		t.Helper()
		gotPublic, gotPartner := public.get("/").Status, partner.get("/").Status
		if gotPublic != wantPublic || gotPartner != wantPartner {
			t.Errorf("%s: public %d, partners %d; want %d, %d", when, gotPublic, gotPartner, wantPublic, wantPartner)
		}
	}

	d.putApp(maintenance.Spec{Name: "default"})
	partners.putApp(maintenance.Spec{Name: "default"})
	expect("off", 200, 200)
	partners.enforce("default", maintenance.NoAccess, "partners closed")
	expect("partners on", 200, 503)
	d.enforce("default", maintenance.NoAccess, "closed")
	expect("both on", 503, 503)
	toPublic, toPartner := public.get("/").Body, partner.get("/").Body
	if !strings.Contains(toPublic, "closed") || strings.Contains(toPublic, "partners") || !strings.Contains(toPartner, "partners closed") {
		t.Errorf("public gets %q, partners get %q", toPublic, toPartner)
	}

	partners.enforceOff("default")
	expect("partners off", 503, 200)

	// A filter whose controller is gone keeps its last state. The other filter follows its own
	// controller as before.
	controller.Kill()
	d.enforceOff("default")
	expect("public off, the partners' controller is gone", 200, 200)
	d.enforce("default", maintenance.NoAccess, "closed")
	expect("public on, the partners' controller is gone", 503, 200)
}
