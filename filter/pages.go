package main

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

const (
	// maxPageMemory bounds the pages that a VM caches: 32 MiB. When they exceed it, the cache
	// starts again.
	maxPageMemory = 32 << 20
	// pageRetry is the pause after a page could not be fetched.
	pageRetry = 5 * time.Second
)

// pages are the operators' own maintenance pages, each known by its SHA-256. The leader fetches the
// pages that the state names and stores them in shared data, where every VM finds them. Shared data
// also has a list of their hashes. The list is written whenever a page was stored, even if it is
// the same. The write changes the list's cas (see shared.go), which tells the other VMs that there
// is a new page.
type pages struct {
	plugin           *plugin
	pageKey, listKey string // in shared data; pageKey is followed by the hash

	missing  []string // hashes of the pages that the leader has to fetch
	fetching bool     // a fetch waits for its answer
	fetchDue time.Time

	// cached are the pages that this VM has read from shared data, nil for one that was not there.
	cached      map[string][]byte
	cachedBytes int
	// misses is set if cached has a page that was not there, and listCAS is the list's cas when
	// these were last forgotten.
	misses  bool
	listCAS uint32
}

func newPages(p *plugin) pages {
	return pages{
		plugin:  p,
		pageKey: sharedKey(p.config, "page/"),
		listKey: sharedKey(p.config, "pages"),
		cached:  make(map[string][]byte),
	}
}

// get returns a page, nil if this process does not have it. Only the first call for a page reads
// shared data, which has one lock for the whole process.
func (g *pages) get(sha string) []byte {
	html, known := g.cached[sha]
	if known {
		return html
	}

	html, _, err := proxywasm.GetSharedData(g.pageKey + sha)
	if err != nil || len(html) == 0 {
		html, g.misses = nil, true
	}
	g.cachedBytes += len(html)
	if g.cachedBytes > maxPageMemory {
		clear(g.cached)
		g.cachedBytes = len(html)
	}
	g.cached[sha] = html

	return html
}

// forgetMissing forgets which pages were not there if a page was stored since.
func (g *pages) forgetMissing() {
	if !g.misses {
		return
	}

	if _, cas, err := proxywasm.GetSharedData(g.listKey); err == nil && cas != g.listCAS {
		g.listCAS, g.misses = cas, false
		g.dropCached(func(_ string, html []byte) bool { return html == nil })
	}
}

// keepNamed drops the cached pages whose hashes named does not return, and forgets which pages were
// not there. named returns the hashes in a new state; it is called only if it is needed.
func (g *pages) keepNamed(named func() []string) {
	if len(g.cached) == 0 {
		return
	}

	hashes := named()
	g.misses = false
	g.dropCached(func(sha string, html []byte) bool { return html == nil || !slices.Contains(hashes, sha) })
}

// dropCached drops the cached pages that are unwanted.
func (g *pages) dropCached(unwanted func(sha string, html []byte) bool) {
	for sha, html := range g.cached {
		if unwanted(sha, html) {
			g.cachedBytes -= len(html)
			delete(g.cached, sha)
		}
	}
}

// setWanted makes shared data hold the pages that a state names, given by their hashes: it notes
// which ones have to be fetched, empties those that only the last state named, and writes the list.
func (g *pages) setWanted(named []string) {
	g.missing = nil
	for _, sha := range named {
		if !g.stored(sha) {
			g.missing = append(g.missing, sha)
		}
	}

	list := strings.Join(named, " ")
	last, cas, err := proxywasm.GetSharedData(g.listKey)
	switch {
	case string(last) == list: // also if there is no list yet and no page is named
		return
	case err != nil:
		cas = createIfAbsent
	}

	for sha := range strings.FieldsSeq(string(last)) {
		if !slices.Contains(named, sha) {
			g.dropStored(sha)
		}
	}
	if err := proxywasm.SetSharedData(g.listKey, []byte(list), cas); err != nil {
		g.plugin.errors.reportf("writing the list of pages to shared data: %v", err)
	}
}

// stored reports whether a page is in shared data.
func (g *pages) stored(sha string) bool {
	if g.cached[sha] != nil {
		return true
	}
	html, _, err := proxywasm.GetSharedData(g.pageKey + sha)
	return err == nil && len(html) > 0
}

// dropStored empties a page in shared data, which cannot delete a key.
func (g *pages) dropStored(sha string) {
	html, cas, err := proxywasm.GetSharedData(g.pageKey + sha)
	if err != nil || len(html) == 0 {
		return
	}

	if err := proxywasm.SetSharedData(g.pageKey+sha, nil, cas); err != nil {
		g.plugin.errors.reportf("dropping page %s: %v", sha, err)
	}
}

// fetchIfDue begins to fetch the first missing page, unless a fetch has begun or has just failed.
func (g *pages) fetchIfDue(now time.Time) {
	if g.fetching || len(g.missing) == 0 || now.Before(g.fetchDue) {
		return
	}

	sha := g.missing[0]
	err := g.plugin.follow.call("GET", maintenance.PagePath+sha, nil, callTimeoutMillis,
		func(_, bodySize, _ int) { g.fetched(sha, bodySize) })
	if err != nil {
		g.fetchDue = time.Now().Add(pageRetry)
		g.plugin.errors.reportf("fetching page %s: %v", sha, err)
	}
	g.fetching = err == nil
}

// fetched handles the controller's answer to the fetch of a page, or its absence. The answer's body
// has size bytes.
func (g *pages) fetched(sha string, size int) {
	g.fetching = false
	at := slices.Index(g.missing, sha)
	if at < 0 {
		return // A newer state does not name it.
	}
	g.missing = slices.Delete(g.missing, at, at+1)

	if err := g.storeAnswer(sha, size); err != nil {
		g.missing = append(g.missing, sha) // after the others
		g.fetchDue = time.Now().Add(pageRetry)
		g.plugin.errors.reportf("page %s is not available, the built-in page is shown: %v", sha, err)
		return
	}
	g.dropCached(func(cached string, _ []byte) bool { return cached == sha })
}

// storeAnswer stores the page in the answer to the current callout. Then it writes the list as it
// is: the new cas shows all VMs that there is another page.
func (g *pages) storeAnswer(sha string, size int) error {
	var html []byte
	if calloutStatus() == "200" {
		var err error
		if html, err = proxywasm.GetHttpCallResponseBody(0, size); err != nil {
			return err
		}
	}
	if maintenance.PageHash(html) != sha {
		return errors.New("the answer is not that page")
	}

	if err := proxywasm.SetSharedData(g.pageKey+sha, html, overwrite); err != nil {
		return err
	}
	list, cas, err := proxywasm.GetSharedData(g.listKey)
	if err != nil {
		return err
	}
	err = proxywasm.SetSharedData(g.listKey, list, cas)
	if errors.Is(err, types.ErrorStatusCasMismatch) {
		err = nil // Another VM has written the list, which changes its cas as well.
	}
	return err
}
