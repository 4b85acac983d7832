package maintenance

import (
	"slices"
	"time"
)

// Verdict is what is to be done with a request.
type Verdict uint8

const (
	// Pass: let it go on.
	Pass Verdict = iota
	// NeedBody: hold it, and decide again with Request.Body.
	NeedBody
	// Refuse: answer it with [State.Reply].
	Refuse
)

func (v Verdict) String() string { return [...]string{"pass", "need-body", "refuse"}[v] }

// Decision is the verdict on a request and why.
type Decision struct {
	Verdict Verdict
	Rule    Rule
	App     string
	Mode    Mode
	// Activation is the one that decides the app's mode, nil where the app is off.
	Activation *Activation
	// Until is when the mode ends, zero where that is not known.
	Until time.Time
	// MaxBody is how many bytes of body are looked at, with NeedBody. Of a longer one,
	// one byte more is enough for the next decision, which refuses it.
	MaxBody int

	app     *app
	graphql bool // the path speaks GraphQL
}

// String returns the decision as access logs show it.
func (d *Decision) String() string {
	return "app=" + d.App + " mode=" + string(d.Mode) + " rule=" + string(d.Rule)
}

// Decide judges one request.
//
// Where servers may read the path differently, the request may belong to several
// apps: the strictest verdict counts, and no exemption holds.
func (s *State) Decide(r *Request, now time.Time) Decision {
	v := s.at(now)
	var buf [4]*app
	apps := s.match(r, buf[:0])
	if len(apps) > maxApps {
		return s.refuseUnclear(apps, v)
	}

	var strictest Decision
	maxBody := 0
	for i, a := range apps {
		st := &v.apps[a.index]
		d := Decision{App: a.spec.Name, Mode: Off, Rule: RuleOff, app: a}
		if st.activation != nil {
			d.Mode, d.Activation, d.Until = st.activation.Mode, st.activation, st.until
			a.decide(r, &d)
		}

		maxBody = max(maxBody, d.MaxBody)
		if i == 0 || d.Verdict > strictest.Verdict || d.Verdict == strictest.Verdict && d.Mode.Compare(strictest.Mode) > 0 {
			strictest = d
		}
		if strictest.Verdict == Refuse && strictest.Mode.isStrictest() {
			break // nothing is stricter
		}
	}

	if strictest.Rule == RuleOff {
		s.guardNeighbours(r, v, &strictest)
	}
	if strictest.Verdict == NeedBody {
		strictest.MaxBody = maxBody
	}
	return strictest
}

// maxApps is how many apps a request may belong to before it is not judged by their
// rules any more: one request must not cost as much as there are apps. Honest requests
// belong to one or two.
const maxApps = 16

// refuseUnclear refuses a request that may belong to more apps than are judged if any of
// them is in maintenance.
func (s *State) refuseUnclear(apps []*app, v *view) Decision {
	d := Decision{App: apps[0].spec.Name, Mode: Off, Rule: RuleOff, app: apps[0]}
	for _, a := range apps {
		if st := &v.apps[a.index]; st.activation != nil && st.activation.Mode.Compare(d.Mode) > 0 {
			d = Decision{App: a.spec.Name, Mode: st.activation.Mode, Activation: st.activation, Until: st.until, app: a}
			d.refuse(RuleUnclear)
		}
	}
	return d
}

// guardNeighbours refuses a body that the method gives no meaning, sent to an app that
// is off while another app of the same host, or one that is matched by Envoy's names, is not: the server behind both may take the
// body for a request of its own, to the closed one. Who passes to the closed app anyway
// may send it, and so may everybody where either app's rules allow bodies of GET.
func (s *State) guardNeighbours(r *Request, v *view, d *Decision) {
	body := r.unexpectedBody()
	if body == answerNo || d.app.spec.ReadOnly.GetBodies == PolicyAllow ||
		slices.ContainsFunc(d.app.exempt, func(rule grantRule) bool { return rule.bodies && rule.matches(r) }) {
		return
	}

	var closed *app
	for _, a := range append(s.onHosts(r.read(), nil), s.routed...) {
		if v.apps[a.index].activation != nil && a.spec.ReadOnly.GetBodies != PolicyAllow && a.bypass(r) == "" {
			closed = a
			break
		}
	}
	if closed == nil {
		return
	}

	st := &v.apps[closed.index]
	*d = Decision{App: closed.spec.Name, Mode: st.activation.Mode, Activation: st.activation, Until: st.until, app: closed}
	if body == answerYes {
		d.refuse(RuleGetBody)
	} else {
		d.needBody(RuleSafeMethod, 0)
	}
}

func (a *app) decide(r *Request, d *Decision) {
	d.graphql = a.mayBeGraphQL(r)

	exempt := grantedBy(a.exempt, r, a.maxBody)
	if exempt == answerYes {
		d.Rule = RuleExempt
		return
	}
	if rule := a.bypass(r); rule != "" {
		d.Rule = rule
		return
	}

	if exempt == answerNeedsBody {
		d.needBody(RuleExempt, a.maxBody)
	} else {
		*d = d.Mode.judge(a, r, *d)
	}

	// Without a word of the exemption, its author would look for the mistake elsewhere.
	if (d.Rule == RuleNoAccess || d.Rule == RuleMethod) && slices.ContainsFunc(a.exempt, func(rule grantRule) bool { return rule.matches(r) }) {
		d.refuse(RuleExemptUnclear)
	}
}

func (d *Decision) refuse(rule Rule) { d.Verdict, d.Rule = Refuse, rule }

func (d *Decision) needBody(rule Rule, maxBody int) {
	d.Verdict, d.Rule, d.MaxBody = NeedBody, rule, max(maxBody, d.MaxBody)
}
