package main

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Following the controller: one VM of the process leads, polls and writes what it
// gets into shared data, where all VMs find it.

const (
	leaseTime   = time.Second
	leaseRenew  = 300 * time.Millisecond
	minBackoff  = 100 * time.Millisecond
	maxBackoff  = 2 * time.Second
	callTimeout = 5000 // milliseconds, for calls that are answered at once

	// createIfAbsent as cas matches no value, and so only succeeds on an absent key
	// (proxy-wasm-cpp-host, SharedData::set).
	createIfAbsent = 0xFFFFFFFF
)

// follower is a plugin's part in following. Its shared-data keys carry controller and
// plugin, because Istio gives all plugins one namespace.
type follower struct {
	headKey, stateKey, leaseKey, pageKey, processKey string

	leads    bool
	leaseDue time.Time

	polling bool
	pollDue time.Time
	backoff time.Duration
	// refused is the newest version that could not be used; naming it in the poll
	// keeps the controller from sending it again at once.
	refused maintenance.Version
	// unusable is a shared version that this VM could not parse.
	unusable maintenance.Version

	missing  []string // pages to fetch
	fetching bool
	stored   []string // pages that this VM wrote to shared data

	complaint string
}

func newFollower(c *maintenance.Config) follower {
	prefix := "drydock/" + c.Cluster + "/" + c.Authority + "/" + c.Name + "/"
	return follower{
		headKey:    prefix + "head",
		stateKey:   prefix + "state",
		leaseKey:   prefix + "lease",
		pageKey:    prefix + "page/",
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
		f.leads = f.lease(p.vm, now)
		f.leaseDue = now.Add(leaseRenew)
	}
	if !f.leads {
		return
	}
	if !f.polling && !now.Before(f.pollDue) {
		f.poll(p, now)
	}
	if !f.fetching && len(f.missing) > 0 {
		f.fetchPage(p)
	}
}

// lease tells whether this VM leads until the lease runs out.
func (f *follower) lease(vm string, now time.Time) bool {
	held, cas, err := proxywasm.GetSharedData(f.leaseKey)
	switch {
	case err != nil:
		cas = createIfAbsent
	case len(held) >= 8 && string(held[8:]) != vm && now.UnixMilli() < int64(binary.BigEndian.Uint64(held)):
		return false
	}
	mine := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(vm)), uint64(now.Add(leaseTime).UnixMilli()))
	return proxywasm.SetSharedData(f.leaseKey, append(mine, vm...), cas) == nil
}

func (p *plugin) request(method, path string) [][2]string {
	return [][2]string{
		{":method", method}, {":path", path}, {":authority", p.config.Authority}, {":scheme", "http"},
		{"content-type", "application/json"}, {"authorization", "Bearer " + p.token},
	}
}

// poll asks for a state newer than the one we have.
func (f *follower) poll(p *plugin, now time.Time) {
	ask := maintenance.SyncRequest{Version: f.refused, Proxy: p.proxy, Wait: maintenance.SyncWait}
	if p.state != nil && p.state.Version().Compare(f.refused) > 0 {
		ask.Version = p.state.Version()
	}
	_, err := proxywasm.DispatchHttpCall(p.config.Cluster, p.request("POST", maintenance.SyncPath), ask.AppendJSON(nil), nil,
		(maintenance.SyncWait+5)*1000, func(_, size, _ int) { f.polled(p, ask.Version, size) })
	if err != nil {
		// The cluster may not be known yet: try again soon, and say so if it stays.
		f.retry(now)
		if !p.booted.IsZero() && now.Sub(p.booted) > p.config.BootWait {
			p.fail("polling cluster %q: %v", p.config.Cluster, err)
		}
		return
	}
	f.polling = true
}

func (f *follower) retry(now time.Time) {
	f.pollDue = now.Add(f.backoff + rand.N(f.backoff/2))
	f.backoff = min(2*f.backoff, maxBackoff)
}

// polled takes the controller's answer.
func (f *follower) polled(p *plugin, asked maintenance.Version, size int) {
	now := time.Now()
	f.polling = false
	switch status := calloutStatus(); status {
	case "200":
		body, err := proxywasm.GetHttpCallResponseBody(0, size)
		if err != nil {
			f.retry(now)
			p.fail("reading the state: %v", err)
			return
		}
		state, err := maintenance.Parse(body)
		if err != nil {
			// Refused whole: the old state stays in force.
			f.refuse(asked)
			f.retry(now)
			p.fail("the controller's state is refused, the last good one stays: %v", err)
			return
		}
		if !f.publish(p, state, body, now) {
			return
		}
	case "204":
	case "":
		f.retry(now)
		p.fail("the controller cannot be reached (cluster %q); the last good state stays", p.config.Cluster)
		return
	default:
		f.retry(now)
		p.fail("the controller answered the poll with status %s; the last good state stays", status)
		return
	}
	f.backoff, f.complaint = minBackoff, ""
	f.touch(p, now)
	if f.leads {
		f.poll(p, now)
	}
}

// refuse remembers that whatever comes after the asked version is of no use. Its own
// number cannot be trusted, so the next one counts as refused.
func (f *follower) refuse(asked maintenance.Version) {
	asked.Revision++
	f.refused = asked
}

// publish writes a state to shared data, where it never replaces a newer one.
func (f *follower) publish(p *plugin, state *maintenance.State, body []byte, now time.Time) bool {
	head := maintenance.Head{Version: state.Version(), Contact: now.UnixMilli()}
	if p.state != nil && head.Compare(p.state.Version()) <= 0 {
		// An older controller, or a restored one that did not raise its epoch.
		f.retry(now)
		p.fail("the controller offers version %d/%d, not newer than ours; it is refused", head.Epoch, head.Revision)
		return false
	}
	value := append(head.Append(make([]byte, 0, maintenance.HeadSize+len(body))), body...)
	if err := raise(f.stateKey, value, head.Version); err != nil {
		f.retry(now)
		p.fail("writing the state to shared data: %v", err)
		return false
	}
	p.adopt(state, now)
	f.wantPages(p)
	return true
}

// touch writes the head: what version there is, and that the controller lives.
func (f *follower) touch(p *plugin, now time.Time) {
	if p.state == nil {
		return
	}
	p.contact = now
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
		} else if head, ok := maintenance.ParseHead(old); ok && head.Compare(version) > 0 {
			return nil
		}
		if err := proxywasm.SetSharedData(key, value, cas); !errors.Is(err, types.ErrorStatusCasMismatch) {
			return err
		}
	}
}

// adoptShared takes over what another VM has published.
func (p *plugin) adoptShared() {
	raw, _, err := proxywasm.GetSharedData(p.follow.headKey)
	if err != nil {
		return
	}
	head, ok := maintenance.ParseHead(raw)
	if !ok {
		return
	}
	p.contact = time.UnixMilli(head.Contact)
	if p.state != nil && head.Compare(p.state.Version()) <= 0 || head.Version == p.follow.unusable {
		return
	}
	value, _, err := proxywasm.GetSharedData(p.follow.stateKey)
	if err != nil || len(value) < maintenance.HeadSize {
		return
	}
	state, err := maintenance.Parse(value[maintenance.HeadSize:])
	if err != nil {
		p.follow.unusable = head.Version
		p.fail("the shared state is refused, the last good one stays: %v", err)
		return
	}
	if p.state == nil || state.Version().Compare(p.state.Version()) > 0 {
		p.adopt(state, time.Now())
	}
}

// wantPages notes which of the state's pages are not in shared data, and empties
// those that are named no more: shared data knows no delete.
func (f *follower) wantPages(p *plugin) {
	named := p.state.PageHashes()
	f.missing = f.missing[:0]
	for _, sha := range named {
		if p.page(sha) == nil {
			f.missing = append(f.missing, sha)
		}
	}
	kept := f.stored[:0]
	for _, sha := range f.stored {
		if slices.Contains(named, sha) {
			kept = append(kept, sha)
		} else if err := proxywasm.SetSharedData(f.pageKey+sha, nil, 0); err != nil {
			p.fail("dropping page %s: %v", sha, err)
		}
	}
	f.stored = kept
}

func (f *follower) fetchPage(p *plugin) {
	sha := f.missing[0]
	f.missing = f.missing[1:]
	_, err := proxywasm.DispatchHttpCall(p.config.Cluster, p.request("GET", maintenance.PagePath+sha), nil, nil, callTimeout, func(_, size, _ int) {
		f.fetching = false
		html, err := []byte(nil), error(nil)
		if calloutStatus() == "200" {
			html, err = proxywasm.GetHttpCallResponseBody(0, size)
		}
		if err != nil || maintenance.PageHash(html) != sha {
			p.fail("page %s cannot be had; the built-in page is shown", sha)
			return
		}
		if err := proxywasm.SetSharedData(f.pageKey+sha, html, 0); err != nil {
			p.fail("sharing page %s: %v", sha, err)
			return
		}
		f.stored = append(f.stored, sha)
	})
	if f.fetching = err == nil; err != nil {
		p.fail("fetching page %s: %v", sha, err)
	}
}

// page is a page from shared data, nil where it is not there. What was once read
// stays in memory for as long as the state names it.
func (p *plugin) page(sha string) []byte {
	if html, ok := p.pages[sha]; ok {
		return html
	}
	html, _, err := proxywasm.GetSharedData(p.follow.pageKey + sha)
	if err != nil || len(html) == 0 {
		return nil
	}
	p.pages[sha] = html
	return html
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
		p.fail("acknowledging to cluster %q: %v", p.config.Cluster, err)
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
