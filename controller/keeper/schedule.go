package keeper

// This file does what is planned: it opens and closes windows, and ends activations that have an
// end. A window is a planned period of a mode. It has a list of occurrences, each with a start and
// an end, and while one of them is running, the app has an activation from the window. Proxies
// compute the same by their own clocks, in case they cannot reach the controller.
//
// It also remembers the occurrences that Off ended before their time.

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

const (
	// maxSleep is the longest time between two rounds of the schedule, and so the longest time
	// until it notices that the wall clock was set.
	maxSleep = 10 * time.Second
	// retrySleep is the time until the next round after one that failed.
	retrySleep = time.Second
	// keepEnded is how long an occurrence that Off ended is remembered after its planned end. Until
	// then, a spec that still has it can be put again without opening the window: somebody may
	// apply a file that is a month old.
	keepEnded = 35 * 24 * time.Hour
)

// Run follows the schedule, and saves the list of proxies now and then, until ctx is done.
func (k *Keeper) Run(ctx context.Context) {
	save := time.NewTicker(saveEvery)
	defer save.Stop()

	caughtUp := k.started // all that was planned up to this time is done
	for {
		now, current := k.now(), k.Current()
		k.lastRun.Store(now.UnixNano())

		sleep := maxSleep
		next := current.nextEvent(caughtUp)
		switch {
		case next.IsZero(): // nothing is planned
		case now.Before(next):
			sleep = min(sleep, next.Sub(now))
		default: // next is due
			err := k.catchUp(ctx)
			if err == nil {
				caughtUp = now
				continue
			}
			k.log.Error("opening and closing windows failed", "error", err)
			sleep = retrySleep
		}

		// Each event below, other than the end of ctx, begins a new round: it may change what comes
		// next.
		timer := time.NewTimer(sleep)
		select {
		case <-ctx.Done():
			timer.Stop()
			k.trySaveProxies(context.WithoutCancel(ctx)) // for the next controller
			return
		case <-current.Newer():
		case <-k.store.Watch(recordState):
			if err := k.adoptStored(ctx); err != nil {
				k.log.Error("reading the stored state failed", "error", err)
			}
		case <-save.C:
			k.trySaveProxies(ctx)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// trySaveProxies saves the list of proxies. After an error, the next call saves it.
func (k *Keeper) trySaveProxies(ctx context.Context) {
	if err := k.saveProxies(ctx); err != nil {
		k.log.Error("saving the list of proxies failed", "error", err)
	}
}

// catchUp makes the changes that are due by now. Every update of the state makes them, so an update
// with an empty edit is enough. The action is for changes of the edit, and there are none.
func (k *Keeper) catchUp(ctx context.Context) error {
	editNothing := func(*draft) error { return nil }
	_, _, err := k.update(ctx, scheduleActor, noAction, editNothing)
	return err
}

// nextEvent returns the first time after since at which an activation ends or a window opens or
// closes. It is zero if there is none.
func (s *Snapshot) nextEvent(since time.Time) (next time.Time) {
	consider := func(t time.Time) {
		if t.After(since) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}

	for _, a := range s.Apps() {
		for _, act := range a.Activations {
			consider(act.Until)
		}
		for _, w := range a.Windows {
			for _, o := range w.Occurrences {
				consider(o.Start)
				consider(o.End)
			}
		}
	}
	return next
}

// followSchedule gives every app the activations that it should have now, and returns the audit
// entries for what changed. The entries have no version yet.
func (d *draft) followSchedule() (entries []Entry) {
	for i := range d.doc.Apps {
		a := &d.doc.Apps[i]
		scheduled := scheduledActivations(a, d.now)
		if slices.Equal(scheduled, a.Activations) {
			continue
		}

		before, after := maintenance.App{Activations: a.Activations}, maintenance.App{Activations: scheduled}
		if c, differ := diffResources(a.Name, before, after); differ {
			action := scheduleAction(a.Activations, scheduled)
			entries = append(entries, Entry{Time: d.now, Actor: scheduleActor, Action: action, Change: c})
		}
		a.Activations = scheduled
	}

	d.prune()
	return entries
}

// scheduledActivations returns the activations that an app should have now: those that did not come
// from a window and have not reached their end, and then one for each window with a running
// occurrence.
func scheduledActivations(a *maintenance.App, now time.Time) (scheduled []maintenance.Activation) {
	for _, act := range a.Activations {
		if act.Source != maintenance.SourceWindow && (act.Until.IsZero() || now.Before(act.Until)) {
			scheduled = append(scheduled, act)
		}
	}

	for _, w := range a.Windows {
		i := slices.IndexFunc(w.Occurrences, func(o maintenance.Occurrence) bool { return isRunning(o, now) })
		if i < 0 {
			continue
		}

		scheduled = append(scheduled, maintenance.Activation{
			ID: w.ID, Source: maintenance.SourceWindow, Mode: w.Mode, Message: w.Message,
			Since: w.Occurrences[i].Start, Until: w.Occurrences[i].End,
		})
	}
	return scheduled
}

// isRunning reports whether now is within the occurrence. Its end is outside.
func isRunning(o maintenance.Occurrence, now time.Time) bool {
	return !now.Before(o.Start) && now.Before(o.End)
}

// scheduleAction returns the action of the audit entry for the activations that the schedule
// changed, such as "window.start" or "manual.end". If some end and some start at once, the last one
// that starts names the action. If none does either, a running window got another end, mode or
// message.
func scheduleAction(before, after []maintenance.Activation) string {
	contains := func(list []maintenance.Activation, act maintenance.Activation) bool {
		return slices.ContainsFunc(list, func(o maintenance.Activation) bool { return o.ID == act.ID && o.Source == act.Source })
	}

	action := "window.change"
	for _, act := range before {
		if !contains(after, act) {
			action = string(act.Source) + ".end"
		}
	}

	for _, act := range after {
		if !contains(before, act) {
			action = string(act.Source) + ".start"
		}
	}
	return action
}

// prune removes what is of no more use from the private state: the actors of activations that do
// not exist any more, and ended occurrences of deleted apps or of long ago.
func (d *draft) prune() {
	active := map[string]bool{}
	for i := range d.doc.Apps {
		for _, act := range d.doc.Apps[i].Activations {
			active[activationKey(d.doc.Apps[i].Name, act.ID)] = true
		}
	}
	d.private.Actors = maps.Clone(d.private.Actors)
	maps.DeleteFunc(d.private.Actors, func(key string, _ Actor) bool { return !active[key] })

	d.private.Ended = slices.DeleteFunc(slices.Clone(d.private.Ended), func(e endedOccurrence) bool {
		return d.now.After(e.Occurrence.End.Add(keepEnded)) || indexOf(d.doc.Apps, e.App) < 0
	})
}

// endRunningOccurrences removes the running occurrences from the windows of an app, and remembers
// that they were ended. Proxies open and close windows by their own clocks, so an occurrence that
// is to stay closed must not be in the document.
func (d *draft) endRunningOccurrences(a *maintenance.App) {
	windows := slices.Clone(a.Windows)
	for i := range windows {
		w := &windows[i]
		w.Occurrences = slices.DeleteFunc(slices.Clone(w.Occurrences), func(o maintenance.Occurrence) bool {
			if !isRunning(o, d.now) {
				return false
			}
			d.private.Ended = append(slices.Clip(d.private.Ended), endedOccurrence{a.Name, w.ID, o})
			return true
		})
	}
	a.Windows = windows
}

// withoutEnded returns a spec without the occurrences that Off ended. The times of the others are
// in UTC, so that the same time always has the same JSON.
func (d *draft) withoutEnded(spec maintenance.Spec) maintenance.Spec {
	spec.Windows = slices.Clone(spec.Windows)
	for i := range spec.Windows {
		w := &spec.Windows[i]
		kept := []maintenance.Occurrence{}
		for _, o := range w.Occurrences {
			o = maintenance.Occurrence{Start: o.Start.UTC(), End: o.End.UTC()}

			ended := slices.ContainsFunc(d.private.Ended, func(e endedOccurrence) bool {
				return e.App == spec.Name && e.Window == w.ID && e.Occurrence.Start.Equal(o.Start) && e.Occurrence.End.Equal(o.End)
			})
			if !ended {
				kept = append(kept, o)
			}
		}

		w.Occurrences = kept
	}
	return spec
}
