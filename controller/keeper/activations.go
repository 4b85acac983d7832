package keeper

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// ManualActivation is the activation that [Keeper.On] makes.
type ManualActivation struct {
	Mode    maintenance.Mode
	Message string
	Until   time.Time     // zero: until Off
	For     time.Duration // from now on, instead of Until
}

// On puts an app into a mode. An app has at most one manual activation: if it is on already, On
// replaces the mode, message and end. With the same mode, the ID and start of the activation stay.
// The condition is on [ActivationsETag]. Field paths in errors are relative to the activation.
func (k *Keeper) On(ctx context.Context, by Actor, cond Condition, app string, want ManualActivation) (*Snapshot, error) {
	if err := want.check(); err != nil {
		return nil, err
	}

	s, _, err := k.change(ctx, by, "on", func(d *draft) error {
		a, err := d.app(app)
		if err != nil {
			return err
		}
		if err := cond.check(true, func() string { return ActivationsETag(a) }); err != nil {
			return fmt.Errorf("the list of activations of app %q %w", app, err)
		}
		return d.activate(a, by, want)
	})
	return s, err
}

func (m ManualActivation) check() error {
	switch {
	case !m.Mode.Valid():
		return &maintenance.FieldError{Field: "mode", Problem: fmt.Sprintf("%q must be %s", m.Mode, maintenance.ModeList())}
	case m.For != 0 && !m.Until.IsZero():
		return &maintenance.FieldError{Field: "duration", Problem: "must not be given together with until"}
	case m.For < 0:
		return &maintenance.FieldError{Field: "duration", Problem: "must be positive"}
	}
	return nil
}

func (d *draft) activate(a *maintenance.App, by Actor, want ManualActivation) error {
	until := want.Until.UTC().Truncate(time.Second)
	if want.For > 0 {
		until = d.now.Add(want.For + time.Second - 1).UTC().Truncate(time.Second) // rounded up
	}
	if !until.IsZero() && !until.After(d.now) {
		return &maintenance.FieldError{Field: "until", Problem: fmt.Sprintf("must be in the future, but %s is past", until.Format(time.RFC3339))}
	}

	manual := maintenance.Activation{
		ID: "m-" + newID(), Source: maintenance.SourceManual, Mode: want.Mode, Message: want.Message,
		Since: d.now.UTC().Truncate(time.Millisecond), Until: until,
	}

	var others, windows []maintenance.Activation
	for _, act := range a.Activations {
		switch {
		case act.Source == maintenance.SourceWindow:
			windows = append(windows, act)
		case act.Source != maintenance.SourceManual:
			others = append(others, act)
		case act.Mode == manual.Mode:
			manual.ID, manual.Since = act.ID, act.Since
		}
	}

	// Windows come last, where the schedule puts them.
	a.Activations = slices.Concat(others, []maintenance.Activation{manual}, windows)
	d.setInput(a.Name, fmt.Sprintf("activations[%d]", len(others)))

	d.private.Actors = maps.Clone(d.private.Actors)
	if d.private.Actors == nil {
		d.private.Actors = map[string]Actor{}
	}
	d.private.Actors[activationKey(a.Name, manual.ID)] = by
	return nil
}

// Off ends the maintenance of an app: its manual activations, and the running occurrences of its
// windows, which stay ended if a spec that has them is put again. If another source still keeps the
// app in maintenance, Off returns an [*OtherSourceError] and changes nothing. The condition is on
// [ActivationsETag].
func (k *Keeper) Off(ctx context.Context, by Actor, cond Condition, app string) (*Snapshot, error) {
	s, _, err := k.change(ctx, by, "off", func(d *draft) error {
		a, err := d.app(app)
		if err != nil {
			return err
		}
		if err := cond.check(true, func() string { return ActivationsETag(a) }); err != nil {
			return fmt.Errorf("the list of activations of app %q %w", app, err)
		}
		return d.deactivate(a)
	})
	return s, err
}

func (d *draft) deactivate(a *maintenance.App) error {
	var others []maintenance.Activation
	for _, act := range a.Activations {
		if act.Source != maintenance.SourceManual && act.Source != maintenance.SourceWindow {
			others = append(others, act)
		}
	}
	if len(others) > 0 {
		return &OtherSourceError{a.Name, others}
	}

	a.Activations = nil
	d.endRunningOccurrences(a)
	return nil
}

// OtherSourceError is the [ErrOtherSource] of an app. It names the activations that [Keeper.Off]
// cannot end, such as those that a Kubernetes resource declares.
type OtherSourceError struct {
	App         string
	Activations []maintenance.Activation
}

func (e *OtherSourceError) Error() string {
	var names []string
	for _, act := range e.Activations {
		names = append(names, fmt.Sprintf("%s %s", act.Source, act.ID))
	}
	return fmt.Sprintf("app %q is %s (%s): end the activation there; nothing was changed", e.App, ErrOtherSource, strings.Join(names, ", "))
}

func (e *OtherSourceError) Unwrap() error { return ErrOtherSource }

// ActivationsETag returns the ETag of an app's list of activations.
func ActivationsETag(a *maintenance.App) string {
	return ETag(append([]maintenance.Activation{}, a.Activations...)) // never null
}

// newID returns a random ID of 10 characters, which has 50 random bits.
func newID() string { return strings.ToLower(rand.Text()[:10]) }
