package keeper

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/controller/store"
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

// Allow adds addresses and CIDRs to those that pass. Those that are listed already, in
// whatever spelling, are not added again.
func (k *Keeper) Allow(ctx context.Context, by Actor, on Condition, app string, ips []string) (*Snapshot, error) {
	return k.editIPs(ctx, by, "allow", on, app, ips, func(listed []string) ([]string, error) {
		for _, ip := range ips {
			if p, _ := prefix(ip); !slices.ContainsFunc(listed, func(s string) bool { q, _ := prefix(s); return q == p }) {
				listed = append(slices.Clip(listed), ip)
			}
		}
		return listed, nil
	})
}

// Disallow takes addresses and CIDRs away from those that pass. One that is not listed
// is ErrNotFound: whoever takes an address away must not believe that it no longer
// passes when it does.
func (k *Keeper) Disallow(ctx context.Context, by Actor, on Condition, app string, ips []string) (*Snapshot, error) {
	return k.editIPs(ctx, by, "disallow", on, app, ips, func(listed []string) ([]string, error) {
		for _, ip := range ips {
			p, _ := prefix(ip)
			rest := slices.DeleteFunc(slices.Clone(listed), func(s string) bool { q, _ := prefix(s); return q == p })
			if len(rest) == len(listed) {
				for _, s := range listed {
					if q, err := prefix(s); err == nil && q.Bits() < p.Bits() && q.Contains(p.Addr()) {
						return nil, fmt.Errorf("%s is not on the allowlist of app %q, but its entry %s covers it: %w", ip, app, s, ErrNotFound)
					}
				}
				return nil, fmt.Errorf("%s is not on the allowlist of app %q: %w", ip, app, ErrNotFound)
			}
			listed = rest
		}
		return listed, nil
	})
}

func (k *Keeper) editIPs(ctx context.Context, by Actor, action string, on Condition, app string, ips []string, edit func([]string) ([]string, error)) (*Snapshot, error) {
	// By themselves first, so that an error names the caller's entry.
	alone := maintenance.App{Spec: maintenance.Spec{Name: maintenance.DefaultApp, Bypass: maintenance.Bypass{IPs: ips}}}
	if _, err := maintenance.Compile(maintenance.Document{Apps: []maintenance.App{alone}}); err != nil {
		return nil, (&draft{field: "apps[0].bypass"}).relative(err)
	}
	return k.change(ctx, by, action, func(d *draft) error {
		a, err := d.app(app)
		if err != nil {
			return err
		}
		if err := on.check(true, func() string { return ETag(AllowedIPs(a)) }); err != nil {
			return fmt.Errorf("the allowlist of app %q %w", app, err)
		}
		a.Bypass.IPs, err = edit(a.Bypass.IPs)
		d.at(app, "bypass")
		return err
	})
}

// prefix is the network that an entry means, however it is written.
func prefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		p = netip.PrefixFrom(ip, ip.BitLen())
	}
	if p.Addr().Is4In6() {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, nil
}

// AllowedIPs are the addresses of an app that pass, as a resource of its own: never null.
func AllowedIPs(a *maintenance.App) []string { return append([]string{}, a.Bypass.IPs...) }

// activations of an app, as a resource of its own: never null.
func activations(a *maintenance.App) []maintenance.Activation {
	return append([]maintenance.Activation{}, a.Activations...)
}

// ActivationsETag is that of an app's activations.
func ActivationsETag(a *maintenance.App) string { return ETag(activations(a)) }

// seconds is a time as documents write it.
func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// PutPage stores an HTML page and returns its SHA-256 in hex, by which an app's pages
// name it.
func (k *Keeper) PutPage(ctx context.Context, by Actor, html []byte) (string, error) {
	switch {
	case len(html) == 0:
		return "", &maintenance.FieldError{Problem: "the page must not be empty"}
	case len(html) > maintenance.MaxPageBytes:
		return "", &maintenance.FieldError{Problem: fmt.Sprintf("the page has %d bytes; the limit is %d", len(html), maintenance.MaxPageBytes)}
	case !utf8.Valid(html):
		return "", &maintenance.FieldError{Problem: "the page must be UTF-8 text"}
	}
	c, _ := difference("", nil, map[string]any{"page": fmt.Sprintf("%x", sha256.Sum256(html)), "bytes": len(html)})
	sha, err := k.store.PutBlob(ctx, html, mustMarshal(Entry{Time: k.now(), Actor: by, Action: "page.put", Change: c}))
	if err != nil {
		return "", storeError(ctx, err)
	}
	return sha, nil
}

// Page is what PutPage stored under that SHA-256.
func (k *Keeper) Page(ctx context.Context, sha string) ([]byte, error) {
	html, err := k.store.Blob(ctx, sha)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("page %s: %w", sha, ErrNotFound)
	}
	return html, err
}

// pagesExist refuses changed apps that name pages which nobody uploaded.
func (k *Keeper) pagesExist(ctx context.Context, d *draft, changes []Change) error {
	for _, c := range changes {
		i := indexOf(d.doc.Apps, c.App)
		if i < 0 {
			continue
		}
		for lang, sha := range d.doc.Apps[i].Pages {
			_, err := k.Page(ctx, sha)
			if errors.Is(err, ErrNotFound) {
				return &maintenance.FieldError{
					Field:   fmt.Sprintf("apps[%d].pages.%s", i, lang),
					Problem: "no page with this SHA-256 is stored: upload it first",
				}
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
