package keeper

// This file holds the steps that every change of the state takes, and the conditions that callers
// may set for a change (HTTP's If-Match and If-None-Match).

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/drydock-proxy/drydock/controller/store"
)

// noAction is the action of an update whose edit changes nothing, or is not stored.
const noAction = ""

// update is the only way to a new state. It edits a draft of the current state, validates it,
// stores it with its audit entries by compare-and-swap, and publishes it. by and action are for the
// audit entries. edit may run more than once, each time with a new draft. An error of edit is
// returned as it is, and nothing is changed.
//
// update returns the state afterwards, which is the current one if nothing changed, and the changes
// that edit made, without those of the schedule.
func (k *Keeper) update(ctx context.Context, by Actor, action string, edit func(*draft) error) (*Snapshot, []Change, error) {
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
			// Something other than this keeper stored a state first: edit that one instead. With
			// [store.Bolt] this does not happen, since only one process has its file open.
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

// preview returns the current state, and the changes that [Keeper.update] would make with this
// edit. It makes none of them, and does not check that pages exist.
func (k *Keeper) preview(edit func(*draft) error) (*Snapshot, []Change, error) {
	k.mu.Lock()
	defer k.mu.Unlock()

	var nobody Actor // the audit entries of this proposal are not stored
	p, err := k.propose(nobody, noAction, edit)
	if err != nil {
		return nil, nil, err
	}
	if p == nil {
		return k.Current(), nil, nil
	}
	return k.Current(), p.changes, nil
}

// proposal is a new state that was validated and is not stored yet.
type proposal struct {
	draft   *draft
	after   *Snapshot // that the draft was compiled to
	changes []Change  // made by the edit
	entries []Entry   // for the audit log: changes, and those that the schedule made
}

// propose edits a draft of the current state, lets the schedule do what is due, and validates the
// draft. It returns a nil proposal and no error if neither has changed anything.
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

// logChange logs the audit entries of a proposal that was stored.
func (k *Keeper) logChange(p *proposal) {
	for _, e := range p.entries {
		k.log.Info("state changed", "action", e.Action, "app", e.App, "actor", e.Actor.Name, "role", e.Actor.Role,
			"remote", e.Actor.Remote, "epoch", e.Version.Epoch, "revision", e.Version.Revision)
	}
}

// Condition is what must hold for the resource that a change is about. Otherwise the change returns
// [ErrStale]. One of the fields is set. The zero Condition never holds.
type Condition struct {
	Absent bool     // the resource must not exist
	Any    bool     // the resource may have any content, or not exist
	ETags  []string // the resource must exist and have one of these ETags
}

// Always holds for every resource, whether it exists or not.
var Always = Condition{Any: true}

// check returns ErrStale if the condition does not hold for a resource. etag is called only if the
// resource exists and its ETag matters. The error continues a sentence that begins with the name of
// the resource.
func (c Condition) check(exists bool, etag func() string) error {
	if c.Absent {
		if exists {
			return fmt.Errorf("%w: it already exists", ErrStale)
		}
		return nil
	}
	if c.Any {
		return nil
	}

	if !exists {
		return fmt.Errorf("%w: it does not exist", ErrStale)
	}
	if current := etag(); !slices.Contains(c.ETags, current) {
		return fmt.Errorf("%w: its ETag is now %s", ErrStale, current)
	}
	return nil
}
