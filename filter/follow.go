package main

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Following the controller: one VM of the process leads, polls and writes what it
// gets into shared data, where all VMs find it.

const (
	leaseRenew  = 300 * time.Millisecond
	minBackoff  = 100 * time.Millisecond
	maxBackoff  = 2 * time.Second
	bootBackoff = 200 * time.Millisecond // while requests are held for the first state
	minPause    = time.Second            // between two polls that bring nothing
	pageRetry   = 5 * time.Second
	callTimeout = 5000 // milliseconds, for calls that are answered at once

	// createIfAbsent as cas matches no value, and so only succeeds on an absent key
	// (proxy-wasm-cpp-host, SharedData::set).
	createIfAbsent = 0xFFFFFFFF
)

// follower is a plugin's part in following. Its shared-data keys carry controller and
// plugin, because Istio gives all plugins one namespace.
type follower struct {
	headKey, stateKey, leaseKey, pageKey, pagesKey, processKey string

	leads    bool
	leaseDue time.Time

	polling bool
	asked   time.Time // when the last poll began
	pollDue time.Time
	backoff time.Duration
	// refused is the last document that could not be used. While avoiding it, polls name
	// it in place of our own version, so that the controller does not send it again.
	refused  maintenance.Version
	avoiding bool
	// unusable is a shared version that this VM could not adopt.
	unusable maintenance.Version
	// alone: shared data is of no use to this VM, which polls for itself, whoever leads.
	alone bool

	missing  []string // pages to fetch
	fetching bool
	pageDue  time.Time
}

func newFollower(c *maintenance.Config) follower {
	prefix := "drydock/" + c.Cluster + "/" + c.Authority + "/" + c.Name + "/"
	return follower{
		headKey:    prefix + "head",
		stateKey:   prefix + "state",
		leaseKey:   prefix + "lease",
		pageKey:    prefix + "page/",
		pagesKey:   prefix + "pages",
		processKey: "drydock/process",
		backoff:    minBackoff,
	}
}

// processID is the process's random id, which the first VM to ask makes.
func (f *follower) processID() string {
	id := randomID()
	if err := proxywasm.SetSharedData(f.processKey, []byte(id), createIfAbsent); err != nil {
		if made, _, err := proxywasm.GetSharedData(f.processKey); err == nil && len(made) > 0 {
			return string(made)
		}
	}
	return id
}

// tick keeps or takes the lease, and polls while leading.
func (f *follower) tick(p *plugin, now time.Time) {
	if !now.Before(f.leaseDue) {
		led := f.leads
		f.leads = f.lease(p.vm, now)
		f.leaseDue = now.Add(leaseRenew)
		if f.leads && !led && p.state != nil {
			f.wantPages(p) // which the last leader may have left undone
		}
	}
	if !f.leads && !f.alone {
		return
	}
	if !f.polling && !now.Before(f.pollDue) {
		f.poll(p, now)
	}
	if !f.fetching && len(f.missing) > 0 && !now.Before(f.pageDue) {
		f.fetchPage(p)
	}
}

// lease takes or renews the lease, and reports whether this VM leads until it runs out.
func (f *follower) lease(vm string, now time.Time) bool {
	shared, cas, err := proxywasm.GetSharedData(f.leaseKey)
	if err != nil {
		cas = createIfAbsent
	}
	if held := maintenance.ParseLease(shared); held.VM != vm && !held.AllowsOther(now) {
		return false
	}

	mine := maintenance.Lease{VM: vm, Expires: now.Add(maintenance.LeaseTime)}
	return proxywasm.SetSharedData(f.leaseKey, mine.Append(nil), cas) == nil
}

func (p *plugin) request(method, path string) [][2]string {
	return [][2]string{
		{":method", method}, {":path", path}, {":authority", p.config.Authority}, {":scheme", "http"},
		{"content-type", "application/json"}, {"authorization", "Bearer " + p.token},
	}
}

// poll asks for a state newer than the one we have.
func (f *follower) poll(p *plugin, now time.Time) {
	ask := maintenance.SyncRequest{Version: p.version(), Proxy: p.proxy, Wait: maintenance.SyncWait}
	if f.avoiding && f.refused.Compare(ask.Version) > 0 {
		ask.Version = f.refused
	}
	_, err := proxywasm.DispatchHttpCall(p.config.Cluster, p.request("POST", maintenance.SyncPath), ask.AppendJSON(nil), nil,
		(maintenance.SyncWait+5)*1000, func(_, size, _ int) { f.polled(p, ask.Version, size) })
	if err != nil {
		// The cluster may not be known yet: try again soon, and say so if it stays.
		f.retry(p, now)
		if !p.waits(now) {
			p.failContact("polling cluster %q: %v", p.config.Cluster, err)
		}
		return
	}
	f.polling, f.asked = true, now
}

func (f *follower) retry(p *plugin, now time.Time) {
	f.pollDue = now.Add(f.backoff + rand.N(f.backoff/2))
	f.backoff = min(2*f.backoff, maxBackoff)
	if p.waits(now) {
		f.backoff = min(f.backoff, bootBackoff)
	}
}

// polled takes the controller's answer.
func (f *follower) polled(p *plugin, asked maintenance.Version, size int) {
	now := time.Now()
	f.polling = false
	f.pollDue = now
	switch status := calloutStatus(); status {
	case "200":
		body, err := proxywasm.GetHttpCallResponseBody(0, size)
		if err != nil {
			f.retry(p, now)
			p.failContact("reading the state: %v", err)
			return
		}
		state, err := maintenance.Parse(body)
		if err != nil {
			// Refused whole: the old state stays in force.
			f.retry(p, now)
			if f.refuse(asked, body) {
				p.failContact("the controller's state is refused, the last good one stays: %v", err)
			}
			return
		}
		f.avoiding = false
		v := state.Version()
		if v.Compare(asked) <= 0 {
			// An older controller, or a restored one that did not raise its epoch.
			f.retry(p, now)
			p.failContact("the controller offers version %d/%d, not newer than ours; it is refused", v.Epoch, v.Revision)
			return
		}
		// Another VM may have had it first.
		if v.Compare(p.version()) > 0 && !f.publish(p, state, body, now) {
			return
		}
	case "204":
		f.avoiding = false
		f.pollDue = f.asked.Add(minPause)
	case "":
		f.retry(p, now)
		p.failContact("the controller cannot be reached (cluster %q); the last good state stays", p.config.Cluster)
		return
	default:
		f.retry(p, now)
		p.failContact("the controller answered the poll with status %s; the last good state stays", status)
		return
	}
	f.backoff = minBackoff
	clear(p.contact)
	f.touch(p, now)
	if f.leads && !now.Before(f.pollDue) {
		f.poll(p, now)
	}
}

// refuse remembers a document that cannot be used, and tells whether it is another one
// than the last. Polls name it until one of them came back with nothing: its number may
// be as wrong as the rest of it.
func (f *follower) refuse(asked maintenance.Version, body []byte) bool {
	v := maintenance.VersionOf(body)
	if v.Compare(asked) <= 0 {
		return true
	}
	known := v == f.refused
	f.refused, f.avoiding = v, true
	return !known
}

// publish writes a state to shared data, where it never replaces a newer one.
func (f *follower) publish(p *plugin, state *maintenance.State, body []byte, now time.Time) bool {
	head := maintenance.Head{Version: state.Version(), Contact: now.UnixMilli()}
	value := append(head.Append(make([]byte, 0, maintenance.HeadSize+len(body))), body...)
	if err := raise(f.stateKey, value, head.Version); err != nil {
		f.retry(p, now)
		p.failContact("writing the state to shared data: %v", err)
		return false
	}
	p.adopt(state, now)
	p.ack(now)
	p.attendWaiting(now)
	f.wantPages(p)
	return true
}

// touch writes the head: what version there is, and that the controller lives.
func (f *follower) touch(p *plugin, now time.Time) {
	if p.state == nil {
		return
	}
	p.heard = now
	head := maintenance.Head{Version: p.state.Version(), Contact: now.UnixMilli()}
	if err := raise(f.headKey, head.Append(nil), head.Version); err != nil {
		p.fail("writing the head to shared data: %v", err)
	}
}

// raise sets a value that begins with a head, unless one of a newer version is there.
func raise(key string, value []byte, version maintenance.Version) error {
	for {
		old, cas, err := proxywasm.GetSharedData(key)
		if err != nil {
			cas = createIfAbsent
		} else if maintenance.SharedIsNewer(old, version) {
			return nil
		}
		if err := proxywasm.SetSharedData(key, value, cas); !errors.Is(err, types.ErrorStatusCasMismatch) {
			return err
		}
	}
}

// adoptShared takes over what another VM has published.
func (p *plugin) adoptShared(now time.Time) {
	raw, _, err := proxywasm.GetSharedData(p.follow.headKey)
	if err != nil {
		return
	}
	head, ok := maintenance.ParseHead(raw)
	if !ok {
		// With its next poll the leader writes it anew. Who has a state can wait for that.
		p.follow.alone = p.state == nil
		return
	}
	p.heard = time.UnixMilli(head.Contact)
	if head.Compare(p.version()) <= 0 {
		p.follow.alone = false
		return
	}
	if head.Version == p.follow.unusable {
		return
	}
	value, _, err := proxywasm.GetSharedData(p.follow.stateKey)
	var state *maintenance.State
	if err == nil {
		state, err = maintenance.ParseShared(value)
	}
	// The document is written before the head, and so is never the older of the two.
	if err == nil && (state == nil || state.Version().Compare(head.Version) < 0) {
		err = errors.New("there is only an older one")
	}
	if err != nil {
		p.follow.unusable, p.follow.alone = head.Version, true
		p.fail("the shared state is refused, the last good one stays: %v", err)
		return
	}
	p.adopt(state, now)
}

// wantPages notes which of the state's pages are not in shared data, and empties those
// of the last state that are named no more: shared data knows no delete.
func (f *follower) wantPages(p *plugin) {
	named := p.state.PageHashes()
	f.missing = nil
	for _, sha := range named {
		if !f.stored(p, sha) {
			f.missing = append(f.missing, sha)
		}
	}
	list := strings.Join(named, " ")
	last, cas, err := proxywasm.GetSharedData(f.pagesKey)
	switch {
	case string(last) == list:
		return
	case err != nil:
		cas = createIfAbsent
	}
	for sha := range strings.FieldsSeq(string(last)) {
		if slices.Contains(named, sha) {
			continue
		}
		if html, cas, err := proxywasm.GetSharedData(f.pageKey + sha); err == nil && len(html) > 0 {
			if err := proxywasm.SetSharedData(f.pageKey+sha, nil, cas); err != nil {
				p.fail("dropping page %s: %v", sha, err)
			}
		}
	}
	if err := proxywasm.SetSharedData(f.pagesKey, []byte(list), cas); err != nil {
		p.fail("listing the pages in shared data: %v", err)
	}
}

func (f *follower) fetchPage(p *plugin) {
	sha := f.missing[0]
	_, err := proxywasm.DispatchHttpCall(p.config.Cluster, p.request("GET", maintenance.PagePath+sha), nil, nil, callTimeout, func(_, size, _ int) {
		f.fetching = false
		at := slices.Index(f.missing, sha)
		if at < 0 {
			return // the state names it no more
		}
		f.missing = slices.Delete(f.missing, at, at+1)
		html, err := []byte(nil), error(nil)
		if calloutStatus() == "200" {
			html, err = proxywasm.GetHttpCallResponseBody(0, size)
		}
		if err == nil && maintenance.PageHash(html) != sha {
			err = errors.New("the answer is not that page")
		}
		if err == nil {
			err = f.storePage(sha, html)
		}
		if err != nil {
			// The others first.
			f.missing = append(f.missing, sha)
			f.pageDue = time.Now().Add(pageRetry)
			p.fail("page %s cannot be had, the built-in page is shown: %v", sha, err)
			return
		}
		p.pages.drop(func(looked string, _ []byte) bool { return looked == sha })
	})
	if err != nil {
		f.pageDue = time.Now().Add(pageRetry)
		p.fail("fetching page %s: %v", sha, err)
	}
	f.fetching = err == nil
}

// stored reports whether a page is in shared data.
func (f *follower) stored(p *plugin, sha string) bool {
	if p.pages.read[sha] != nil {
		return true
	}
	html, _, err := proxywasm.GetSharedData(f.pageKey + sha)
	return err == nil && len(html) > 0
}

// storePage writes a page to shared data, and then the list of pages as it is: from the
// list's new cas all VMs learn that one more page is there.
func (f *follower) storePage(sha string, html []byte) error {
	if err := proxywasm.SetSharedData(f.pageKey+sha, html, 0); err != nil {
		return err
	}
	list, cas, err := proxywasm.GetSharedData(f.pagesKey)
	if err != nil {
		return err
	}
	err = proxywasm.SetSharedData(f.pagesKey, list, cas)
	if errors.Is(err, types.ErrorStatusCasMismatch) {
		err = nil // somebody has written it meanwhile, to the same effect
	}
	return err
}

// maxPageMemory bounds the pages that a VM keeps in memory, in bytes. Past it they are
// read anew.
const maxPageMemory = 32 << 20

// pages are the pages that this VM has read from shared data, or has not found there:
// those are nil.
type pages struct {
	read   map[string][]byte
	bytes  int
	misses bool
	cas    uint32 // of the list of pages when misses were last forgotten
}

// get returns a page, nil where it is not there. Only the first to ask for it reads
// shared data, which has one lock for the whole process.
func (g *pages) get(key, sha string) []byte {
	html, known := g.read[sha]
	if known {
		return html
	}

	html, _, err := proxywasm.GetSharedData(key + sha)
	if err != nil || len(html) == 0 {
		html, g.misses = nil, true
	}
	if g.bytes += len(html); g.bytes > maxPageMemory {
		clear(g.read)
		g.bytes = len(html)
	}
	g.read[sha] = html

	return html
}

// notice forgets which pages were missing when one has come since.
func (g *pages) notice(listKey string) {
	if !g.misses {
		return
	}
	if _, cas, err := proxywasm.GetSharedData(listKey); err == nil && cas != g.cas {
		g.cas, g.misses = cas, false
		g.drop(func(_ string, html []byte) bool { return html == nil })
	}
}

// keep drops what a new state does not name, and which pages were missing.
func (g *pages) keep(named func() []string) {
	if len(g.read) == 0 {
		return
	}
	hashes := named()
	g.misses = false
	g.drop(func(sha string, html []byte) bool { return html == nil || !slices.Contains(hashes, sha) })
}

func (g *pages) drop(unwanted func(sha string, html []byte) bool) {
	for sha, html := range g.read {
		if unwanted(sha, html) {
			g.bytes -= len(html)
			delete(g.read, sha)
		}
	}
}

// ack tells the controller that this VM enforces its version, and that it lives.
func (p *plugin) ack(now time.Time) {
	p.ackDue = now.Add(maintenance.HeartbeatSeconds * time.Second)
	ack := maintenance.Ack{
		Version: p.state.Version(), Proxy: p.proxy, VM: p.vm, Node: p.node,
		Time: now.UnixMilli(), Requests: p.requests,
	}
	_, err := proxywasm.DispatchHttpCall(p.config.Cluster, p.request("POST", maintenance.AckPath), ack.AppendJSON(nil), nil, callTimeout, func(int, int, int) {
		// A refused ack shows in the controller, which names the proxies that lag; the
		// next one comes within a second.
	})
	if err != nil {
		p.failContact("acknowledging to cluster %q: %v", p.config.Cluster, err)
	}
}

// calloutStatus is the status of the answer to the current callout, "" for none.
func calloutStatus() string {
	headers, err := proxywasm.GetHttpCallResponseHeaders()
	if err != nil {
		return ""
	}
	for _, h := range headers {
		if h[0] == ":status" {
			return h[1]
		}
	}
	return ""
}
