// Package keeper holds the truth: which app is in which mode, why, since when and
// until when, and which proxies enforce it. It is the only writer of the state.
//
// Every change takes one path: it is made on a copy, read back by the code that the
// proxies read it with, written by compare-and-swap together with its audit record,
// and then published. A change that changes nothing leaves no trace.
package keeper

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

var (
	// ErrNotFound: there is no such app, page, token or proxy.
	ErrNotFound = errors.New("not found")
	// ErrStale: the resource is not, or no longer, what the change was made from.
	ErrStale = errors.New("changed since it was read")
	// ErrOtherSource: something that only its own source can end holds the app in maintenance.
	ErrOtherSource = errors.New("kept in maintenance by another source")
	// ErrInMaintenance: an app that is on cannot be deleted.
	ErrInMaintenance = errors.New("in maintenance")
	// ErrDefaultApp: the default app always exists.
	ErrDefaultApp = errors.New("the default app cannot be deleted")
	// ErrLastOperator: without it nobody could change anything any more.
	ErrLastOperator = errors.New("the last operator token")
	// ErrStore: the store failed. Nothing was changed, as far as this controller knows.
	ErrStore = errors.New("the store failed")
)

// Names of records in the store.
const (
	recordState   = "state"
	recordTokens  = "tokens"
	recordProxies = "proxies"
)

// Keeper is the only writer of the state. Its methods may be called from several
// goroutines.
type Keeper struct {
	store *store.Bolt
	now   func() time.Time
	log   *slog.Logger

	mu      sync.Mutex // held while changing
	current atomic.Pointer[Snapshot]

	tokensMu sync.Mutex // held while changing tokens
	tokens   atomic.Pointer[tokenSet]

	proxies registry
	started time.Time
	beat    atomic.Int64 // when the schedule last looked at the clock, Unix ns
}

// Options of a Keeper. Store is required.
type Options struct {
	Store *store.Bolt
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: slog.Default
}

// Open reads the store and catches up with what was planned for the time when no
// controller ran. [Keeper.Run] keeps up from then on.
func Open(ctx context.Context, o Options) (*Keeper, error) {
	k := &Keeper{store: o.Store, now: o.Now, log: o.Log}
	if k.now == nil {
		k.now = time.Now
	}
	k.log = cmp.Or(k.log, slog.Default())
	k.started = k.now()
	k.beat.Store(k.started.UnixNano())
	if err := k.reload(ctx); err != nil {
		return nil, err
	}
	if err := k.loadTokens(ctx); err != nil {
		return nil, err
	}
	if err := k.loadProxies(ctx); err != nil {
		return nil, err
	}
	return k, k.catchUp(ctx)
}

// Snapshot is the state at one version. It never changes.
type Snapshot struct {
	State *maintenance.State
	// Document is the state as proxies get it: marshalled once, whoever asks.
	Document []byte

	newer    chan struct{}
	revision uint64 // of the store's record
	side     side
	// gates and changes hold for each app the version that must be enforced before its
	// mode, or everything about it, is in force.
	gates, changes map[string]maintenance.Version
	setETag        func() string
}

// side is what is kept beside the document, and is nobody's business but the controller's.
type side struct {
	// Causes tells who began an activation, by app and activation id.
	Causes map[string]Actor `json:"causes,omitempty"`
	// Ended are occurrences of windows that off ended. They stay away when the same
	// app is applied again.
	Ended []ended `json:"ended,omitempty"`
}

type ended struct {
	App    string                 `json:"app"`
	Window string                 `json:"window"`
	Was    maintenance.Occurrence `json:"was"`
}

func causeKey(app, activation string) string { return app + "/" + activation }

// record is the state as stored.
type record struct {
	Document json.RawMessage `json:"document"`
	side
}

// Current is the newest state.
func (k *Keeper) Current() *Snapshot { return k.current.Load() }

// Newer is closed as soon as there is a newer state.
func (s *Snapshot) Newer() <-chan struct{} { return s.newer }

// Version of the state.
func (s *Snapshot) Version() maintenance.Version { return s.State.Version() }

// Apps are all of them. They must not be changed.
func (s *Snapshot) Apps() []maintenance.App { return s.State.Document().Apps }

// App finds an app by its name.
func (s *Snapshot) App(name string) (*maintenance.App, error) {
	apps := s.Apps()
	if i := indexOf(apps, name); i >= 0 {
		return &apps[i], nil
	}
	return nil, noApp(name)
}

func indexOf(apps []maintenance.App, name string) int {
	return slices.IndexFunc(apps, func(a maintenance.App) bool { return a.Name == name })
}

func noApp(name string) error { return fmt.Errorf("app %q: %w", name, ErrNotFound) }

// ETag is that of any resource: a digest of its JSON.
func ETag(resource any) string {
	data, err := json.Marshal(resource)
	if err != nil {
		panic(err) // resources are our own types
	}
	return digest(data)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:15]) + `"`
}

// SpecsETag is that of all apps' specs together.
func (s *Snapshot) SpecsETag() string { return s.setETag() }

// Specs are what operators wrote, of all apps.
func (s *Snapshot) Specs() []maintenance.Spec {
	apps := s.Apps()
	specs := make([]maintenance.Spec, len(apps))
	for i := range apps {
		specs[i] = apps[i].Spec
	}
	return specs
}

// Condition is what a change asks of the resource that it changes.
type Condition struct {
	Absent bool     // it must not exist
	Any    bool     // it may be anything
	ETags  []string // it must be one of these
}

// Always is the condition of a change that does not look.
var Always = Condition{Any: true}

func (c Condition) check(exists bool, etag func() string) error {
	switch {
	case c.Absent && exists:
		return fmt.Errorf("%w: it already exists", ErrStale)
	case c.Absent || c.Any:
		return nil
	case !exists:
		return fmt.Errorf("%w: it does not exist", ErrStale)
	case !slices.Contains(c.ETags, etag()):
		return fmt.Errorf("%w: its ETag is now %s", ErrStale, etag())
	}
	return nil
}

// draft is the state while it is being changed. Slices and maps are shared with the
// snapshot it was made from: replace them, never write into them.
type draft struct {
	now    time.Time
	before *Snapshot
	doc    maintenance.Document
	side   side
	field  string // prefix that the caller does not know of, in an error's field
}

func (d *draft) app(name string) (*maintenance.App, error) {
	if i := indexOf(d.doc.Apps, name); i >= 0 {
		return &d.doc.Apps[i], nil
	}
	return nil, noApp(name)
}

// at makes errors relative to a part of an app: "apps[3].activations[0]".
func (d *draft) at(app, part string) {
	d.field = fmt.Sprintf("apps[%d]", indexOf(d.doc.Apps, app))
	if part != "" {
		d.field += "." + part
	}
}

// change is the one way to a new state.
func (k *Keeper) change(ctx context.Context, by Actor, action string, edit func(*draft) error) (*Snapshot, error) {
	s, _, err := k.propose(ctx, by, action, false, edit)
	return s, err
}

func (k *Keeper) propose(ctx context.Context, by Actor, action string, dryRun bool, edit func(*draft) error) (*Snapshot, []Change, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		before := k.Current()
		d := &draft{now: k.now(), before: before, doc: before.State.Document(), side: before.side}
		d.doc.Apps = slices.Clone(d.doc.Apps)
		if err := edit(d); err != nil {
			return nil, nil, err
		}
		changes := compare(before.Apps(), d.doc.Apps)
		log := make([]Entry, 0, len(changes))
		for _, c := range changes {
			log = append(log, Entry{Time: d.now, Actor: by, Action: action, Change: c})
		}
		log = append(log, d.reconcile()...)
		if len(log) == 0 {
			return before, nil, nil
		}
		after, err := d.compile()
		if err != nil {
			return nil, nil, d.relative(err)
		}
		if dryRun {
			return before, changes, nil
		}
		if err := k.pagesExist(ctx, d, changes); err != nil {
			return nil, nil, d.relative(err)
		}
		data, err := json.Marshal(record{Document: after.Document, side: after.side})
		if err != nil {
			return nil, nil, fmt.Errorf("encoding the state: %w", err)
		}
		lines := make([][]byte, len(log))
		for i := range log {
			log[i].Version = after.Version()
			if lines[i], err = json.Marshal(log[i]); err != nil {
				return nil, nil, fmt.Errorf("encoding the audit log: %w", err)
			}
		}
		err = k.store.Swap(ctx, recordState, before.revision, data, lines...)
		if errors.Is(err, store.ErrConflict) {
			if err := k.reload(ctx); err != nil {
				return nil, nil, err
			}
			continue
		}
		if err != nil {
			return nil, nil, storeError(ctx, err)
		}
		k.publish(before, after)
		for _, e := range log {
			k.log.Info("state changed", "action", e.Action, "app", e.App, "actor", e.Actor.Name, "role", e.Actor.Role,
				"remote", e.Actor.Remote, "epoch", e.Version.Epoch, "revision", e.Version.Revision)
		}
		return after, changes, nil
	}
}

func storeError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrStore, err)
}

// compile makes the draft a snapshot. The document is read back as the proxies will
// read it, so that what they would refuse cannot be published.
func (d *draft) compile() (*Snapshot, error) {
	d.doc.Revision = d.before.revision + 1
	data, err := json.Marshal(d.doc)
	if err != nil {
		return nil, fmt.Errorf("encoding the state: %w", err)
	}
	s, err := newSnapshot(data, d.side, d.before.revision+1)
	if err != nil {
		return nil, err
	}
	s.gates, s.changes = maps.Clone(d.before.gates), maps.Clone(d.before.changes)
	old := make(map[string]*maintenance.App, len(d.before.Apps()))
	for i, apps := 0, d.before.Apps(); i < len(apps); i++ {
		old[apps[i].Name] = &apps[i]
	}
	for i, apps := 0, s.Apps(); i < len(apps); i++ {
		a := &apps[i]
		was := old[a.Name]
		if was == nil || !same(*was, *a) {
			s.changes[a.Name] = s.Version()
		}
		if was == nil || mode(was, d.now) != mode(a, d.now) || !same(was.Match, a.Match) {
			s.gates[a.Name] = s.Version()
		}
		delete(old, a.Name)
	}
	for name := range old {
		delete(s.gates, name)
		delete(s.changes, name)
	}
	return s, nil
}

func newSnapshot(document []byte, beside side, revision uint64) (*Snapshot, error) {
	state, err := maintenance.Parse(document)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{State: state, Document: document, newer: make(chan struct{}), revision: revision, side: beside}
	s.setETag = sync.OnceValue(func() string { return ETag(s.Specs()) })
	return s, nil
}

// relative makes the field of an error one of the caller's own input.
func (d *draft) relative(err error) error {
	var fe *maintenance.FieldError
	if d.field == "" || !errors.As(err, &fe) {
		return err
	}
	if rest, ok := strings.CutPrefix(fe.Field, d.field+"."); ok {
		return &maintenance.FieldError{Field: rest, Problem: fe.Problem}
	}
	return err
}

// reload takes the state from the store.
func (k *Keeper) reload(ctx context.Context) error {
	stored, err := k.store.Get(ctx, recordState)
	if err != nil {
		return storeError(ctx, err)
	}
	var rec record
	if stored.Revision > 0 {
		if err := json.Unmarshal(stored.Data, &rec); err != nil {
			return fmt.Errorf("reading the stored state: %w", err)
		}
	} else {
		rec.Document, err = json.Marshal(maintenance.Document{
			Version: maintenance.Version{Epoch: k.store.Epoch()},
			Apps:    []maintenance.App{{Spec: maintenance.Spec{Name: maintenance.DefaultApp}}},
		})
		if err != nil {
			return err
		}
	}
	s, err := newSnapshot(rec.Document, rec.side, stored.Revision)
	if err != nil {
		return fmt.Errorf("reading the stored state: %w", err)
	}
	// What was acknowledged before this controller's time is not known: all of it has
	// to be enforced anew.
	s.gates, s.changes = map[string]maintenance.Version{}, map[string]maintenance.Version{}
	for _, a := range s.Apps() {
		s.gates[a.Name], s.changes[a.Name] = s.Version(), s.Version()
	}
	k.publish(k.Current(), s)
	return nil
}

func (k *Keeper) publish(before, after *Snapshot) {
	k.current.Store(after)
	if before != nil {
		close(before.newer)
	}
}

// Probe tells whether changes can be made: the store takes writes and the schedule runs.
func (k *Keeper) Probe(ctx context.Context) error {
	if err := k.store.Probe(ctx); err != nil {
		return storeError(ctx, err)
	}
	if age := k.now().Sub(time.Unix(0, k.beat.Load())); age > 3*maxSleep {
		return fmt.Errorf("the schedule has not run for %s", age.Round(time.Second))
	}
	return nil
}
