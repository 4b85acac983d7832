package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

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

// mode is the strictest that an app's activations ask for.
func mode(a *maintenance.App, now time.Time) maintenance.Mode {
	strictest := maintenance.Off
	for _, c := range a.Activations {
		if !c.Until.IsZero() && !now.Before(c.Until) {
			continue
		}
		if c.Mode == maintenance.NoAccess || strictest == maintenance.Off {
			strictest = c.Mode
		}
	}
	return strictest
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

func (k *Keeper) publish(before, after *Snapshot) {
	k.current.Store(after)
	if before != nil {
		close(before.newer)
	}
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

// follow takes over what another controller wrote.
func (k *Keeper) follow(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	stored, err := k.store.Get(ctx, recordState)
	if err != nil || stored.Revision <= k.Current().revision {
		return err
	}
	return k.reload(ctx)
}
