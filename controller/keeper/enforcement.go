package keeper

// This file compares what the proxies enforce (proxies.go) with the versions in which the apps
// changed (snapshot.go), and says in words what is still missing. A proxy enforces a version if it
// decides requests by that version or a newer one.

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// ProxyCount counts proxies. Known are all on the list, Live those that are not lost, and Enforcing
// those that enforce the version in question. A lost proxy counts as enforcing what it last
// reported, because it may still serve.
type ProxyCount struct {
	Known     int `json:"known"`
	Live      int `json:"live"`
	Enforcing int `json:"enforcing"`
}

// WaitingFor is one reason why an app is not enforced or not active yet.
type WaitingFor struct {
	Proxy  string `json:"proxy,omitempty"`
	Node   string `json:"node,omitempty"`
	Reason string `json:"reason"`
}

// maxWaiting bounds the number of reasons in a status, since people read them.
const maxWaiting = 100

// proxyView is what all proxies enforce at one moment. It is made once for an answer, which may be
// about many apps.
type proxyView struct {
	proxies  []viewedProxy       // ordered by node and ID
	live     int                 // number of proxies that are not lost
	oldest   maintenance.Version // the oldest version that one of the proxies enforces
	current  maintenance.Version // the newest version of this controller
	anyNew   bool                // whether a proxy is new
	anyAhead bool                // whether a proxy enforces a version after current

	// allReported is whether the controller has run for so long that every live proxy has reported.
	allReported bool
}

// viewedProxy is one proxy of a proxyView.
type viewedProxy struct {
	id, node string
	version  maintenance.Version // that all of its VMs enforce
	lostFor  time.Duration       // since its last ack; 0 if it is live
	isNew    bool                // some of its VMs may not have reported yet
	skew     time.Duration       // its clock minus the controller's
}

// viewProxies returns what the proxies enforce now, without those that ended.
func (k *Keeper) viewProxies(now time.Time) *proxyView {
	view := &proxyView{allReported: now.Sub(k.started) >= silentAfter}

	k.proxies.mu.Lock()
	for _, p := range k.proxies.byID {
		if p.ended(now) {
			continue
		}

		e := viewedProxy{id: p.id, node: p.node, version: p.version(), skew: p.skew, isNew: now.Sub(p.firstAck) < newFor}
		if p.lost(now) {
			e.lostFor = now.Sub(p.lastAck)
		} else {
			view.live++
		}
		view.proxies = append(view.proxies, e)
	}
	k.proxies.mu.Unlock()

	// The current version is read last, so that a change made meanwhile does not make a proxy that
	// already enforces it appear to be ahead.
	view.current = k.Current().Version()
	for i, p := range view.proxies {
		if i == 0 || p.version.Compare(view.oldest) < 0 {
			view.oldest = p.version
		}
		view.anyNew = view.anyNew || p.isNew
		view.anyAhead = view.anyAhead || p.version.Compare(view.current) > 0
	}

	slices.SortFunc(view.proxies, func(a, b viewedProxy) int { return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.id, b.id)) })
	return view
}

// countEnforcing returns how many proxies enforce version v, and why the others do not. The list of
// reasons is empty only if there is a proxy and every proxy enforces v.
func (view *proxyView) countEnforcing(v maintenance.Version) (count ProxyCount, waiting []WaitingFor) {
	count = ProxyCount{Known: len(view.proxies), Live: view.live}
	if len(view.proxies) == 0 {
		return count, []WaitingFor{{Reason: "no proxy has reported to this controller"}}
	}

	if !view.anyAhead && !view.anyNew && view.oldest.Compare(v) >= 0 {
		count.Enforcing = count.Known // the usual case, without a look at each proxy
		return count, nil
	}

	for i := range view.proxies {
		p := &view.proxies[i]
		reason := view.whyNotEnforcing(p, v)
		if reason == "" {
			count.Enforcing++
		} else if len(waiting) < maxWaiting {
			waiting = append(waiting, WaitingFor{p.id, p.node, reason})
		}
	}
	return count, waiting
}

// whyNotEnforcing returns why a proxy does not count as enforcing version v, or "" if it does. The
// reason is the rest of a sentence that begins with the name of the proxy.
func (view *proxyView) whyNotEnforcing(p *viewedProxy, v maintenance.Version) string {
	reached := p.version.Compare(v) >= 0
	// Only another controller can have given a proxy a version that this one does not have. So that
	// version says nothing about the changes that were made here.
	ahead := p.version.Compare(view.current) > 0
	if reached && !ahead && !p.isNew {
		return ""
	}

	// Several of these may hold. The first is the one that an operator has to act on.
	switch {
	case p.lostFor > 0:
		return fmt.Sprintf("has not reported for %s: it may have stopped, or it may be unreachable and still serve without this state; if it has stopped, forget it", p.lostFor.Round(time.Second))
	case ahead:
		return fmt.Sprintf("follows a state that this controller does not have (epoch %d, revision %d)", p.version.Epoch, p.version.Revision)
	case reached: // and new
		return "has just started, and some of its workers may not have reported yet"
	case p.version.Epoch < v.Epoch:
		return "does not enforce a state of this controller yet"
	}
	return fmt.Sprintf("enforces revision %d, not yet %d", p.version.Revision, v.Revision)
}

// whyNotActive returns what keeps every app from being active, even if all known proxies enforce
// it: proxies that are not known yet, and clocks that are off.
func (view *proxyView) whyNotActive() (waiting []WaitingFor) {
	if !view.allReported {
		waiting = append(waiting, WaitingFor{Reason: fmt.Sprintf("the controller has just started and waits %s for proxies to report", silentAfter)})
	}

	for _, p := range view.proxies {
		if p.skew.Abs() > maxSkew && p.lostFor == 0 && len(waiting) < maxWaiting {
			waiting = append(waiting, WaitingFor{p.id, p.node, "has a clock that is " + describeSkew(p.skew)})
		}
	}
	return waiting
}

// describeSkew returns a skew in words, such as "1.1s slow".
func describeSkew(skew time.Duration) string {
	if skew < 0 {
		return fmt.Sprintf("%s slow", (-skew).Round(100*time.Millisecond))
	}
	return fmt.Sprintf("%s fast", skew.Round(100*time.Millisecond))
}

// ProxyCount counts the proxies. Enforcing are those that enforce the newest state.
func (k *Keeper) ProxyCount() ProxyCount {
	view := k.viewProxies(k.now())
	count, _ := view.countEnforcing(view.current)
	return count
}
