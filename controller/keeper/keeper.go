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
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drydock-proxy/drydock/controller/store"
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

// Current is the newest state.
func (k *Keeper) Current() *Snapshot { return k.current.Load() }

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

func storeError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrStore, err)
}
