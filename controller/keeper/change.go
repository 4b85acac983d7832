package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/drydock-proxy/drydock/controller/store"
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
