package keeper

// This file stores the HTML pages that proxies show instead of an app in maintenance. They are
// stored by their SHA-256, apart from the state. The spec of an app names the page of each
// language.

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// PutPage stores an HTML page and returns its SHA-256 in hex, which is its name in the specs of
// apps. A page that is stored already is not stored again, and has no second audit entry.
func (k *Keeper) PutPage(ctx context.Context, by Actor, html []byte) (string, error) {
	switch {
	case len(html) == 0:
		return "", &maintenance.FieldError{Problem: "the page must not be empty"}
	case len(html) > maintenance.MaxPageBytes:
		return "", &maintenance.FieldError{Problem: fmt.Sprintf("the page has %d bytes; the limit is %d", len(html), maintenance.MaxPageBytes)}
	case !utf8.Valid(html):
		return "", &maintenance.FieldError{Problem: "the page must be UTF-8 text"}
	}

	addition, _ := diffResources(noApp, nil, map[string]any{"page": fmt.Sprintf("%x", sha256.Sum256(html)), "bytes": len(html)})
	entry := mustMarshal(Entry{Time: k.now(), Actor: by, Action: "page.put", Change: addition})

	sha, err := k.store.PutBlob(ctx, html, entry)
	if err != nil {
		return "", storeError(ctx, err)
	}
	return sha, nil
}

// Page returns the page with that SHA-256, or [ErrNotFound].
func (k *Keeper) Page(ctx context.Context, sha string) ([]byte, error) {
	html, err := k.store.Blob(ctx, sha)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("page %s: %w", sha, ErrNotFound)
	}
	return html, err
}

// checkPages returns a FieldError if an app that a proposal changes names a page that is not
// stored. Apps that it does not change were checked before. Pages are never deleted.
func (k *Keeper) checkPages(ctx context.Context, p *proposal) error {
	apps := p.draft.doc.Apps
	for _, c := range p.changes {
		i := indexOf(apps, c.App)
		if i < 0 {
			continue // deleted
		}

		for language, sha := range apps[i].Pages {
			_, err := k.Page(ctx, sha)
			if errors.Is(err, ErrNotFound) {
				return p.draft.relativeError(&maintenance.FieldError{
					Field:   fmt.Sprintf("apps[%d].pages.%s", i, language),
					Problem: "no page with this SHA-256 is stored: upload it first",
				})
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
