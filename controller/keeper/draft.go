package keeper

// This file holds a new state while it is being made. The state is a [maintenance.Document], which
// the proxies follow, and a privateState, which they do not get. A Snapshot is a finished state. An
// edit changes a draft of the current Snapshot, and [draft.compile] makes the next Snapshot of it.

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

// draft is a state that is being edited. It has a list of apps of its own, and shares the slices
// and maps within the apps and within private with the snapshot before: replace them, never write
// into them.
type draft struct {
	now     time.Time
	before  *Snapshot // that the draft was made from
	doc     maintenance.Document
	private privateState

	// input is the path in the document of what the caller gave, such as apps[3].bypass. Paths in
	// errors are made relative to it. If it is empty, they stay relative to the document.
	input string
}

// newDraft returns a draft that does not differ from before yet.
func newDraft(before *Snapshot, now time.Time) *draft {
	d := &draft{now: now, before: before, doc: before.State.Document(), private: before.private}
	d.doc.Apps = slices.Clone(d.doc.Apps)
	return d
}

// app returns the app of that name for editing, or ErrNotFound.
func (d *draft) app(name string) (*maintenance.App, error) {
	return findApp(d.doc.Apps, name)
}

// setInput sets input to the path of the app of that name, or of a part of the app such as
// activations[0].
func (d *draft) setInput(app, part string) {
	d.input = fmt.Sprintf("apps[%d]", indexOf(d.doc.Apps, app))
	if part != wholeApp {
		d.input += "." + part
	}
}

// wholeApp is the part for [draft.setInput] if the caller gave the spec of an app.
const wholeApp = ""

// relativeError makes the path in a [maintenance.FieldError] relative to what the caller gave,
// since the caller does not know the rest of the document. It returns other errors as they are.
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

// compile returns the draft as the snapshot of the next revision. It reads the JSON of the document
// as the proxies read it, so that a state that they would refuse cannot be published.
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

// setVersions sets gateVersions and appVersions of s, the snapshot that d was compiled to: the new
// version for each app that changed, and that of the snapshot before for the others.
func (d *draft) setVersions(s *Snapshot) {
	appsBefore := d.before.Apps()
	unmatched := make(map[string]*maintenance.App, len(appsBefore)) // apps before that are not found in s yet
	for i := range appsBefore {
		unmatched[appsBefore[i].Name] = &appsBefore[i]
	}

	s.gateVersions, s.appVersions = maps.Clone(d.before.gateVersions), maps.Clone(d.before.appVersions)
	apps := s.Apps()
	for i := range apps {
		a := &apps[i]
		was := unmatched[a.Name] // nil if the app is new
		delete(unmatched, a.Name)

		if was == nil || !equalJSON(*was, *a) {
			s.appVersions[a.Name] = s.Version()
		}
		// What is closed depends on the mode of an app and on the requests that it matches.
		if was == nil || modeAt(was, d.now) != modeAt(a, d.now) || !equalJSON(was.Match, a.Match) {
			s.gateVersions[a.Name] = s.Version()
		}
	}

	for name := range unmatched { // these apps were deleted
		delete(s.gateVersions, name)
		delete(s.appVersions, name)
	}
}

// modeAt returns the mode that an app is in at the time now: the strictest of its activations that
// have not ended, or Off.
func modeAt(a *maintenance.App, now time.Time) maintenance.Mode {
	strictest := maintenance.Off
	for _, act := range a.Activations {
		ended := !act.Until.IsZero() && !now.Before(act.Until)
		if !ended && act.Mode.Compare(strictest) > 0 {
			strictest = act.Mode
		}
	}
	return strictest
}
