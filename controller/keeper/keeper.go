// Package keeper decides which app is in which mode, why and until when, and knows which proxies
// enforce it. It is the only writer of the state.
//
// A [Keeper] publishes each version of the state as a [Snapshot] (snapshot.go). Every change of the
// state takes the same steps (change.go): it is made on a draft (draft.go), validated by the code
// that the proxies run, stored by compare-and-swap together with its audit entries, and published.
// A change that changes nothing leaves no trace.
//
// The changes themselves are in apps.go (what operators configure), activations.go (on and off),
// allowlist.go and schedule.go (what happens at a planned time). Pages (pages.go) and API tokens
// (tokens.go) are stored apart from the state. The audit log is read in audit.go; its entries hold
// only what differs (diff.go).
//
// Methods that change something take an [Actor], the author of the change for the audit log, and
// most of them a [Condition], such as the ETag that the caller has read.
//
// Proxies report which version they enforce (proxies.go). What they all enforce together
// (enforcement.go) decides what the status of an app says (status.go).
package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drydock-proxy/drydock/controller/store"
)

var (
	// ErrNotFound is returned for an app, page, token or proxy that does not exist.
	ErrNotFound = errors.New("not found")
	// ErrStale is returned if a resource does not meet the [Condition] of a change.
	ErrStale = errors.New("changed since it was read")
	// ErrOtherSource is returned by [Keeper.Off] for an app with an activation that only its
	// source can end. The error is an [*OtherSourceError].
	ErrOtherSource = errors.New("kept in maintenance by another source")
	// ErrInMaintenance is returned if an app that is on would be deleted.
	ErrInMaintenance = errors.New("in maintenance")
	// ErrDefaultApp is returned if the default app would be deleted.
	ErrDefaultApp = errors.New("the default app cannot be deleted")
	// ErrLastOperator is returned if the last operator token would be revoked: without it, no
	// change would be possible, not even creating a token.
	ErrLastOperator = errors.New("the last operator token")
	// ErrStore is returned if the store failed. The keeper has changed nothing, but the store may
	// have written the change before it failed.
	ErrStore = errors.New("the store failed")
)

// Names of records in the store.
const (
	recordState   = "state"
	recordTokens  = "tokens"
	recordProxies = "proxies"
)

// Keeper holds the state and is the only writer of it. Its methods are safe for concurrent use.
type Keeper struct {
	store *store.Bolt
	now   func() time.Time
	log   *slog.Logger

	mu      sync.Mutex               // held during a change of the state
	current atomic.Pointer[Snapshot] // read without mu

	tokensMu sync.Mutex               // held during a change of the tokens
	tokens   atomic.Pointer[tokenSet] // read without tokensMu

	proxies registry     // what proxies have reported
	started time.Time    // when the keeper was opened
	lastRun atomic.Int64 // when Run last began a round, in Unix nanoseconds
}

// Options are the arguments of [Open]. Store is required. The caller closes it after [Keeper.Run]
// has returned.
type Options struct {
	Store *store.Bolt
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: slog.Default
}

// Open reads the store, and makes the changes that came due while no controller ran. [Keeper.Run]
// makes those that come later.
func Open(ctx context.Context, o Options) (*Keeper, error) {
	k := &Keeper{store: o.Store, now: o.Now, log: cmp.Or(o.Log, slog.Default())}
	if k.now == nil {
		k.now = time.Now
	}
	k.started = k.now()
	k.lastRun.Store(k.started.UnixNano())

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

// Current returns the newest state.
func (k *Keeper) Current() *Snapshot { return k.current.Load() }

// Probe returns an error if the keeper does not work: if the store takes no writes, or if
// [Keeper.Run] has missed several rounds.
func (k *Keeper) Probe(ctx context.Context) error {
	if err := k.store.Probe(ctx); err != nil {
		return storeError(ctx, err)
	}

	// Run sleeps at most maxSleep between two rounds.
	if age := k.now().Sub(time.Unix(0, k.lastRun.Load())); age > 3*maxSleep {
		return fmt.Errorf("the schedule has not run for %s", age.Round(time.Second))
	}
	return nil
}

// storeError wraps an error of the store, so that it is also an ErrStore. If ctx is done, it
// returns the error as it is: then the caller gave up, and the store need not have failed.
func storeError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrStore, err)
}
