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
