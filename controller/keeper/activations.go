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

// ManualActivation is what on says.
type ManualActivation struct {
	Mode    maintenance.Mode
	Message string
	Until   time.Time     // zero: until off
	For     time.Duration // from now on, instead of Until
}

// On puts an app into a mode. There is one manual activation an app: a second On
// changes the mode, message and end of the first.
func (k *Keeper) On(ctx context.Context, by Actor, on Condition, app string, what ManualActivation) (*Snapshot, error) {
	switch {
	case what.Mode != maintenance.ReadOnly && what.Mode != maintenance.NoAccess:
		return nil, &maintenance.FieldError{Field: "mode", Problem: fmt.Sprintf("%q must be read-only or no-access", what.Mode)}
	case what.For != 0 && !what.Until.IsZero():
		return nil, &maintenance.FieldError{Field: "duration", Problem: "must not be given together with until"}
	case what.For < 0:
		return nil, &maintenance.FieldError{Field: "duration", Problem: "must be positive"}
	}
	return k.change(ctx, by, "on", func(d *draft) error {
		a, err := d.app(app)
		if err != nil {
			return err
		}
		if err := on.check(true, func() string { return ETag(activations(a)) }); err != nil {
			return fmt.Errorf("the list of activations of app %q %w", app, err)
		}
		manual := maintenance.Activation{Source: maintenance.SourceManual, Mode: what.Mode, Message: what.Message, Until: seconds(what.Until)}
		if what.For > 0 {
			manual.Until = seconds(d.now.Add(what.For + time.Second - 1))
		}
		if !manual.Until.IsZero() && !manual.Until.After(d.now) {
			return &maintenance.FieldError{Field: "until", Problem: fmt.Sprintf("must be in the future, but %s is past", manual.Until.Format(time.RFC3339))}
		}
		manual.ID, manual.Since = "m-"+strings.ToLower(rand.Text()[:10]), d.now.UTC().Truncate(time.Millisecond)
		// Windows come last, as the schedule has them.
		var others, windows []maintenance.Activation
		for _, c := range a.Activations {
			switch {
			case c.Source == maintenance.SourceWindow:
				windows = append(windows, c)
			case c.Source != maintenance.SourceManual:
				others = append(others, c)
			case c.Mode == manual.Mode:
				// The same maintenance goes on, with other words or another end.
				manual.ID, manual.Since = c.ID, c.Since
			}
		}
		a.Activations = slices.Concat(others, []maintenance.Activation{manual}, windows)
		d.side.Causes = maps.Clone(d.side.Causes)
		if d.side.Causes == nil {
			d.side.Causes = map[string]Actor{}
		}
		d.side.Causes[causeKey(app, manual.ID)] = by
		d.at(app, fmt.Sprintf("activations[%d]", len(others)))
		return nil
	})
}

// Off ends an app's maintenance: its manual activations, and the running occurrences
// of its windows, which stay away also when the app is applied again. Is it held by
// what only its own source can end, a file or a Kubernetes resource, the error is a
// [*OtherSourceError] and nothing is ended: after an Off either the app is open or all is as
// it was.
func (k *Keeper) Off(ctx context.Context, by Actor, on Condition, app string) (*Snapshot, error) {
	return k.change(ctx, by, "off", func(d *draft) error {
		a, err := d.app(app)
		if err != nil {
			return err
		}
		if err := on.check(true, func() string { return ETag(activations(a)) }); err != nil {
			return fmt.Errorf("the list of activations of app %q %w", app, err)
		}
		var held []maintenance.Activation
		for _, c := range a.Activations {
			if c.Source != maintenance.SourceManual && c.Source != maintenance.SourceWindow {
				held = append(held, c)
			}
		}
		if len(held) > 0 {
			return &OtherSourceError{App: app, Activations: held}
		}
		a.Activations = nil
		windows := slices.Clone(a.Windows)
		for i := range windows {
			w := &windows[i]
			w.Occurrences = slices.DeleteFunc(slices.Clone(w.Occurrences), func(o maintenance.Occurrence) bool {
				if !running(o, d.now) {
					return false
				}
				d.side.Ended = append(slices.Clip(d.side.Ended), ended{app, w.ID, o})
				return true
			})
		}
		a.Windows = windows
		return nil
	})
}

// OtherSourceError is an [ErrOtherSource] that names what holds the app.
type OtherSourceError struct {
	App         string
	Activations []maintenance.Activation
}

func (e *OtherSourceError) Error() string {
	var by []string
	for _, c := range e.Activations {
		by = append(by, fmt.Sprintf("%s %s", c.Source, c.ID))
	}
	return fmt.Sprintf("app %q is %s (%s): end the activation there; nothing was changed", e.App, ErrOtherSource, strings.Join(by, ", "))
}

func (e *OtherSourceError) Unwrap() error { return ErrOtherSource }

// activations of an app, as a resource of its own: never null.
func activations(a *maintenance.App) []maintenance.Activation {
	return append([]maintenance.Activation{}, a.Activations...)
}

// ActivationsETag is that of an app's activations.
func ActivationsETag(a *maintenance.App) string { return ETag(activations(a)) }

// seconds is a time as documents write it.
func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
