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

// open starts a keeper on the store in dir, as a controller does. The function that it returns
// stops the keeper and closes the store.
func open(t testing.TB, dir string) (k *Keeper, stop func()) {
	t.Helper()
	s, err := store.OpenBolt(filepath.Join(dir, "drydock.db"), time.Now())
	if err != nil {
		t.Fatal(err)
	}

	k, err = Open(t.Context(), Options{Store: s, Log: slog.New(slog.DiscardHandler)})
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

// withFakeTime runs a test with a keeper in a synctest bubble.
func withFakeTime(t *testing.T, test func(t *testing.T, k *Keeper)) {
	synctest.Test(t, func(t *testing.T) {
		k, stop := open(t, t.TempDir())
		defer stop()
		test(t, k)
	})
}

// advance lets fake time pass, and waits until the keeper has done what is due.
func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func shopSpec(edit ...func(*maintenance.Spec)) maintenance.Spec {
	spec := maintenance.Spec{Name: "shop", Match: maintenance.Match{Hosts: []string{"shop.example.com"}}}
	for _, e := range edit {
		e(&spec)
	}
	return spec
}

func withWindow(id string, start, end time.Time) func(*maintenance.Spec) {
	return func(s *maintenance.Spec) {
		s.Windows = append(s.Windows, maintenance.Window{
			ID: id, Mode: maintenance.NoAccess, Message: "planned",
			Occurrences: []maintenance.Occurrence{{Start: start, End: end}},
		})
	}
}

func put(t *testing.T, k *Keeper, spec maintenance.Spec) {
	t.Helper()
	if _, err := k.PutSpec(t.Context(), alice, Always, spec); err != nil {
		t.Fatal(err)
	}
}

func on(t *testing.T, k *Keeper, app string, want ManualActivation) {
	t.Helper()
	if _, err := k.On(t.Context(), alice, Always, app, want); err != nil {
		t.Fatal(err)
	}
}

func off(t *testing.T, k *Keeper, app string) {
	t.Helper()
	if _, err := k.Off(t.Context(), alice, Always, app); err != nil {
		t.Fatal(err)
	}
}

// expectStatus compares the mode and phase of an app, and the source and mode of its activations,
// such as "no-access pending manual:read-only,window:no-access".
func expectStatus(t *testing.T, k *Keeper, app, want string) {
	t.Helper()
	st, err := k.Status(app)
	if err != nil {
		t.Fatal(err)
	}

	var activations []string
	for _, act := range st.Activations {
		activations = append(activations, fmt.Sprintf("%s:%s", act.Source, act.Mode))
	}

	got := strings.TrimSpace(fmt.Sprintf("%s %s %s", st.Mode, st.Phase, strings.Join(activations, ",")))
	if got != want {
		t.Fatalf("%s is %q, want %q", app, got, want)
	}
}

// expectFieldError checks that an error is a FieldError of that field.
func expectFieldError(t *testing.T, err error, field string) {
	t.Helper()
	var fe *maintenance.FieldError
	if !errors.As(err, &fe) || fe.Field != field {
		t.Errorf("%v, want an error of field %q", err, field)
	}
}

// auditLog returns the actor, action and app of each entry, newest first.
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

func TestFailedStoreChangesNothing(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		if err := k.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}

		k.store.Close()
		before := k.Current()

		_, err := k.On(t.Context(), alice, Always, "default", ManualActivation{Mode: maintenance.NoAccess})
		if !errors.Is(err, ErrStore) || k.Current() != before {
			t.Fatalf("%v, want ErrStore and no new state", err)
		}
		if err := k.Probe(t.Context()); !errors.Is(err, ErrStore) {
			t.Fatal(err)
		}
	})
}
