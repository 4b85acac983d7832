package keeper

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// PutPage stores an HTML page and returns its SHA-256 in hex. The pages of an app refer to it by
// this name.
func (k *Keeper) PutPage(ctx context.Context, by Actor, html []byte) (string, error) {
	switch {
	case len(html) == 0:
		return "", &maintenance.FieldError{Problem: "the page must not be empty"}
	case len(html) > maintenance.MaxPageBytes:
		return "", &maintenance.FieldError{Problem: fmt.Sprintf("the page has %d bytes; the limit is %d", len(html), maintenance.MaxPageBytes)}
	case !utf8.Valid(html):
		return "", &maintenance.FieldError{Problem: "the page must be UTF-8 text"}
	}

	change, _ := diffResources("", nil, map[string]any{"page": fmt.Sprintf("%x", sha256.Sum256(html)), "bytes": len(html)})
	entry := mustMarshal(Entry{Time: k.now(), Actor: by, Action: "page.put", Change: change})

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

// checkPages returns a FieldError if an app that a proposal changes refers to a page that is not
// stored.
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
