package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

var alice = Actor{Name: "alice", Role: Operator, Remote: "192.0.2.7"}

// open starts a keeper on dir as a controller would, and returns how to stop it.
func open(t testing.TB, dir string) (*Keeper, func()) {
	t.Helper()
	s, err := store.OpenBolt(filepath.Join(dir, "drydock.db"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	k, err := Open(t.Context(), Options{Store: s, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { k.Run(ctx) })
	return k, sync.OnceFunc(func() {
		cancel()
		running.Wait()
		s.Close()
	})
}

// withFakeTime runs a test with a keeper on fake time.
func withFakeTime(t *testing.T, test func(t *testing.T, k *Keeper)) {
	synctest.Test(t, func(t *testing.T) {
		k, stop := open(t, t.TempDir())
		defer stop()
		test(t, k)
	})
}

// after moves fake time on, and lets the keeper act.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func shop(edit ...func(*maintenance.Spec)) maintenance.Spec {
	spec := maintenance.Spec{Name: "shop", Match: maintenance.Match{Hosts: []string{"shop.example.com"}}}
	for _, e := range edit {
		e(&spec)
	}
	return spec
}

func window(id string, start, end time.Time) func(*maintenance.Spec) {
	return func(s *maintenance.Spec) {
		s.Windows = append(s.Windows, maintenance.Window{ID: id, Mode: maintenance.NoAccess, Message: "planned", Occurrences: []maintenance.Occurrence{{Start: start, End: end}}})
	}
}

func put(t *testing.T, k *Keeper, spec maintenance.Spec) {
	t.Helper()
	if _, err := k.PutSpec(t.Context(), alice, Always, spec); err != nil {
		t.Fatal(err)
	}
}

func on(t *testing.T, k *Keeper, app string, what ManualActivation) {
	t.Helper()
	if _, err := k.On(t.Context(), alice, Always, app, what); err != nil {
		t.Fatal(err)
	}
}

func off(t *testing.T, k *Keeper, app string) {
	t.Helper()
	if _, err := k.Off(t.Context(), alice, Always, app); err != nil {
		t.Fatal(err)
	}
}

// expectStatus compares a summary of an app: mode, phase and causes.
func expectStatus(t *testing.T, k *Keeper, app, want string) {
	t.Helper()
	st, err := k.Status(app)
	if err != nil {
		t.Fatal(err)
	}
	var causes []string
	for _, c := range st.Activations {
		causes = append(causes, fmt.Sprintf("%s:%s", c.Source, c.Mode))
	}
	if got := strings.TrimSpace(fmt.Sprintf("%s %s %s", st.Mode, st.Phase, strings.Join(causes, ","))); got != want {
		t.Fatalf("%s is %q, want %q", app, got, want)
	}
}

func auditLog(t *testing.T, k *Keeper) string {
	t.Helper()
	entries, err := k.Audit(t.Context(), "", 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range entries {
		lines = append(lines, fmt.Sprintf("%s %s %s", e.Actor.Name, e.Action, e.App))
	}
	return strings.Join(lines, "; ")
}

// A failing store is said, and changes nothing.
func TestStoreFails(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		if err := k.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		k.store.Close()
		was := k.Current()
		if _, err := k.On(t.Context(), alice, Always, "default", ManualActivation{Mode: maintenance.NoAccess}); !errors.Is(err, ErrStore) || k.Current() != was {
			t.Fatal(err)
		}
		if err := k.Probe(t.Context()); !errors.Is(err, ErrStore) {
			t.Fatal(err)
		}
	})
}
