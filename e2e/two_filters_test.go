package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Two filters in one Envoy that follow different controllers: neither hears of the
// other's maintenance.
func TestTwoFiltersInOneEnvoyAreIndependent(t *testing.T) {
	partners := struct{ edge, listen, sync *Port }{reserve(t), reserve(t), reserve(t)}
	d := deploy(t, deployOptions{bootstrap: "two-filters.yaml", withoutEnvoy: true, ports: map[int]string{
		8090: partners.edge.Addr(), 7171: partners.sync.Addr(),
	}})
	dir := t.TempDir()
	second, err := StartController(t.Context(), ControllerOptions{
		Binary: d.drydock, Data: filepath.Join(dir, "data"), Listen: partners.listen.Addr(), Proxy: partners.sync.Addr(),
		Token: operatorToken, Sync: syncToken, Log: filepath.Join(dir, "controller.log"),
	})
	must(t, err)
	t.Cleanup(func() { second.Kill() })
	d.startEnvoy()
	d.awaitProxy()
	// The second controller, with the helpers of the first.
	other := *d
	other.controller = second
	other.awaitProxy()
	public, partner := d.visitor("127.0.0.1"), newVisitor(t, "127.0.0.1", partners.edge.Addr())
	expect := func(when string, wantPublic, wantPartner int) {
		t.Helper()
		if a, b := public.get("/").Status, partner.get("/").Status; a != wantPublic || b != wantPartner {
			t.Errorf("%s: public %d, partners %d; want %d, %d", when, a, b, wantPublic, wantPartner)
		}
	}
	d.putApp(maintenance.Spec{Name: "default"})
	other.putApp(maintenance.Spec{Name: "default"})
	expect("off", 200, 200)
	other.on("default", maintenance.NoAccess, "partners closed")
	expect("partners on", 200, 503)
	d.on("default", maintenance.NoAccess, "closed")
	expect("both on", 503, 503)
	if a, b := public.get("/").Body, partner.get("/").Body; !strings.Contains(a, "closed") || strings.Contains(a, "partners") || !strings.Contains(b, "partners closed") {
		t.Errorf("public is told %q, partners %q", a, b)
	}
	other.off("default")
	expect("partners off", 503, 200)
	second.Kill()
	d.off("default")
	expect("public off, partners' controller dead", 200, 200)
	d.on("default", maintenance.NoAccess, "closed")
	expect("public on, partners' controller dead", 503, 200)
}
