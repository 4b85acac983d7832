package keeper

// This file has what the tests of this package share: a keeper on a real store and with a fake
// clock, short ways to change its state, and checks that compare a status or the audit log with one
// line of text.

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

// alice makes the changes in the tests.
var alice = Actor{Name: "alice", Role: Operator, Remote: "192.0.2.7"}

// changeNow and dryRun are the last argument of [Keeper.PutAll].
const (
	changeNow = false
	dryRun    = true
)

// open starts a keeper on the store in dir, as a controller does. With the same dir it opens the
// same store again. stop stops the keeper and closes the store.
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

// withFakeTime runs a test with a keeper on a new store, whose state has only the default app. It
// runs in a bubble of [synctest], where time starts at 2000-01-01T00:00:00Z and passes only while
// all goroutines wait.
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

// shopSpec returns the spec of an app named shop, after the edits.
func shopSpec(edit ...func(*maintenance.Spec)) maintenance.Spec {
	spec := maintenance.Spec{Name: "shop", Match: maintenance.Match{Hosts: []string{"shop.example.com"}}}
	for _, e := range edit {
		e(&spec)
	}
	return spec
}

// withWindow is an edit for shopSpec. It adds a window with one occurrence, the mode no-access and
// the message "planned".
func withWindow(id string, start, end time.Time) func(*maintenance.Spec) {
	return func(s *maintenance.Spec) {
		s.Windows = append(s.Windows, maintenance.Window{
			ID: id, Mode: maintenance.NoAccess, Message: "planned",
			Occurrences: []maintenance.Occurrence{{Start: start, End: end}},
		})
	}
}

// mustPut creates an app or replaces its spec.
func mustPut(t *testing.T, k *Keeper, spec maintenance.Spec) {
	t.Helper()
	if _, err := k.PutSpec(t.Context(), alice, Always, spec); err != nil {
		t.Fatal(err)
	}
}

// mustTurnOn puts an app into a mode.
func mustTurnOn(t *testing.T, k *Keeper, app string, want ManualActivation) {
	t.Helper()
	if _, err := k.On(t.Context(), alice, Always, app, want); err != nil {
		t.Fatal(err)
	}
}

// mustTurnOff ends the maintenance of an app.
func mustTurnOff(t *testing.T, k *Keeper, app string) {
	t.Helper()
	if _, err := k.Off(t.Context(), alice, Always, app); err != nil {
		t.Fatal(err)
	}
}

// expectStatus compares the status of an app with "MODE PHASE ACTIVATIONS". For each activation
// there is SOURCE:MODE, as in "no-access pending manual:read-only,window:no-access". As no proxy
// reports in most tests, the phase of an app that is on is pending, not active.
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

// anyApp and fromNewest are arguments of [Keeper.Audit].
const (
	anyApp     = ""
	fromNewest = 0
)

// expectFieldError checks that an error is a [maintenance.FieldError] of that field.
func expectFieldError(t *testing.T, err error, field string) {
	t.Helper()
	var fe *maintenance.FieldError
	if !errors.As(err, &fe) || fe.Field != field {
		t.Errorf("%v, want an error of field %q", err, field)
	}
}

// auditLog returns "ACTOR ACTION APP" for each entry of the audit log, newest first, as in
// "alice off default; alice on default".
func auditLog(t *testing.T, k *Keeper) string {
	t.Helper()
	entries, err := k.Audit(t.Context(), anyApp, fromNewest, 1000)
	if err != nil {
		t.Fatal(err)
	}

	var lines []string
	for _, e := range entries {
		lines = append(lines, fmt.Sprintf("%s %s %s", e.Actor.Name, e.Action, e.App))
	}
	return strings.Join(lines, "; ")
}

// expectAuditLog fails the test unless [auditLog] returns want.
func expectAuditLog(t *testing.T, k *Keeper, want string) {
	t.Helper()
	if got := auditLog(t, k); got != want {
		t.Fatalf("audit: %s\nwant:  %s", got, want)
	}
}

func TestFailedStoreChangesNothing(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		if err := k.Probe(t.Context()); err != nil {
			t.Fatalf("probe before the failure: %v", err)
		}

		k.store.Close() // from now on, every write fails
		before := k.Current()

		_, err := k.On(t.Context(), alice, Always, "default", ManualActivation{Mode: maintenance.NoAccess})
		if !errors.Is(err, ErrStore) || k.Current() != before {
			t.Fatalf("%v, want ErrStore and no new state", err)
		}
		if err := k.Probe(t.Context()); !errors.Is(err, ErrStore) {
			t.Fatalf("probe after the failure: %v, want ErrStore", err)
		}
	})
}
