package keeper

import (
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

func newSnapshot(document []byte, beside side, revision uint64) (*Snapshot, error) {
	state, err := maintenance.Parse(document)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{State: state, Document: document, newer: make(chan struct{}), revision: revision, side: beside}
	s.setETag = sync.OnceValue(func() string { return ETag(s.Specs()) })
	return s, nil
}

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

// Specs are what operators wrote, of all apps.
func (s *Snapshot) Specs() []maintenance.Spec {
	apps := s.Apps()
	specs := make([]maintenance.Spec, len(apps))
	for i := range apps {
		specs[i] = apps[i].Spec
	}
	return specs
}

// SpecsETag is that of all apps' specs together.
func (s *Snapshot) SpecsETag() string { return s.setETag() }

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

// record is the state as stored.
type record struct {
	Document json.RawMessage `json:"document"`
	side
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
