package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

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
