package maintenance

import (
	"slices"
	"time"
)

// This file decides what happens to a request. It first finds the apps to which the request may
// belong (match.go), and the mode of each at this moment (view.go). It then judges the request for
// each app, by the exemptions, the bypasses and the mode, and takes the strictest result.

// Verdict is what must be done with a request. A greater Verdict is stricter.
type Verdict uint8

const (
	// Pass means that the request goes on.
	Pass Verdict = iota
	// NeedBody means that the request must be paused, and decided again with Request.Body.
	NeedBody
	// Refuse means that the request must be answered with [Decision.Reply].
	Refuse
)

// String returns the name of the verdict, as the API shows it.
func (v Verdict) String() string { return [...]string{"pass", "need-body", "refuse"}[v] }

// Decision is the verdict on a request for one app, and the reasons for it.
type Decision struct {
	Verdict Verdict
	Rule    Rule
	App     string
	Mode    Mode
	// Activation is the activation that determines the mode of the app, nil if the app is off.
	Activation *Activation
	// Until is when the mode ends, zero if that is not known.
	Until time.Time
	// MaxBody is set with NeedBody: how many bytes of the body are needed. Of a longer body, one
	// byte more is enough for the next decision, which then refuses it.
	MaxBody int

	app          *app // the app that App names
	mayBeGraphQL bool // some server may find GraphQL at the path
}

// String returns the decision as access logs show it.
func (d *Decision) String() string {
	return "app=" + d.App + " mode=" + string(d.Mode) + " rule=" + string(d.Rule)
}

// Decide decides on a request at the time now.
//
// If servers may read the host or the path of the request in different ways, the request may belong
// to several apps. Then the strictest verdict counts. Among equal verdicts that of the strictest
// mode counts, and among those the one of the first app.
func (s *State) Decide(r *Request, now time.Time) Decision {
	v := s.viewAt(now)
	var buf [4]*app // enough for most requests, so that nothing is allocated
	apps := s.appsOf(r, buf[:0])

	var strictest Decision
	if len(apps) > maxCandidates {
		strictest = refuseUnclear(apps, v)
		apps = nil // they are too many to be judged by their rules
	}

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
			break // the other apps cannot make the decision stricter
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

// undecided returns the decision for an app before any of its rules was applied. It is to pass, and
// right as it is if the app is off.
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

// refuseUnclear decides on a request that may belong to more apps than are judged. It refuses the
// request if one of them is in maintenance, and names the one in the strictest mode.
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

// guardNeighbours completes the decision d on a request that passes because its app is off. The app
// may share a server with an app that is in maintenance, and a server may take a body that has no
// meaning with the method for a second request, to the other app (request smuggling). Such a body
// is refused if another app on the same host is in maintenance. Apps that match by the names of
// Envoy's routes or clusters (s.routed) may share any server, because their hosts are not known.
// The body passes if the client may use the other app anyway, or if the rules of either app allow
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

		*d = v.undecided(a) // from here on the decision is for the other app
		if body == answerYes {
			d.refuse(RuleGetBody)
		} else {
			// If the body is empty, the next decision is that of the app that is off.
			d.needBody(RuleSafeMethod, bodyMustBeEmpty)
		}

		return
	}
}

// bodyMustBeEmpty is the MaxBody of a request that passes only if its body turns out to be empty.
const bodyMustBeEmpty = 0

// allowsUnexpectedBody reports whether the rules of the app allow the request a body that has no
// meaning with its method.
func (a *app) allowsUnexpectedBody(r *Request) bool {
	return a.spec.ReadOnly.GetBodies == PolicyAllow ||
		slices.ContainsFunc(a.exempt, func(rule grantRule) bool { return rule.bodies && rule.matches(r) })
}

// judge completes the decision on a request to an app in maintenance: by the exemptions, the
// bypasses and the mode of the app, in this order. An exemption that depends on the body comes
// after the bypasses, so that a request which bypasses the maintenance is not paused.
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

	// If an exemption covers the path and the method, the refusal names the exemption. From the
	// rule of the mode alone, an operator would not see why the exemption did not apply.
	if (d.Rule == RuleNoAccess || d.Rule == RuleMethod) && slices.ContainsFunc(a.exempt, func(rule grantRule) bool { return rule.matches(r) }) {
		d.refuse(RuleExemptUnclear)
	}
}

// refuse makes the decision a refusal by the rule.
func (d *Decision) refuse(rule Rule) { d.Verdict, d.Rule = Refuse, rule }

// needBody asks for the body. The request will pass by the rule if its body allows it. If it is
// asked for twice, the longer body is needed.
func (d *Decision) needBody(rule Rule, maxBody int) {
	d.Verdict, d.Rule, d.MaxBody = NeedBody, rule, max(maxBody, d.MaxBody)
}
