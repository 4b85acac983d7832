package main

import (
	"math/rand/v2"
	"os"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Following the controller: one VM of the process leads, as long as it holds a lease in shared
// data. It polls the controller and writes what it receives into shared data, where all VMs find it
// (shared.go). Each VM acknowledges the version that it enforces.
//
// A poll names the version that the VM has. The controller answers as soon as there is a newer one,
// with 200 and the document, or after at most maintenance.SyncWait with 204.

const (
	// leaseRenew is the pause between two attempts to renew or to take the lease, which lasts for
	// maintenance.LeaseTime: a leader has several attempts before it loses the lease.
	leaseRenew = 300 * time.Millisecond

	// After a poll that failed, the next one comes after minBackoff. The pause doubles with each
	// failure up to maxBackoff, or up to bootBackoff while requests are paused for the first state.
	// Up to half of it is added at random.
	minBackoff  = 100 * time.Millisecond
	maxBackoff  = 2 * time.Second
	bootBackoff = 200 * time.Millisecond

	// minPause is the time between the beginnings of two polls of which the first brings nothing. A
	// controller or a proxy before it may answer at once instead of waiting.
	minPause = time.Second

	// Timeouts of calls: of a poll, which may wait, and of calls that are answered at once.
	pollTimeoutMillis = (maintenance.SyncWait + 5) * 1000
	callTimeoutMillis = 5000
)

// follower is a plugin's part in following the controller. From the plugin it needs the
// configuration, the state in force (version, awaitsState), a way to replace it (adopt,
// resumePaused), the number of admitted requests, the pages and the error log.
type follower struct {
	plugin *plugin

	token, node string
	// proxyID is random per Envoy process, vmID per plugin and VM.
	proxyID, vmID string

	headKey, stateKey, leaseKey string // in shared data

	leads    bool      // this VM held the lease when it last looked
	leaseDue time.Time // when it looks again
	// standalone is set while this VM cannot use shared data: it then polls for itself, whichever
	// VM leads.
	standalone bool

	polling     bool      // a poll waits for its answer
	pollStarted time.Time // when the last poll began
	pollDue     time.Time // when the next one may begin
	backoff     time.Duration
	// refused is the version of the last document that could not be used. While skipRefused is
	// set, polls ask for what is newer than it, so that the controller does not send it again.
	refused     maintenance.Version
	skipRefused bool
	// unusable is a version in shared data that this VM could not adopt.
	unusable maintenance.Version

	lastContact time.Time // when the controller last answered any VM of this process
	ackDue      time.Time
	// contactErrors are errors that are over when the controller answers a poll.
	contactErrors errorLog
}

func newFollower(p *plugin) follower {
	f := follower{
		plugin:   p,
		token:    os.Getenv("DRYDOCK_SYNC_TOKEN"),
		vmID:     randomID(),
		headKey:  sharedKey(p.config, "head"),
		stateKey: sharedKey(p.config, "state"),
		leaseKey: sharedKey(p.config, "lease"),
		backoff:  minBackoff,
	}

	if node, err := proxywasm.GetProperty([]string{"node", "id"}); err == nil {
		f.node = string(node)
	}
	f.proxyID = processID()
	return f
}

// tick renews or takes the lease, and calls the controller while this VM leads.
func (f *follower) tick(now time.Time) {
	if !now.Before(f.leaseDue) {
		wasLeader := f.leads
		f.leads = f.takeLease(now)
		f.leaseDue = now.Add(leaseRenew)
		if f.leads && !wasLeader && f.plugin.state != nil {
			// The last leader may not have fetched all pages.
			f.plugin.pages.setWanted(f.plugin.state.PageHashes())
		}
	}
	if !f.leads && !f.standalone {
		return
	}

	if !f.polling && !now.Before(f.pollDue) {
		f.poll(now)
	}
	f.plugin.pages.fetchIfDue(now)
}

// takeLease takes or renews the lease, and reports whether this VM leads until the lease expires.
func (f *follower) takeLease(now time.Time) bool {
	raw, cas, err := proxywasm.GetSharedData(f.leaseKey)
	if err != nil {
		cas = createIfAbsent
	}
	last := maintenance.ParseLease(raw) // one that has expired, if there is none
	if last.VM != f.vmID && !last.AllowsOther(now) {
		return false
	}

	// With cas, the write fails if another VM has written the lease meanwhile.
	own := maintenance.Lease{VM: f.vmID, Expires: now.Add(maintenance.LeaseTime)}
	return proxywasm.SetSharedData(f.leaseKey, own.Append(nil), cas) == nil
}

// poll asks the controller for a state that is newer than the one in force.
func (f *follower) poll(now time.Time) {
	request := maintenance.SyncRequest{Version: f.plugin.version(), Proxy: f.proxyID, Wait: maintenance.SyncWait}
	if f.skipRefused && f.refused.Compare(request.Version) > 0 {
		request.Version = f.refused
	}

	err := f.call("POST", maintenance.SyncPath, request.AppendJSON(nil), pollTimeoutMillis,
		func(_, bodySize, _ int) { f.pollAnswered(request.Version, bodySize) })
	if err != nil {
		// At boot the cluster may not be known yet, which is an error only if it lasts.
		f.retryPoll(now)
		if !f.plugin.awaitsState(now) {
			f.contactErrors.reportf("polling cluster %q: %v", f.plugin.config.Cluster, err)
		}
		return
	}
	f.polling, f.pollStarted = true, now
}

// retryPoll schedules the next poll after one that failed.
func (f *follower) retryPoll(now time.Time) {
	f.pollDue = now.Add(f.backoff + rand.N(f.backoff/2))
	f.backoff = min(2*f.backoff, maxBackoff)
	if f.plugin.awaitsState(now) {
		f.backoff = min(f.backoff, bootBackoff)
	}
}

// pollAnswered handles the controller's answer, or its absence, to a poll that named a version. The
// answer's body has size bytes.
func (f *follower) pollAnswered(named maintenance.Version, size int) {
	now := time.Now()
	f.polling = false
	f.pollDue = now

	switch status := calloutStatus(); status {
	case "200":
		if !f.takeState(named, size, now) {
			f.retryPoll(now)
			return
		}
	case "204":
		f.skipRefused = false
		f.pollDue = f.pollStarted.Add(minPause)
	case "": // no answer
		f.retryPoll(now)
		f.contactErrors.reportf("the controller cannot be reached (cluster %q); the last good state stays in force", f.plugin.config.Cluster)
		return
	default:
		f.retryPoll(now)
		f.contactErrors.reportf("the controller answered the poll with status %s; the last good state stays in force", status)
		return
	}

	f.backoff = minBackoff
	f.contactErrors.clear()
	f.writeHead(now)
	if f.leads && !now.Before(f.pollDue) {
		f.poll(now)
	}
}

// takeState publishes the state in the controller's answer to a poll that named a version, and
// reports whether the state could be used. A document that cannot be used is refused as a whole:
// the old state stays in force.
func (f *follower) takeState(named maintenance.Version, size int, now time.Time) bool {
	body, err := proxywasm.GetHttpCallResponseBody(0, size)
	if err != nil {
		f.contactErrors.reportf("reading the state: %v", err)
		return false
	}

	state, err := maintenance.Parse(body)
	if err != nil {
		if f.refuse(named, body) {
			f.contactErrors.reportf("the controller's state is refused and the last good one stays in force: %v", err)
		}
		return false
	}

	f.skipRefused = false
	v := state.Version()
	if v.Compare(named) <= 0 {
		// An older controller, or one that was restored without raising its epoch.
		f.contactErrors.reportf("the controller sent the state %d/%d, which is not newer than the current one; it is refused", v.Epoch, v.Revision)
		return false
	}
	if v.Compare(f.plugin.version()) <= 0 {
		return true // Another VM has published it or a newer one meanwhile.
	}
	return f.publish(state, body, now)
}

// refuse remembers the version of a document that cannot be used, so that the next polls skip it.
// It returns false if that document was refused before, which has been logged then. Polls skip the
// version only until one of them brings nothing, because it may be as wrong as the rest of the
// document.
func (f *follower) refuse(named maintenance.Version, body []byte) bool {
	v := maintenance.VersionOf(body)
	if v.Compare(named) <= 0 {
		return true // The document has no version, or one that a poll cannot skip.
	}

	known := v == f.refused
	f.refused, f.skipRefused = v, true
	return !known
}

// ackIfDue acknowledges the state in force when an ack is due.
func (f *follower) ackIfDue(now time.Time) {
	if f.plugin.state != nil && !now.Before(f.ackDue) {
		f.ack(now)
	}
}

// ack tells the controller which version this VM enforces. It is also the VM's heartbeat. Its
// answer is ignored: the controller names the proxies that lag, and another ack follows soon.
func (f *follower) ack(now time.Time) {
	f.ackDue = now.Add(maintenance.HeartbeatSeconds * time.Second)
	ack := maintenance.Ack{
		Version: f.plugin.version(), Proxy: f.proxyID, VM: f.vmID, Node: f.node,
		Time: now.UnixMilli(), Requests: f.plugin.admitted,
	}

	ignoreAnswer := func(int, int, int) {}
	err := f.call("POST", maintenance.AckPath, ack.AppendJSON(nil), callTimeoutMillis, ignoreAnswer)
	if err != nil {
		f.contactErrors.reportf("acknowledging to cluster %q: %v", f.plugin.config.Cluster, err)
	}
}

// call calls the controller. It fails if the call cannot begin, for example because the proxy does
// not know the cluster. Otherwise answered is called with the number of headers, the size of the
// body and the number of trailers of the answer, all zero if no answer arrives.
func (f *follower) call(method, path string, body []byte, timeoutMillis uint32, answered func(headers, bodySize, trailers int)) error {
	config := f.plugin.config
	headers := [][2]string{
		{":method", method}, {":path", path}, {":authority", config.Authority}, {":scheme", "http"},
		{"content-type", "application/json"}, {"authorization", "Bearer " + f.token},
	}

	_, err := proxywasm.DispatchHttpCall(config.Cluster, headers, body, nil, timeoutMillis, answered)
	return err
}

// calloutStatus returns the status of the answer that the running callback is called for, empty if
// no answer arrived.
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
