package keeper

import (
	"context"
	"fmt"
	"slices"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// PutSpec creates an app or replaces what operators wrote about it. Its activations stay.
func (k *Keeper) PutSpec(ctx context.Context, by Actor, on Condition, spec maintenance.Spec) (*Snapshot, error) {
	return k.change(ctx, by, "app.put", func(d *draft) error {
		a, err := d.app(spec.Name)
		if err := on.check(err == nil, func() string { return ETag(a.Spec) }); err != nil {
			return fmt.Errorf("app %q %w", spec.Name, err)
		}
		if err != nil {
			d.doc.Apps = append(d.doc.Apps, maintenance.App{Spec: d.planned(spec)})
		} else {
			a.Spec = d.planned(spec)
		}
		d.at(spec.Name, "")
		return nil
	})
}

// PutAll replaces what operators wrote about all apps, at once or not at all: apps that
// are not in the set are deleted, and without the default app in it that one has no
// rules any more. Activations stay. A dry run tells what would change; only whether its
// pages are stored it does not ask. Fields of errors are those of the set, as
// "apps[2].match".
func (k *Keeper) PutAll(ctx context.Context, by Actor, on Condition, specs []maintenance.Spec, dryRun bool) (*Snapshot, []Change, error) {
	return k.propose(ctx, by, "apply", dryRun, func(d *draft) error {
		if err := on.check(true, d.before.SpecsETag); err != nil {
			return fmt.Errorf("the set of apps %w", err)
		}
		if !slices.ContainsFunc(specs, func(s maintenance.Spec) bool { return s.Name == maintenance.DefaultApp }) {
			specs = append(slices.Clip(specs), maintenance.Spec{Name: maintenance.DefaultApp})
		}
		was := make(map[string]maintenance.App, len(d.doc.Apps))
		for _, a := range d.doc.Apps {
			was[a.Name] = a
		}
		apps := make([]maintenance.App, len(specs))
		for i, spec := range specs {
			apps[i] = maintenance.App{Spec: d.planned(spec), Activations: was[spec.Name].Activations}
			delete(was, spec.Name)
		}
		for _, a := range was {
			if err := deletable(&a); err != nil {
				return err
			}
		}
		// The order means nothing: it must not make a revision.
		if len(apps) == len(d.doc.Apps) && len(compare(d.doc.Apps, apps)) == 0 {
			return nil
		}
		d.doc.Apps = apps
		return nil
	})
}

// DeleteApp deletes an app that is off; its traffic falls to the next best match. The
// error is ErrInMaintenance for one that is on, ErrDefaultApp for the default app.
func (k *Keeper) DeleteApp(ctx context.Context, by Actor, on Condition, name string) (*Snapshot, error) {
	return k.change(ctx, by, "app.delete", func(d *draft) error {
		a, err := d.app(name)
		if err != nil {
			return err
		}
		if err := on.check(true, func() string { return ETag(a.Spec) }); err != nil {
			return fmt.Errorf("app %q %w", name, err)
		}
		if name == maintenance.DefaultApp {
			return fmt.Errorf("%w: to reset it, put it without rules", ErrDefaultApp)
		}
		if err := deletable(a); err != nil {
			return err
		}
		i := indexOf(d.doc.Apps, name)
		d.doc.Apps = slices.Delete(d.doc.Apps, i, i+1)
		return nil
	})
}

// An app that is on would open by being deleted, without anybody having said off.
func deletable(a *maintenance.App) error {
	if len(a.Activations) > 0 {
		return fmt.Errorf("app %q is %w: turn it off first, or keep it", a.Name, ErrInMaintenance)
	}
	return nil
}
