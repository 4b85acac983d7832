package main

import (
	"math/rand/v2"
	"os"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Following the controller: one VM of the process leads. It polls the controller and writes what
// it receives into shared data, where all VMs find it. Each VM acknowledges the version that it
// enforces.

const (
	leaseRenew  = 300 * time.Millisecond
	minBackoff  = 100 * time.Millisecond
	maxBackoff  = 2 * time.Second
	bootBackoff = 200 * time.Millisecond // while requests are paused for the first state
	minPause    = time.Second            // between two polls that bring nothing
	callTimeout = 5000                   // in milliseconds, for calls that are answered at once
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

	leads    bool
	leaseDue time.Time
	// standalone is set while this VM cannot use shared data: it then polls for itself, whichever
	// VM leads.
	standalone bool

	polling     bool
	pollStarted time.Time
	pollDue     time.Time
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
		led := f.leads
		f.leads = f.takeLease(now)
		f.leaseDue = now.Add(leaseRenew)
		if f.leads && !led && f.plugin.state != nil {
			// The last leader may not have fetched all pages.
			f.plugin.pages.want(f.plugin.state.PageHashes())
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
	if last := maintenance.ParseLease(raw); last.VM != f.vmID && !last.AllowsOther(now) {
		return false
	}

	own := maintenance.Lease{VM: f.vmID, Expires: now.Add(maintenance.LeaseTime)}
	return proxywasm.SetSharedData(f.leaseKey, own.Append(nil), cas) == nil
}

// poll asks the controller for a state that is newer than the one in force.
func (f *follower) poll(now time.Time) {
	request := maintenance.SyncRequest{Version: f.plugin.version(), Proxy: f.proxyID, Wait: maintenance.SyncWait}
	if f.skipRefused && f.refused.Compare(request.Version) > 0 {
		request.Version = f.refused
	}

	err := f.call("POST", maintenance.SyncPath, request.AppendJSON(nil), (maintenance.SyncWait+5)*1000,
		func(_, size, _ int) { f.pollAnswered(request.Version, size) })
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

// pollAnswered handles the controller's answer, or its absence, to a poll for what is newer than
// asked.
func (f *follower) pollAnswered(asked maintenance.Version, size int) {
	now := time.Now()
	f.polling = false
	f.pollDue = now

	switch status := calloutStatus(); status {
	case "200":
		if !f.takeState(asked, size, now) {
			f.retryPoll(now)
			return
		}
	case "204":
		f.skipRefused = false
		f.pollDue = f.pollStarted.Add(minPause)
	case "":
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

// takeState publishes the state in the controller's answer, and reports whether the state could be
// used. A document that cannot be used is refused as a whole: the old state stays in force.
func (f *follower) takeState(asked maintenance.Version, size int, now time.Time) bool {
	body, err := proxywasm.GetHttpCallResponseBody(0, size)
	if err != nil {
		f.contactErrors.reportf("reading the state: %v", err)
		return false
	}

	state, err := maintenance.Parse(body)
	if err != nil {
		if f.refuse(asked, body) {
			f.contactErrors.reportf("the controller's state is refused and the last good one stays in force: %v", err)
		}
		return false
	}

	f.skipRefused = false
	v := state.Version()
	if v.Compare(asked) <= 0 {
		// An older controller, or one that was restored without raising its epoch.
		f.contactErrors.reportf("the controller sent the state %d/%d, which is not newer than the current one; it is refused", v.Epoch, v.Revision)
		return false
	}
	if v.Compare(f.plugin.version()) <= 0 {
		return true // Another VM has published it or a newer one meanwhile.
	}
	return f.publish(state, body, now)
}

// refuse remembers the version of a document that cannot be used, and reports whether the document
// is another one than the last. Polls skip it until one of them brings nothing: its version may be
// as wrong as the rest of it.
func (f *follower) refuse(asked maintenance.Version, body []byte) bool {
	v := maintenance.VersionOf(body)
	if v.Compare(asked) <= 0 {
		return true
	}

	known := v == f.refused
	f.refused, f.skipRefused = v, true
	return !known
}

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

	err := f.call("POST", maintenance.AckPath, ack.AppendJSON(nil), callTimeout, func(int, int, int) {})
	if err != nil {
		f.contactErrors.reportf("acknowledging to cluster %q: %v", f.plugin.config.Cluster, err)
	}
}

// call calls the controller. The timeout is in milliseconds; answered is called also if no answer
// arrives.
func (f *follower) call(method, path string, body []byte, timeout uint32, answered func(headers, bodySize, trailers int)) error {
	config := f.plugin.config
	headers := [][2]string{
		{":method", method}, {":path", path}, {":authority", config.Authority}, {":scheme", "http"},
		{"content-type", "application/json"}, {"authorization", "Bearer " + f.token},
	}

	_, err := proxywasm.DispatchHttpCall(config.Cluster, headers, body, nil, timeout, answered)
	return err
}

// calloutStatus returns the status of the answer to the current callout, empty if there is none.
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
