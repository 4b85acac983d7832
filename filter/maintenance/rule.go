package maintenance

import "github.com/drydock-proxy/drydock/filter/maintenance/graphql"

// Rule names what decided. The strings are stable: they are in replies, access logs
// and metrics. Those that begin with "graphql." are [graphql.Rule]s.
type Rule string

const (
	RuleOff             Rule = "off"
	RuleExempt          Rule = "exempt"
	RuleExemptUnclear   Rule = "exempt.unclear"
	RuleBypassIP        Rule = "bypass.ip"
	RuleBypassPrincipal Rule = "bypass.principal"
	RuleBypassClaim     Rule = "bypass.claim"
	RuleNoAccess        Rule = "no-access"
	RuleUnclear         Rule = "unclear"

	RuleSafeMethod     Rule = "read-only.safe-method"
	RuleSafeRPC        Rule = "read-only.safe-rpc"
	RuleWriteThrough   Rule = "read-only.write-through"
	RuleWriteBody      Rule = "read-only.write-body"
	RuleMethod         Rule = "read-only.method"
	RuleMethodOverride Rule = "read-only.method-override"
	RuleGetWrites      Rule = "read-only.get-writes"
	RuleGetBody        Rule = "read-only.get-body"
	RuleUpgrade        Rule = "read-only.upgrade"
	RuleEventStream    Rule = "read-only.event-stream"

	RuleBodyTimeout Rule = "read-only.body-timeout"
	RuleBodyUnread  Rule = "read-only.body-unread"
	RuleHeldLimit   Rule = "read-only.held-limit"

	RuleGraphQLQuery Rule = "graphql.query"
)

var explanations = map[Rule]string{
	RuleOff:             "The app is not in maintenance.",
	RuleExempt:          "The path is exempt from maintenance.",
	RuleExemptUnclear:   "An exemption names this method and path, but it does not allow the request's upgrade, its method override, or a body that may hold one (see allow in the exemption).",
	RuleBypassIP:        "The client's address is on the allowlist.",
	RuleBypassPrincipal: "The peer's mesh identity is allowed.",
	RuleBypassClaim:     "A claim of the verified token is allowed.",
	RuleUnclear:         "The request's host or path can be read in so many ways that it may belong to almost any app, of which some are in maintenance; send a plain host and path.",
	RuleNoAccess:        "The app is closed for maintenance.",
	RuleSafeMethod:      "The method only reads.",
	RuleSafeRPC:         "The operator lists this RPC as one that only reads.",
	RuleWriteThrough:    "The operator lets this write through.",
	RuleWriteBody:       "The operator lets this write through, but its body may name another method; send JSON or a URL-encoded form, in UTF-8, not compressed, that names none.",
	RuleMethod:          "The method may write, and the app is read-only.",
	RuleMethodOverride:  "A method override could turn the request into a write; send it without one.",
	RuleGetBody:         "The method gives a body no meaning, and servers differ in what they do with one; send the request without it.",
	RuleGetWrites:       "The operator lists this path as one whose GET writes.",
	RuleUpgrade:         "The connection could carry writes after its upgrade.",
	RuleEventStream:     "Event streams are closed while the app is read-only.",
	RuleBodyTimeout:     "The body, without which the request cannot be judged, did not come in time.",
	RuleBodyUnread:      "The body, without which the request cannot be judged, could not be read; try again in a moment.",
	RuleHeldLimit:       "Too many requests wait to be judged; try again in a moment.",
	RuleGraphQLQuery:    "Every operation is a query.",
}

// Explain is the rule in one sentence.
func (r Rule) Explain() string {
	if text, ok := explanations[r]; ok {
		return text
	}
	return graphql.Rule(r).Explain()
}

// passing reports whether the rule refuses for a reason that is soon over, and not
// because of what the request asks for: the same request may pass in a moment.
func (r Rule) passing() bool {
	return r == RuleHeldLimit || r == RuleBodyTimeout || r == RuleBodyUnread
}
