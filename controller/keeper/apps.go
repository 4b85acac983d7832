package keeper

// This file edits what operators configure about the apps. An app is a named part of the traffic.
// Its [maintenance.Spec] is what operators configure, and its activations, which keep it in
// maintenance, are not part of the spec. The app named default gets the requests that no other app
// matches, and always exists.

import (
	"context"
	"fmt"
	"slices"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// PutSpec creates the app that the spec names, or replaces its spec and keeps its activations. The
// condition is on the ETag of the spec. Field paths in errors are relative to the spec.
func (k *Keeper) PutSpec(ctx context.Context, by Actor, cond Condition, spec maintenance.Spec) (*Snapshot, error) {
	s, _, err := k.update(ctx, by, "app.put", func(d *draft) error {
		a, err := d.app(spec.Name)
		exists := err == nil // the only error is ErrNotFound
		if err := cond.check(exists, func() string { return ETag(a.Spec) }); err != nil {
			return fmt.Errorf("app %q %w", spec.Name, err)
		}

		if exists {
			a.Spec = d.withoutEnded(spec)
		} else {
			d.doc.Apps = append(d.doc.Apps, maintenance.App{Spec: d.withoutEnded(spec)})
		}
		d.setInput(spec.Name, wholeApp)
		return nil
	})
	return s, err
}

// PutAll replaces the specs of all apps, in one change. Activations stay. Apps that are not in
// specs are deleted; if one of them is on, PutAll returns [ErrInMaintenance] and changes nothing.
// The default app cannot be deleted: if it is not in specs, it gets an empty spec. The condition is
// on [Snapshot.SpecsETag]. Field paths in errors are those of a document, such as apps[2].match.
//
// PutAll returns the state afterwards and the changes. A dry run returns the current state and the
// changes that would be made, and makes none. It does not check that pages exist.
func (k *Keeper) PutAll(ctx context.Context, by Actor, cond Condition, specs []maintenance.Spec, dryRun bool) (*Snapshot, []Change, error) {
	edit := func(d *draft) error {
		if err := cond.check(true, d.before.SpecsETag); err != nil {
			return fmt.Errorf("the set of apps %w", err)
		}
		return d.replaceSpecs(specs)
	}

	if dryRun {
		return k.preview(edit)
	}
	return k.update(ctx, by, "apply", edit)
}

// replaceSpecs replaces the specs of all apps of the draft, as [Keeper.PutAll] describes it.
func (d *draft) replaceSpecs(specs []maintenance.Spec) error {
	if !slices.ContainsFunc(specs, func(s maintenance.Spec) bool { return s.Name == maintenance.DefaultApp }) {
		specs = append(slices.Clip(specs), maintenance.Spec{Name: maintenance.DefaultApp})
	}

	unmatched := make(map[string]maintenance.App, len(d.doc.Apps)) // apps that are not found in specs yet
	for _, a := range d.doc.Apps {
		unmatched[a.Name] = a
	}

	apps := make([]maintenance.App, len(specs))
	for i, spec := range specs {
		apps[i] = maintenance.App{Spec: d.withoutEnded(spec), Activations: unmatched[spec.Name].Activations}
		delete(unmatched, spec.Name)
	}

	for _, a := range unmatched { // these apps are deleted
		if err := checkDeletable(&a); err != nil {
			return err
		}
	}

	// The order of apps has no meaning, so another order alone must not make a revision.
	if len(apps) == len(d.doc.Apps) && len(diffApps(d.doc.Apps, apps)) == 0 {
		return nil
	}
	d.doc.Apps = apps
	return nil
}

// DeleteApp deletes an app. Its requests then belong to the app that matches them next best. It
// returns [ErrInMaintenance] if the app is on, and [ErrDefaultApp] for the default app. The
// condition is on the ETag of the spec.
func (k *Keeper) DeleteApp(ctx context.Context, by Actor, cond Condition, name string) (*Snapshot, error) {
	s, _, err := k.update(ctx, by, "app.delete", func(d *draft) error {
		a, err := d.app(name)
		if err != nil {
			return err
		}
		if err := cond.check(true, func() string { return ETag(a.Spec) }); err != nil {
			return fmt.Errorf("app %q %w", name, err)
		}
		if name == maintenance.DefaultApp {
			return fmt.Errorf("%w: to reset it, set it without rules", ErrDefaultApp)
		}
		if err := checkDeletable(a); err != nil {
			return err
		}

		i := indexOf(d.doc.Apps, name)
		d.doc.Apps = slices.Delete(d.doc.Apps, i, i+1)
		return nil
	})
	return s, err
}

// checkDeletable returns ErrInMaintenance for an app that is on: deleting it would end its
// maintenance although no operator turned it off.
func checkDeletable(a *maintenance.App) error {
	if len(a.Activations) > 0 {
		return fmt.Errorf("app %q is %w: turn it off first, or keep it", a.Name, ErrInMaintenance)
	}
	return nil
}
