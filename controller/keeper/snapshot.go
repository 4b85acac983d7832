package keeper

// This file holds the finished states. Each version of the state is a Snapshot. [Keeper.Current]
// returns the newest one, without a lock. How the next one is made is in change.go and draft.go.

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Snapshot is the state at one version. It never changes.
type Snapshot struct {
	// State answers what a proxy with this state would do.
	State *maintenance.State
	// Document is the state as JSON, as proxies get it.
	Document []byte

	newer     chan struct{} // closed when there is a newer snapshot
	revision  uint64        // of the record in the store; 0 if nothing is stored yet
	private   privateState
	specsETag func() string // computes the ETag at the first call, and then returns the same one

	// gateVersions holds for each app, by name, the version in which its mode or its match (which
	// requests belong to it) last changed. An app that is on is active once every proxy enforces
	// that version: each then refuses by the app's mode.
	gateVersions map[string]maintenance.Version
	// appVersions holds for each app the version in which anything about it last changed. The app
	// is enforced once every proxy has that version: each then has its messages and rules, too.
	appVersions map[string]maintenance.Version
}

// newSnapshot compiles the JSON of a document as the proxies do, and returns the error that they
// would return. The caller sets gateVersions and appVersions.
func newSnapshot(document []byte, private privateState, revision uint64) (*Snapshot, error) {
	state, err := maintenance.Parse(document)
	if err != nil {
		return nil, err
	}

	s := &Snapshot{State: state, Document: document, newer: make(chan struct{}), revision: revision, private: private}
	s.specsETag = sync.OnceValue(func() string { return ETag(s.Specs()) })
	return s, nil
}

// Newer returns a channel that is closed as soon as there is a newer state.
func (s *Snapshot) Newer() <-chan struct{} { return s.newer }

// Version returns the version of the state.
func (s *Snapshot) Version() maintenance.Version { return s.State.Version() }

// Apps returns all apps. They must not be changed.
func (s *Snapshot) Apps() []maintenance.App { return s.State.Document().Apps }

// App returns the app of that name, or [ErrNotFound].
func (s *Snapshot) App(name string) (*maintenance.App, error) {
	return findApp(s.Apps(), name)
}

// findApp returns a pointer to the element of apps that has the name, or ErrNotFound.
func findApp(apps []maintenance.App, name string) (*maintenance.App, error) {
	i := indexOf(apps, name)
	if i < 0 {
		return nil, fmt.Errorf("app %q: %w", name, ErrNotFound)
	}
	return &apps[i], nil
}

// indexOf returns the index of the app that has the name, or -1.
func indexOf(apps []maintenance.App, name string) int {
	return slices.IndexFunc(apps, func(a maintenance.App) bool { return a.Name == name })
}

// Specs returns what operators configured about each app.
func (s *Snapshot) Specs() []maintenance.Spec {
	apps := s.Apps()
	specs := make([]maintenance.Spec, len(apps))
	for i := range apps {
		specs[i] = apps[i].Spec
	}
	return specs
}

// SpecsETag returns the ETag of [Snapshot.Specs].
func (s *Snapshot) SpecsETag() string { return s.specsETag() }

// etagBytes is the length of the digest in an ETag: 120 bits, which do not collide by chance.
const etagBytes = 15

// ETag returns the ETag of a resource, with its quotes: a digest of the resource's JSON.
func ETag(resource any) string {
	sum := sha256.Sum256(mustMarshal(resource))
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:etagBytes]) + `"`
}

// record is the state as it is stored.
type record struct {
	Document json.RawMessage `json:"document"`
	privateState
}

// privateState is the part of the state that only the controller needs. Proxies do not get it. The
// JSON names causes and was must stay, because existing stores have them.
type privateState struct {
	// Actors holds the actor who began each activation, by activationKey. Activations of windows
	// have none.
	Actors map[string]Actor `json:"causes,omitempty"`
	// Ended holds the occurrences of windows that [Keeper.Off] ended. They are left out when a spec
	// that still has them is put again.
	Ended []endedOccurrence `json:"ended,omitempty"`
}

// activationKey returns the key of an activation in Actors. Names of apps have no slash.
func activationKey(app, activationID string) string { return app + "/" + activationID }

// endedOccurrence is an occurrence that was removed from the window of that ID.
type endedOccurrence struct {
	App        string                 `json:"app"`
	Window     string                 `json:"window"`
	Occurrence maintenance.Occurrence `json:"was"`
}

// reload publishes the stored state. The caller holds k.mu, or is [Open], when no other goroutine
// has the keeper yet.
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

// readState returns the stored state and the revision of its record. In a new store the state is
// revision 0, with only the default app.
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
