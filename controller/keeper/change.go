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

// change is the only way to a new state. It edits a draft of the current state, validates it,
// stores it with its audit entries by compare-and-swap, and publishes it. It returns the state
// after the change, which is the current one if edit changes nothing.
func (k *Keeper) change(ctx context.Context, by Actor, action string, edit func(*draft) error) (*Snapshot, []Change, error) {
	k.mu.Lock()
	defer k.mu.Unlock()

	for {
		p, err := k.propose(by, action, edit)
		if err != nil {
			return nil, nil, err
		}
		if p == nil {
			return k.Current(), nil, nil
		}
		if err := k.checkPages(ctx, p); err != nil {
			return nil, nil, err
		}

		err = k.commit(ctx, p)
		if errors.Is(err, store.ErrConflict) {
			// Another controller stored a change first: edit its state instead.
			if err := k.reload(ctx); err != nil {
				return nil, nil, err
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}

		k.publish(p.after)
		k.logChange(p)
		return p.after, p.changes, nil
	}
}

// preview returns the current state and the changes that [Keeper.change] would make of it, and
// makes none of them. It does not check that pages exist.
func (k *Keeper) preview(edit func(*draft) error) (*Snapshot, []Change, error) {
	k.mu.Lock()
	defer k.mu.Unlock()

	p, err := k.propose(Actor{}, "", edit)
	if err != nil {
		return nil, nil, err
	}
	if p == nil {
		return k.Current(), nil, nil
	}
	return k.Current(), p.changes, nil
}

// proposal is a change that was validated and is not stored yet.
type proposal struct {
	draft   *draft
	after   *Snapshot
	changes []Change // made by the edit
	entries []Entry  // for the audit log: these changes, and those that the schedule made
}

// propose edits a draft of the current state and validates it. It returns nil if the edit changes
// nothing and the schedule has nothing to do.
func (k *Keeper) propose(by Actor, action string, edit func(*draft) error) (*proposal, error) {
	d := newDraft(k.Current(), k.now())
	if err := edit(d); err != nil {
		return nil, err
	}

	p := &proposal{draft: d, changes: diffApps(d.before.Apps(), d.doc.Apps)}
	for _, c := range p.changes {
		p.entries = append(p.entries, Entry{Time: d.now, Actor: by, Action: action, Change: c})
	}
	p.entries = append(p.entries, d.followSchedule()...)
	if len(p.entries) == 0 {
		return nil, nil
	}

	after, err := d.compile()
	if err != nil {
		return nil, d.relativeError(err)
	}

	p.after = after
	for i := range p.entries {
		p.entries[i].Version = after.Version()
	}
	return p, nil
}

// commit stores a proposal with its audit entries. It returns [store.ErrConflict] if the stored
// state is not the one that the proposal was made from.
func (k *Keeper) commit(ctx context.Context, p *proposal) error {
	data, err := json.Marshal(record{Document: p.after.Document, privateState: p.after.private})
	if err != nil {
		return fmt.Errorf("encoding the state: %w", err)
	}

	lines := make([][]byte, len(p.entries))
	for i, e := range p.entries {
		if lines[i], err = json.Marshal(e); err != nil {
			return fmt.Errorf("encoding the audit log: %w", err)
		}
	}

	err = k.store.Swap(ctx, recordState, p.draft.before.revision, data, lines...)
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return storeError(ctx, err)
	}
	return err
}

// publish makes a snapshot the current one, and closes the Newer channel of the one before. The
// caller holds k.mu.
func (k *Keeper) publish(s *Snapshot) {
	if before := k.current.Swap(s); before != nil {
		close(before.newer)
	}
}

func (k *Keeper) logChange(p *proposal) {
	for _, e := range p.entries {
		k.log.Info("state changed", "action", e.Action, "app", e.App, "actor", e.Actor.Name, "role", e.Actor.Role,
			"remote", e.Actor.Remote, "epoch", e.Version.Epoch, "revision", e.Version.Revision)
	}
}

// reload publishes the stored state. The caller holds k.mu, or is [Open].
func (k *Keeper) reload(ctx context.Context) error {
	rec, revision, err := k.readState(ctx)
	if err != nil {
		return err
	}

	s, err := newSnapshot(rec.Document, rec.privateState, revision)
	if err != nil {
		return fmt.Errorf("reading the stored state: %w", err)
	}

	// It is not stored in which version an app last changed. Assume this one: then no proxy counts
	// as enforcing an app before it has adopted this version.
	s.gateVersions, s.appVersions = map[string]maintenance.Version{}, map[string]maintenance.Version{}
	for _, a := range s.Apps() {
		s.gateVersions[a.Name], s.appVersions[a.Name] = s.Version(), s.Version()
	}
	k.publish(s)
	return nil
}

// readState returns the stored state and its revision. In a new store it is revision 0, with only
// the default app.
func (k *Keeper) readState(ctx context.Context) (rec record, revision uint64, err error) {
	stored, err := k.store.Get(ctx, recordState)
	if err != nil {
		return rec, 0, storeError(ctx, err)
	}

	if stored.Revision == 0 {
		rec.Document = mustMarshal(maintenance.Document{
			Version: maintenance.Version{Epoch: k.store.Epoch()},
			Apps:    []maintenance.App{{Spec: maintenance.Spec{Name: maintenance.DefaultApp}}},
		})
		return rec, 0, nil
	}
	if err := json.Unmarshal(stored.Data, &rec); err != nil {
		return rec, 0, fmt.Errorf("reading the stored state: %w", err)
	}
	return rec, stored.Revision, nil
}

// adoptStored publishes the stored state if it is newer than the current one, because another
// controller stored it.
func (k *Keeper) adoptStored(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()

	stored, err := k.store.Get(ctx, recordState)
	if err != nil || stored.Revision <= k.Current().revision {
		return err
	}
	return k.reload(ctx)
}

// draft is the state while a change edits it. It shares slices and maps with the snapshot that it
// was made from: replace them, never write into them.
type draft struct {
	now     time.Time
	before  *Snapshot
	doc     maintenance.Document
	private privateState

	// input is the path in the document of what the caller gave, such as apps[3].bypass. Paths in
	// errors are made relative to it.
	input string
}

func newDraft(before *Snapshot, now time.Time) *draft {
	d := &draft{now: now, before: before, doc: before.State.Document(), private: before.private}
	d.doc.Apps = slices.Clone(d.doc.Apps)
	return d
}

// app returns the app of that name for editing, or ErrNotFound.
func (d *draft) app(name string) (*maintenance.App, error) {
	return findApp(d.doc.Apps, name)
}

// setInput sets input to the path of an app, or of a part of it such as activations[0].
func (d *draft) setInput(app, part string) {
	d.input = fmt.Sprintf("apps[%d]", indexOf(d.doc.Apps, app))
	if part != "" {
		d.input += "." + part
	}
}

// relativeError makes the path in a FieldError relative to what the caller gave, since the caller
// does not know the rest of the document.
func (d *draft) relativeError(err error) error {
	var fe *maintenance.FieldError
	if d.input == "" || !errors.As(err, &fe) {
		return err
	}

	if rest, ok := strings.CutPrefix(fe.Field, d.input+"."); ok {
		return &maintenance.FieldError{Field: rest, Problem: fe.Problem}
	}
	return err
}

// compile makes the draft a snapshot of the next revision. It reads the document back as the
// proxies read it, so that a state that they would refuse cannot be published.
func (d *draft) compile() (*Snapshot, error) {
	d.doc.Revision = d.before.revision + 1
	data, err := json.Marshal(d.doc)
	if err != nil {
		return nil, fmt.Errorf("encoding the state: %w", err)
	}

	s, err := newSnapshot(data, d.private, d.doc.Revision)
	if err != nil {
		return nil, err
	}

	d.setVersions(s)
	return s, nil
}

// setVersions sets the versions of each app in the snapshot: the new one for what changed, and
// those of the snapshot before for what did not.
func (d *draft) setVersions(s *Snapshot) {
	removed := make(map[string]*maintenance.App, len(d.before.Apps()))
	for i, apps := 0, d.before.Apps(); i < len(apps); i++ {
		removed[apps[i].Name] = &apps[i]
	}

	s.gateVersions, s.appVersions = maps.Clone(d.before.gateVersions), maps.Clone(d.before.appVersions)
	for i, apps := 0, s.Apps(); i < len(apps); i++ {
		a := &apps[i]
		was := removed[a.Name]
		delete(removed, a.Name)

		if was == nil || !equalJSON(*was, *a) {
			s.appVersions[a.Name] = s.Version()
		}
		if was == nil || mode(was, d.now) != mode(a, d.now) || !equalJSON(was.Match, a.Match) {
			s.gateVersions[a.Name] = s.Version()
		}
	}

	for name := range removed {
		delete(s.gateVersions, name)
		delete(s.appVersions, name)
	}
}

// mode returns the strictest mode of the activations of an app that have not ended.
func mode(a *maintenance.App, now time.Time) maintenance.Mode {
	strictest := maintenance.Off
	for _, act := range a.Activations {
		ended := !act.Until.IsZero() && !now.Before(act.Until)
		if !ended && act.Mode.Compare(strictest) > 0 {
			strictest = act.Mode
		}
	}
	return strictest
}

// Condition is what must hold for the resource that a change is about. Otherwise the change returns
// [ErrStale].
type Condition struct {
	Absent bool     // the resource must not exist
	Any    bool     // the resource may have any content, or not exist
	ETags  []string // the resource must exist and have one of these ETags
}

// Always holds for every resource, whether it exists or not.
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
