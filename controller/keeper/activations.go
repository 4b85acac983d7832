package keeper

// This file turns apps on and off. An app is on while it has activations: each puts it into a mode,
// and the strictest one decides. A manual activation comes from an operator, and a window has one
// while it is open (schedule.go). The sources file and resource are reserved, and only tests make
// activations of them.

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

// ManualActivation is the activation that [Keeper.On] makes. Until and For are two ways to give its
// end, and must not both be set. Without them it lasts until [Keeper.Off].
type ManualActivation struct {
	Mode    maintenance.Mode
	Message string
	Until   time.Time     // rounded down to a second
	For     time.Duration // from now on; the end is rounded up to a second
}

// On puts an app into a mode. An app has at most one manual activation: if the app has one already,
// On replaces the mode, message and end of it. With the same mode, it stays the same activation,
// with its ID and start. The condition is on [ActivationsETag]. Field paths in errors are relative
// to the activation, as the API has it.
func (k *Keeper) On(ctx context.Context, by Actor, cond Condition, app string, want ManualActivation) (*Snapshot, error) {
	if err := want.check(); err != nil {
		return nil, err
	}

	s, _, err := k.update(ctx, by, "on", func(d *draft) error {
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

// check returns a [maintenance.FieldError] for what the document of the state cannot express, and
// which it therefore does not check. The API calls the field For duration.
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

// activate gives an app of the draft the manual activation that is wanted. Activations of other
// sources stay.
func (d *draft) activate(a *maintenance.App, by Actor, want ManualActivation) error {
	until := want.Until.UTC().Truncate(time.Second)
	if want.For > 0 {
		const roundUp = time.Second - time.Nanosecond
		until = d.now.Add(want.For + roundUp).UTC().Truncate(time.Second)
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
		case act.Mode == manual.Mode: // the manual activation so far
			manual.ID, manual.Since = act.ID, act.Since
		}
	}

	// Windows come last, where the schedule puts them: another order would be a change.
	a.Activations = slices.Concat(others, []maintenance.Activation{manual}, windows)
	d.setInput(a.Name, fmt.Sprintf("activations[%d]", len(others)))

	d.private.Actors = maps.Clone(d.private.Actors)
	if d.private.Actors == nil {
		d.private.Actors = map[string]Actor{}
	}
	d.private.Actors[activationKey(a.Name, manual.ID)] = by
	return nil
}

// Off ends the maintenance of an app: its manual activation, and the running occurrences of its
// windows. If a spec that still has these occurrences is put again, they stay ended. If another
// source keeps the app in maintenance, Off returns an [*OtherSourceError] and changes nothing. For
// an app that is off, Off changes nothing and returns no error. The condition is on
// [ActivationsETag].
func (k *Keeper) Off(ctx context.Context, by Actor, cond Condition, app string) (*Snapshot, error) {
	s, _, err := k.update(ctx, by, "off", func(d *draft) error {
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

// deactivate removes all activations of an app of the draft. It returns an error, and changes
// nothing, if one of them is neither manual nor from a window.
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
// cannot end. So far only tests make such activations.
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
	return ETag(append([]maintenance.Activation{}, a.Activations...)) // [] if there are none, not null
}

// newID returns a random ID of 10 characters. Each is one of the 32 of base32 and has 5 random
// bits, so that the 50 bits do not collide among the IDs that people ever make.
func newID() string { return strings.ToLower(rand.Text()[:10]) }
