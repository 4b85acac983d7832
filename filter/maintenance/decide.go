package maintenance

import (
	"slices"
	"time"
)

// Verdict is what must be done with a request.
type Verdict uint8

const (
	// Pass means that the request goes on.
	Pass Verdict = iota
	// NeedBody means that the request must be paused, and decided again with Request.Body.
	NeedBody
	// Refuse means that the request must be answered with [Decision.Reply].
	Refuse
)

func (v Verdict) String() string { return [...]string{"pass", "need-body", "refuse"}[v] }

// Decision is the verdict on a request, and the reasons for it.
type Decision struct {
	Verdict Verdict
	Rule    Rule
	App     string
	Mode    Mode
	// Activation is the one that decides the mode of the app, nil if the app is off.
	Activation *Activation
	// Until is when the mode ends, zero if that is not known.
	Until time.Time
	// MaxBody is set with NeedBody: how many bytes of the body are read. Of a longer body, one byte
	// more is enough for the next decision, which then refuses it.
	MaxBody int

	app          *app
	mayBeGraphQL bool // some server may find GraphQL at the path
}

// String returns the decision as access logs show it.
func (d *Decision) String() string {
	return "app=" + d.App + " mode=" + string(d.Mode) + " rule=" + string(d.Rule)
}

// Decide decides on a request.
//
// If servers may read its host or path in different ways, the request may belong to several apps.
// Then the strictest verdict counts, and no exemption applies.
func (s *State) Decide(r *Request, now time.Time) Decision {
	v := s.viewAt(now)
	var buf [4]*app
	apps := s.appsOf(r, buf[:0])
	if len(apps) > maxCandidates {
		return refuseUnclear(apps, v)
	}

	var strictest Decision
	maxBody := 0
	for i, a := range apps {
		d := v.undecided(a)
		if d.Activation != nil {
			a.judge(r, &d)
		}

		maxBody = max(maxBody, d.MaxBody)
		if i == 0 || d.Verdict > strictest.Verdict || d.Verdict == strictest.Verdict && d.Mode.Compare(strictest.Mode) > 0 {
			strictest = d
		}
		if strictest.Verdict == Refuse && strictest.Mode.isStrictest() {
			break // the other apps cannot make it stricter
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

// undecided returns the decision for an app before any rule was asked: to pass, because it is off.
func (v *view) undecided(a *app) Decision {
	d := Decision{App: a.spec.Name, Mode: Off, Rule: RuleOff, app: a}
	if av := &v.apps[a.index]; av.activation != nil {
		d.Mode, d.Activation, d.Until = av.activation.Mode, av.activation, av.until
	}
	return d
}

// maxCandidates is the number of apps to which a request may belong and still be judged by their
// rules. Honest requests belong to one or two. Past it the cost of a request would grow with the
// number of apps.
const maxCandidates = 16

// refuseUnclear refuses a request that may belong to too many apps, if one of them is in
// maintenance.
func refuseUnclear(apps []*app, v *view) Decision {
	strictest := v.undecided(apps[0])
	for _, a := range apps[1:] {
		if d := v.undecided(a); d.Mode.Compare(strictest.Mode) > 0 {
			strictest = d
		}
	}

	if strictest.Activation != nil {
		strictest.refuse(RuleUnclear)
	}

	return strictest
}

// guardNeighbours looks at a body that has no meaning with the method, sent to an app that is off.
// If another app on the same host, or one that matches by Envoy's names, is in maintenance, the
// server behind both may take the body for a request of its own, to the other app. The body is then
// refused, unless the client may pass to the other app anyway, or the rules of either app allow
// bodies of GET.
func (s *State) guardNeighbours(r *Request, v *view, d *Decision) {
	body := r.hasUnexpectedBody()
	if body == answerNo || d.app.allowsUnexpectedBody(r) {
		return
	}

	for _, a := range append(s.appsOnHosts(r.interpret(), nil), s.routed...) {
		if v.apps[a.index].activation == nil || a.spec.ReadOnly.GetBodies == PolicyAllow || a.bypassRule(r) != "" {
			continue
		}

		*d = v.undecided(a)
		if body == answerYes {
			d.refuse(RuleGetBody)
		} else {
			d.needBody(RuleSafeMethod, 0)
		}

		return
	}
}

// allowsUnexpectedBody reports whether the rules of the app allow the request a body that has no
// meaning with its method.
func (a *app) allowsUnexpectedBody(r *Request) bool {
	return a.spec.ReadOnly.GetBodies == PolicyAllow ||
		slices.ContainsFunc(a.exempt, func(rule grantRule) bool { return rule.bodies && rule.matches(r) })
}

// judge decides on a request to an app in maintenance: by its exemptions, its bypasses and its
// mode.
func (a *app) judge(r *Request, d *Decision) {
	d.mayBeGraphQL = a.mayBeGraphQL(r)

	exempt := grantedBy(a.exempt, r, a.maxBody)
	if exempt == answerYes {
		d.Rule = RuleExempt
		return
	}
	if rule := a.bypassRule(r); rule != "" {
		d.Rule = rule
		return
	}
	if exempt == answerNeedsBody {
		d.needBody(RuleExempt, a.maxBody)
		return
	}

	d.Mode.judge(a, r, d)

	// An operator who reads of the mode alone would not look for the reason in the exemption.
	if (d.Rule == RuleNoAccess || d.Rule == RuleMethod) && slices.ContainsFunc(a.exempt, func(rule grantRule) bool { return rule.matches(r) }) {
		d.refuse(RuleExemptUnclear)
	}
}

func (d *Decision) refuse(rule Rule) { d.Verdict, d.Rule = Refuse, rule }

// needBody asks for the body. The rule is the one that may then let the request pass.
func (d *Decision) needBody(rule Rule, maxBody int) {
	d.Verdict, d.Rule, d.MaxBody = NeedBody, rule, max(maxBody, d.MaxBody)
}
