package keeper

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

const (
	// maxSleep bounds how long a step of the wall clock goes unnoticed.
	maxSleep = 10 * time.Second
	// endedFor is how long an ended occurrence is remembered after its end: as long as
	// somebody may still apply a list that has it.
	endedFor = 35 * 24 * time.Hour
)

// Run opens and closes windows, ends what has an end and keeps the list of proxies
// until ctx is done.
func (k *Keeper) Run(ctx context.Context) {
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	caughtUp := k.started // nothing planned before that is left to do
	for {
		now := k.now()
		k.beat.Store(now.UnixNano())
		current := k.Current()
		sleep := maxSleep
		if next := current.next(caughtUp); !next.IsZero() && !now.Before(next) {
			if err := k.catchUp(ctx); err != nil {
				k.log.Error("opening and closing windows failed", "error", err)
				sleep = time.Second
			} else {
				caughtUp = now
				continue
			}
		} else if !next.IsZero() {
			sleep = min(sleep, next.Sub(now))
		}
		timer := time.NewTimer(sleep)
		select {
		case <-ctx.Done():
			timer.Stop()
			// What the proxies said last is worth a write after the end.
			if err := k.saveProxies(context.WithoutCancel(ctx)); err != nil {
				k.log.Error("saving the list of proxies failed", "error", err)
			}
			return
		case <-current.Newer():
		case <-k.store.Watch(recordState):
			if err := k.follow(ctx); err != nil {
				k.log.Error("reading the stored state failed", "error", err)
			}
		case <-save.C:
			if err := k.saveProxies(ctx); err != nil {
				k.log.Error("saving the list of proxies failed", "error", err)
			}
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (k *Keeper) catchUp(ctx context.Context) error {
	_, err := k.change(ctx, schedule, "", func(*draft) error { return nil })
	return err
}

// next is the first moment after since at which the schedule has to act, zero for none.
func (s *Snapshot) next(since time.Time) (next time.Time) {
	later := func(t time.Time) {
		if t.After(since) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, a := range s.Apps() {
		for _, c := range a.Activations {
			later(c.Until)
		}
		for _, w := range a.Windows {
			for _, o := range w.Occurrences {
				later(o.Start)
				later(o.End)
			}
		}
	}
	return next
}

// reconcile makes the activations what the clock asks for: each running occurrence of a
// window is one, and what has reached its end is none. It returns what that changed.
func (d *draft) reconcile() (log []Entry) {
	for i := range d.doc.Apps {
		a := &d.doc.Apps[i]
		due := d.due(a)
		if slices.Equal(due, a.Activations) {
			continue
		}
		is := func(list []maintenance.Activation) func(maintenance.Activation) bool {
			return func(c maintenance.Activation) bool {
				return slices.ContainsFunc(list, func(o maintenance.Activation) bool { return o.ID == c.ID && o.Source == c.Source })
			}
		}
		action := "window.change"
		for _, c := range a.Activations {
			if !is(due)(c) {
				action = string(c.Source) + ".end"
			}
		}
		for _, c := range due {
			if !is(a.Activations)(c) {
				action = string(c.Source) + ".start"
			}
		}
		was := maintenance.App{Activations: a.Activations}
		if c, differ := difference(a.Name, was, maintenance.App{Activations: due}); differ {
			log = append(log, Entry{Time: d.now, Actor: schedule, Action: action, Change: c})
		}
		a.Activations = due
	}
	d.tidy()
	return log
}

// due are the activations that an app should have now.
func (d *draft) due(a *maintenance.App) (due []maintenance.Activation) {
	for _, c := range a.Activations {
		if c.Source != maintenance.SourceWindow && (c.Until.IsZero() || d.now.Before(c.Until)) {
			due = append(due, c)
		}
	}
	for _, w := range a.Windows {
		for _, o := range w.Occurrences {
			if running(o, d.now) {
				due = append(due, maintenance.Activation{
					ID: w.ID, Source: maintenance.SourceWindow, Mode: w.Mode, Message: w.Message,
					Since: o.Start, Until: o.End,
				})
				break
			}
		}
	}
	return due
}

func running(o maintenance.Occurrence, now time.Time) bool {
	return !now.Before(o.Start) && now.Before(o.End)
}

// tidy forgets what belongs to activations, apps and occurrences that are gone.
func (d *draft) tidy() {
	known := map[string]bool{}
	for i := range d.doc.Apps {
		for _, c := range d.doc.Apps[i].Activations {
			known[causeKey(d.doc.Apps[i].Name, c.ID)] = true
		}
	}
	causes := maps.Clone(d.side.Causes)
	maps.DeleteFunc(causes, func(key string, _ Actor) bool { return !known[key] })
	d.side.Causes = causes
	d.side.Ended = slices.DeleteFunc(slices.Clone(d.side.Ended), func(e ended) bool {
		return d.now.After(e.Was.End.Add(endedFor)) || indexOf(d.doc.Apps, e.App) < 0
	})
}

// planned is a spec with its windows in UTC, and without the occurrences that off has
// ended.
func (d *draft) planned(spec maintenance.Spec) maintenance.Spec {
	spec.Windows = slices.Clone(spec.Windows)
	for i := range spec.Windows {
		w := &spec.Windows[i]
		kept := []maintenance.Occurrence{}
		for _, o := range w.Occurrences {
			o = maintenance.Occurrence{Start: o.Start.UTC(), End: o.End.UTC()}
			if !slices.ContainsFunc(d.side.Ended, func(e ended) bool {
				return e.App == spec.Name && e.Window == w.ID && e.Was.Start.Equal(o.Start) && e.Was.End.Equal(o.End)
			}) {
				kept = append(kept, o)
			}
		}
		w.Occurrences = kept
	}
	return spec
}
