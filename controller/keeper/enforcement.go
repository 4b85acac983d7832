package keeper

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// fleet is a look at all proxies at one moment.
type fleet struct {
	proxies []seen
	live    int
	oldest  Version // that any proxy enforces
	current Version
	fresh   bool // some proxy has just started
	ahead   bool // some proxy enforces a newer one than current
	settled bool // the controller runs long enough to have heard from every live proxy
}

type seen struct {
	id, node string
	version  Version
	lostFor  time.Duration // 0: live
	fresh    bool          // not all of its VMs may have spoken yet
	skew     time.Duration
}

func (k *Keeper) fleet(now time.Time) *fleet {
	f := &fleet{settled: now.Sub(k.started) >= silent}
	k.proxies.mu.Lock()
	for _, p := range k.proxies.byID {
		if p.gone(now) {
			continue
		}
		s := seen{id: p.id, node: p.node, version: p.version(), skew: p.skew, fresh: now.Sub(p.first) < settle}
		if p.lost(now) {
			s.lostFor = now.Sub(p.seen)
		} else {
			f.live++
		}
		f.proxies = append(f.proxies, s)
	}
	k.proxies.mu.Unlock()
	// Read after what the proxies enforce, which so cannot be ahead of it by a change
	// that was just made.
	f.current = k.Current().Version()
	for i := range f.proxies {
		if v := f.proxies[i].version; i == 0 || v.Compare(f.oldest) < 0 {
			f.oldest = v
		}
		f.fresh = f.fresh || f.proxies[i].fresh
		f.ahead = f.ahead || f.proxies[i].version.Compare(f.current) > 0
	}
	slices.SortFunc(f.proxies, func(a, b seen) int { return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.id, b.id)) })
	return f
}

// ProxyCount counts the proxies that are known, lost ones included.
type ProxyCount struct {
	Known     int `json:"known"`
	Live      int `json:"live"`
	Enforcing int `json:"enforcing"`
}

// WaitingFor is one thing that is still awaited.
type WaitingFor struct {
	Proxy  string `json:"proxy,omitempty"`
	Node   string `json:"node,omitempty"`
	Reason string `json:"reason"`
}

// maxWaiting bounds the list of what is awaited, in an answer that people read.
const maxWaiting = 100

// enforces tells whether every proxy enforces a version, and what is awaited otherwise.
// A proxy that names a state from the future follows another controller.
func (f *fleet) enforces(v Version) (count ProxyCount, waiting []WaitingFor) {
	count = ProxyCount{Known: len(f.proxies), Live: f.live}
	if len(f.proxies) > 0 && !f.ahead && !f.fresh && f.oldest.Compare(v) >= 0 {
		count.Enforcing = count.Known
		return count, nil
	}
	for i := range f.proxies {
		p := &f.proxies[i]
		ahead := p.version.Compare(f.current) > 0
		if p.version.Compare(v) >= 0 && !ahead && !p.fresh {
			count.Enforcing++
			continue
		}
		reason := fmt.Sprintf("enforces revision %d, not yet %d", p.version.Revision, v.Revision)
		switch {
		case p.lostFor > 0:
			reason = fmt.Sprintf("has not reported for %s: it may have stopped, or it may be unreachable and still serve without this state; if it has stopped, forget it", p.lostFor.Round(time.Second))
		case ahead:
			reason = fmt.Sprintf("follows a state that this controller does not have (epoch %d, revision %d)", p.version.Epoch, p.version.Revision)
		case p.fresh && p.version.Compare(v) >= 0:
			reason = "has just started, and some of its workers may not have reported yet"
		case p.version.Epoch < v.Epoch:
			reason = "does not enforce a state of this controller yet"
		}
		if len(waiting) < maxWaiting {
			waiting = append(waiting, WaitingFor{p.id, p.node, reason})
		}
	}
	if len(f.proxies) == 0 {
		waiting = []WaitingFor{{Reason: "no proxy has reported to this controller"}}
	}
	return count, waiting
}

// unsettled lists what else keeps an app from being active.
func (f *fleet) unsettled() (waiting []WaitingFor) {
	if !f.settled {
		waiting = append(waiting, WaitingFor{Reason: fmt.Sprintf("the controller has just started and waits %s for proxies to report", silent)})
	}
	for i := range f.proxies {
		if p := &f.proxies[i]; p.skew.Abs() > maxSkew && p.lostFor == 0 && len(waiting) < maxWaiting {
			waiting = append(waiting, WaitingFor{p.id, p.node, "has a clock that is " + clock(p.skew)})
		}
	}
	return waiting
}

func clock(skew time.Duration) string {
	if skew < 0 {
		return fmt.Sprintf("%s slow", (-skew).Round(100*time.Millisecond))
	}
	return fmt.Sprintf("%s fast", skew.Round(100*time.Millisecond))
}

// ProxyCount counts proxies, and those among them that enforce the newest state.
func (k *Keeper) ProxyCount() ProxyCount {
	f := k.fleet(k.now())
	count, _ := f.enforces(f.current)
	return count
}
