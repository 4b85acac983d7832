package keeper

import (
	"context"
	"encoding/json"
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

// bubble runs a test with a keeper on fake time.
func bubble(t *testing.T, test func(t *testing.T, k *Keeper)) {
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

// expect compares a summary of an app: mode, phase and causes.
func expect(t *testing.T, k *Keeper, app, want string) {
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

func trail(t *testing.T, k *Keeper) string {
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

func TestOnOff(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
		expect(t, k, "default", "off off")
		first := k.Current()

		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly, Message: "migration"})
		expect(t, k, "default", "read-only pending manual:read-only")
		select {
		case <-first.Newer():
		default:
			t.Fatal("whoever waits for a newer state was not told")
		}
		since := k.Current().Apps()[0].Activations[0].Since
		after(time.Minute)

		// Other words: the same maintenance goes on.
		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly, Message: "still migrating", For: time.Hour})
		a := k.Current().Apps()[0].Activations[0]
		if a.Message != "still migrating" || !a.Since.Equal(since) || !a.Until.Equal(time.Now().Add(time.Hour)) {
			t.Fatalf("%+v", a)
		}
		// Another mode: another maintenance.
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, Message: "worse"})
		expect(t, k, "default", "no-access pending manual:no-access")
		if a := k.Current().Apps()[0].Activations[0]; !a.Since.Equal(time.Now()) || !a.Until.IsZero() {
			t.Fatalf("%+v", a)
		}
		st, _ := k.Status("default")
		if c := st.Activations[0]; c.Actor != "alice" || c.Remote != "192.0.2.7" {
			t.Fatalf("begun by %+v", c)
		}

		// What changes nothing leaves no trace.
		was, lines := k.Current(), trail(t, k)
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, Message: "worse"})
		if k.Current() != was || trail(t, k) != lines {
			t.Fatal("the same again made a revision or an audit record")
		}

		off(t, k, "default")
		expect(t, k, "default", "off off")
		was, lines = k.Current(), trail(t, k)
		off(t, k, "default")
		if k.Current() != was || trail(t, k) != lines {
			t.Fatal("off again made a revision or an audit record")
		}
		if want := "alice off default; alice on default; alice on default; alice on default"; lines != want {
			t.Fatalf("audit: %s", lines)
		}
		if v := k.Current().Version(); v.Revision != 4 || v.Epoch != uint64(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()) {
			t.Fatalf("version %+v", v)
		}
	})
}

func TestOnRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
		now := time.Now()
		put(t, k, shop(window("w", now, now.Add(time.Hour))))
		for _, c := range []struct {
			what  ManualActivation
			field string
		}{
			{ManualActivation{Mode: "off"}, "mode"},
			{ManualActivation{Mode: "closed"}, "mode"},
			{ManualActivation{Mode: maintenance.NoAccess, Until: now}, "until"},
			{ManualActivation{Mode: maintenance.NoAccess, Until: now.Add(-time.Hour)}, "until"},
			{ManualActivation{Mode: maintenance.NoAccess, For: -time.Hour}, "duration"},
			{ManualActivation{Mode: maintenance.NoAccess, For: time.Hour, Until: now.Add(time.Hour)}, "duration"},
			{ManualActivation{Mode: maintenance.NoAccess, Message: strings.Repeat("x", maintenance.MaxMessageBytes+1)}, "message"},
			{ManualActivation{Mode: maintenance.NoAccess, Message: "a\x00b"}, "message"},
		} {
			_, err := k.On(t.Context(), alice, Always, "shop", c.what)
			var fe *maintenance.FieldError
			if !errors.As(err, &fe) || fe.Field != c.field {
				t.Errorf("%+v: %v, want an error of field %s", c.what, err, c.field)
			}
		}
		if _, err := k.On(t.Context(), alice, Always, "nope", ManualActivation{Mode: maintenance.NoAccess}); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if v := k.Current().Version(); v.Revision != 1 {
			t.Errorf("what was refused made revision %d", v.Revision)
		}
	})
}

func TestManualEndsByItself(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, For: time.Hour})
		after(time.Hour - time.Second)
		expect(t, k, "default", "no-access pending manual:no-access")
		after(time.Second)
		expect(t, k, "default", "off off")
		if v := k.Current().Version(); v.Revision != 2 {
			t.Fatalf("revision %d: the end is to be published", v.Revision)
		}
		if got := trail(t, k); got != "schedule manual.end default; alice on default" {
			t.Fatal(got)
		}
	})
}

func TestWindow(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
		start := time.Now().Add(time.Hour)
		put(t, k, shop(window("sunday", start, start.Add(30*time.Minute))))
		expect(t, k, "shop", "off scheduled")
		after(time.Hour)
		expect(t, k, "shop", "no-access pending window:no-access")
		a, _ := k.Current().App("shop")
		if c := a.Activations[0]; c.ID != "sunday" || c.Message != "planned" || !c.Since.Equal(start) || !c.Until.Equal(start.Add(30*time.Minute)) {
			t.Fatalf("%+v", c)
		}
		// An edit in the middle keeps it, a moved end moves it.
		put(t, k, shop(window("sunday", start, start.Add(20*time.Minute))))
		expect(t, k, "shop", "no-access pending window:no-access")
		after(20 * time.Minute)
		expect(t, k, "shop", "off off")
		if got, want := trail(t, k), "schedule window.end shop; schedule window.change shop; alice app.put shop; schedule window.start shop; alice app.put shop"; got != want {
			t.Fatalf("audit: %s\nwant:  %s", got, want)
		}
	})
}

func TestOffEndsTheRunningOccurrence(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
		start := time.Now().Add(time.Minute).In(time.FixedZone("CET", 3600))
		spec := shop(window("w", start, start.Add(time.Hour)))
		spec.Windows[0].Occurrences = append(spec.Windows[0].Occurrences, maintenance.Occurrence{Start: start.Add(24 * time.Hour), End: start.Add(25 * time.Hour)})
		put(t, k, spec)
		after(10 * time.Minute)
		on(t, k, "shop", ManualActivation{Mode: maintenance.ReadOnly})
		expect(t, k, "shop", "no-access pending manual:read-only,window:no-access")

		off(t, k, "shop")
		expect(t, k, "shop", "off scheduled")
		// A proxy on its own clock must not open it either, whatever that clock says.
		if w := k.Current().Specs()[1].Windows[0]; len(w.Occurrences) != 1 || !w.Occurrences[0].Start.Equal(start.Add(24*time.Hour)) {
			t.Fatalf("%+v", w)
		}
		// Somebody applies the same list again: it stays ended.
		was := k.Current()
		put(t, k, spec)
		if k.Current() != was {
			t.Fatal("the same list again changed something")
		}
		after(24 * time.Hour)
		expect(t, k, "shop", "no-access pending window:no-access")
		// The last one may be ended too, and what follows goes on.
		off(t, k, "shop")
		on(t, k, "shop", ManualActivation{Mode: maintenance.ReadOnly})
		expect(t, k, "shop", "read-only pending manual:read-only")
	})
}

func TestOffIsRefusedWhileHeld(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
		_, err := k.change(t.Context(), Actor{Name: "file"}, "file.start", func(d *draft) error {
			a, _ := d.app("default")
			a.Activations = append(activations(a), maintenance.Activation{ID: "maintenance", Source: maintenance.SourceFile, Mode: maintenance.NoAccess, Since: d.now.UTC()})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		was := k.Current()
		_, err = k.Off(t.Context(), alice, Always, "default")
		var held *OtherSourceError
		if !errors.Is(err, ErrOtherSource) || !errors.As(err, &held) || held.Activations[0].Source != maintenance.SourceFile || !strings.Contains(err.Error(), "file maintenance") {
			t.Fatalf("%v, want one that names the file", err)
		}
		if k.Current() != was {
			t.Fatal("something was ended all the same")
		}
	})
}

// What was planned for a time without a controller has happened when it is back.
func TestCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		now := time.Now()
		put(t, k, shop(window("over", now.Add(time.Hour), now.Add(2*time.Hour)), window("running", now.Add(3*time.Hour), now.Add(9*time.Hour))))
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, For: 90 * time.Minute})
		stop()
		before := k.Current().Version()

		time.Sleep(4 * time.Hour)
		k, stop = open(t, dir)
		expect(t, k, "shop", "no-access pending window:no-access")
		expect(t, k, "default", "off off")
		if v := k.Current().Version(); v.Epoch != before.Epoch || v.Revision != before.Revision+1 {
			t.Fatalf("%+v, was %+v", v, before)
		}
		stop()
		version := k.Current().Version()
		k, stop = open(t, dir)
		defer stop()
		if v := k.Current().Version(); v != version {
			t.Fatalf("a restart alone made %+v of %+v", v, version)
		}
		after(5 * time.Hour)
		expect(t, k, "shop", "off off")
	})
}

func TestSpecs(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		put(t, k, shop())
		on(t, k, "shop", ManualActivation{Mode: maintenance.NoAccess})

		// Edits keep activations.
		put(t, k, shop(func(s *maintenance.Spec) { s.RetryAfter = 60 }))
		expect(t, k, "shop", "no-access pending manual:no-access")

		etag := ETag(shop(func(s *maintenance.Spec) { s.RetryAfter = 60 }))
		steps := []struct {
			name string
			on   Condition
			want error
		}{
			{"another etag", Condition{ETags: []string{`"x"`}}, ErrStale},
			{"must not exist", Condition{Absent: true}, ErrStale},
			{"one of several", Condition{ETags: []string{`"x"`, etag}}, nil},
			{"the etag of before", Condition{ETags: []string{etag}}, ErrStale},
		}
		for _, s := range steps {
			if _, err := k.PutSpec(ctx, alice, s.on, shop()); !errors.Is(err, s.want) {
				t.Errorf("%s: %v, want %v", s.name, err, s.want)
			}
		}
		if _, err := k.PutSpec(ctx, alice, Condition{ETags: []string{`"x"`}}, maintenance.Spec{Name: "new", Match: maintenance.Match{Paths: []string{"/new"}}}); !errors.Is(err, ErrStale) {
			t.Errorf("an etag of what is not there: %v", err)
		}

		if _, err := k.DeleteApp(ctx, alice, Always, "shop"); !errors.Is(err, ErrInMaintenance) {
			t.Errorf("deleting an app that is on: %v", err)
		}
		if _, _, err := k.PutAll(ctx, alice, Always, nil, false); !errors.Is(err, ErrInMaintenance) {
			t.Errorf("applying a set without an app that is on: %v", err)
		}
		off(t, k, "shop")
		if _, err := k.DeleteApp(ctx, alice, Always, "default"); !errors.Is(err, ErrDefaultApp) {
			t.Errorf("deleting the default app: %v", err)
		}
		if _, err := k.DeleteApp(ctx, alice, Always, "shop"); err != nil {
			t.Error(err)
		}
		if _, err := k.DeleteApp(ctx, alice, Always, "shop"); !errors.Is(err, ErrNotFound) {
			t.Errorf("deleting it again: %v", err)
		}
	})
}

func TestFieldErrorsAreTheCallers(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		put(t, k, maintenance.Spec{Name: "first", Match: maintenance.Match{Hosts: []string{"a.example.com"}}})
		check := func(err error, field string) {
			t.Helper()
			var fe *maintenance.FieldError
			if !errors.As(err, &fe) || fe.Field != field {
				t.Errorf("%v, want field %q", err, field)
			}
		}
		_, err := k.PutSpec(ctx, alice, Always, maintenance.Spec{Name: "second", Match: maintenance.Match{Hosts: []string{"a.example.com"}}})
		check(err, "match")
		_, err = k.PutSpec(ctx, alice, Always, shop(func(s *maintenance.Spec) { s.Pages = map[string]string{"en": strings.Repeat("0", 64)} }))
		check(err, "pages.en")
		_, _, err = k.PutAll(ctx, alice, Always, []maintenance.Spec{shop(), {Name: "x", Match: maintenance.Match{Hosts: []string{"shop.example.com"}}}}, false)
		check(err, "apps[1].match")
		_, err = k.Allow(ctx, alice, Always, "first", []string{"192.0.2.1", "192.0.2"})
		check(err, "ips[1]")
		if got := len(k.Current().Apps()); got != 2 {
			t.Errorf("%d apps", got)
		}
	})
}

func TestPutAll(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		put(t, k, maintenance.Spec{Name: "old", Match: maintenance.Match{Paths: []string{"/old"}}})
		put(t, k, maintenance.Spec{Name: "default", RetryAfter: 5})
		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
		set := []maintenance.Spec{shop(), {Name: "default", RetryAfter: 7, Bypass: maintenance.Bypass{IPs: []string{"192.0.2.1"}}}}

		etag := k.Current().SpecsETag()
		was := k.Current()
		_, changes, err := k.PutAll(ctx, alice, Condition{ETags: []string{etag}}, set, true)
		if err != nil || k.Current() != was {
			t.Fatal("a dry run failed or changed something: ", err)
		}
		var got []string
		for _, c := range changes {
			got = append(got, fmt.Sprintf("%s %s -> %s", c.App, c.Before, c.After))
		}
		want := []string{
			`default {"retry_after":5} -> {"bypass":{"ips":["192.0.2.1"]},"retry_after":7}`,
			`old {"match":{"paths":["/old"]},"name":"old"} -> `,
			`shop  -> {"match":{"hosts":["shop.example.com"]},"name":"shop"}`,
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("changes:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}

		s, _, err := k.PutAll(ctx, alice, Condition{ETags: []string{etag}}, set, false)
		if err != nil || s.Version().Revision != was.Version().Revision+1 {
			t.Fatal("one change, one revision: ", err, s.Version())
		}
		expect(t, k, "default", "read-only pending manual:read-only")
		if _, _, err := k.PutAll(ctx, alice, Condition{ETags: []string{etag}}, set, false); !errors.Is(err, ErrStale) {
			t.Fatalf("stale: %v", err)
		}
		// The same set in another order is the same set.
		was = k.Current()
		if _, _, err := k.PutAll(ctx, alice, Always, []maintenance.Spec{set[1], set[0]}, false); err != nil || k.Current() != was {
			t.Fatal("the order made a revision: ", err)
		}
	})
}

func TestAllow(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		ips := func() string {
			a, _ := k.Current().App("default")
			return strings.Join(AllowedIPs(a), " ")
		}
		for _, step := range []struct {
			do   func(context.Context, Actor, Condition, string, []string) (*Snapshot, error)
			ips  []string
			want string
			err  error
		}{
			{k.Allow, []string{"192.0.2.1", "10.0.0.0/8"}, "192.0.2.1 10.0.0.0/8", nil},
			{k.Allow, []string{"192.0.2.1/32", "::ffff:192.0.2.1", "2001:db8::/32"}, "192.0.2.1 10.0.0.0/8 2001:db8::/32", nil},
			{k.Disallow, []string{"10.1.2.3"}, "192.0.2.1 10.0.0.0/8 2001:db8::/32", ErrNotFound},
			{k.Disallow, []string{"2001:db8::/32", "203.0.113.1"}, "192.0.2.1 10.0.0.0/8 2001:db8::/32", ErrNotFound},
			{k.Disallow, []string{"192.0.2.1/32", "2001:DB8::/32"}, "10.0.0.0/8", nil},
		} {
			if _, err := step.do(ctx, alice, Always, "default", step.ips); !errors.Is(err, step.err) || ips() != step.want {
				t.Errorf("%v: %v, and now %q; want %v and %q", step.ips, err, ips(), step.err, step.want)
			}
		}
		_, err := k.Disallow(ctx, alice, Always, "default", []string{"10.1.2.3"})
		if err == nil || !strings.Contains(err.Error(), "its entry 10.0.0.0/8 covers it") {
			t.Errorf("%v must say that the address still passes", err)
		}
		entries, _ := k.Audit(ctx, "default", 0, 1)
		if e := entries[0]; e.Action != "disallow" || string(e.Before) != `{"bypass":{"ips":["192.0.2.1","2001:db8::/32"]}}` || e.After != nil {
			t.Errorf("audit: %s %s -> %s", e.Action, e.Before, e.After)
		}
	})
}

func TestAuditRecord(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
		put(t, k, shop())
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, Message: "why"})
		on(t, k, "shop", ManualActivation{Mode: maintenance.NoAccess})
		entries, err := k.Audit(t.Context(), "default", 0, 10)
		if err != nil || len(entries) != 1 {
			t.Fatal(entries, err)
		}
		data, _ := json.Marshal(entries[0])
		id := k.Current().Apps()[0].Activations[0].ID
		want := `{"seq":2,"time":"2000-01-01T00:00:00Z","actor":"alice","role":"operator","remote":"192.0.2.7","action":"on",` +
			`"version":{"epoch":946684800000,"revision":2},"app":"default",` +
			`"after":{"activations":[{"id":"` + id + `","message":"why","mode":"no-access","since":"2000-01-01T00:00:00Z","source":"manual"}]}}`
		if string(data) != want {
			t.Fatalf("%s\nwant %s", data, want)
		}
		if entries, err := k.Audit(t.Context(), "", 3, 1); err != nil || len(entries) != 1 || entries[0].Seq != 2 {
			t.Fatalf("%+v, %v", entries, err)
		}
	})
}

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		ctx := t.Context()
		if k.HasTokens() {
			t.Fatal("a new store has a token")
		}
		secret := NewSecret()
		op, err := k.CreateToken(ctx, Actor{Name: "bootstrap"}, "root", Operator, secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.CreateToken(ctx, alice, "dashboard", Viewer, "viewer-secret"); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name string
			role Role
		}{{"", Viewer}, {"two\nlines", Viewer}, {"x", "admin"}} {
			if _, err := k.CreateToken(ctx, alice, c.name, c.role, "x"); err == nil {
				t.Errorf("%+v was taken", c)
			}
		}
		stop()
		k, stop = open(t, dir)
		defer stop()
		if got, ok := k.Authenticate(secret); !ok || got != op {
			t.Fatalf("%+v, %v", got, ok)
		}
		viewer, ok := k.Authenticate("viewer-secret")
		if !ok || viewer.Role != Viewer || viewer.CreatedBy != "alice" {
			t.Fatalf("%+v", viewer)
		}
		if _, ok := k.Authenticate(""); ok {
			t.Fatal("no secret is one")
		}
		if err := k.RevokeToken(ctx, alice, op.ID); !errors.Is(err, ErrLastOperator) {
			t.Fatal(err)
		}
		if err := k.RevokeToken(ctx, alice, viewer.ID); err != nil {
			t.Fatal(err)
		}
		if _, ok := k.Authenticate("viewer-secret"); ok {
			t.Fatal("still good after being revoked")
		}
		if err := k.RevokeToken(ctx, alice, viewer.ID); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		rec, err := k.store.Get(ctx, recordTokens)
		if err != nil {
			t.Fatal(err)
		}
		entries, _ := k.Audit(ctx, "", 0, 10)
		for _, kept := range [][]byte{rec.Data, mustMarshal(entries)} {
			if strings.Contains(string(kept), secret) || strings.Contains(string(kept), "viewer-secret") {
				t.Fatalf("a secret is stored: %s", kept)
			}
		}
	})
}

func TestPages(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		sha, err := k.PutPage(ctx, alice, []byte("<h1>Back soon</h1>"))
		if err != nil {
			t.Fatal(err)
		}
		put(t, k, shop(func(s *maintenance.Spec) { s.Pages = map[string]string{"": sha} }))
		if html, err := k.Page(ctx, sha); err != nil || string(html) != "<h1>Back soon</h1>" {
			t.Fatal(html, err)
		}
		if _, err := k.Page(ctx, strings.Repeat("0", 64)); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		for name, html := range map[string]string{"empty": "", "too long": strings.Repeat("x", maintenance.MaxPageBytes+1), "no text": "\xff\xfe"} {
			if _, err := k.PutPage(ctx, alice, []byte(html)); err == nil {
				t.Errorf("%s was taken", name)
			}
		}
	})
}

// A failing store is said, and changes nothing.
func TestStoreFails(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper) {
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
