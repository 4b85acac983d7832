package maintenance

import "github.com/drydock-proxy/drydock/filter/maintenance/graphql"

// Rule is the name of what decided on a request. The names are a contract with users: they are in
// replies, access logs and metrics. Names that begin with "graphql." are those of [graphql.Rule],
// except for RuleGraphQLQuery. What each rule means is in explanations.
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

	// By these rules the filter refuses a request, and not the core: it could not keep the request
	// paused until the body was there.
	RuleBodyTimeout Rule = "read-only.body-timeout"
	RuleBodyUnread  Rule = "read-only.body-unread"
	RuleHeldLimit   Rule = "read-only.held-limit"

	RuleGraphQLQuery Rule = "graphql.query"
)

// explanations has one sentence for each rule, except for those of the package graphql, which has
// its own: why the rule decided so, and what may help. Replies and the API show it.
var explanations = map[Rule]string{
	RuleOff:             "The app is not in maintenance.",
	RuleExempt:          "The path is exempt from maintenance.",
	RuleExemptUnclear:   "An exemption names this method and path, but it does not allow the request's upgrade, its method override, or a body that may contain one (see allow in the exemption).",
	RuleBypassIP:        "The client's address is on the allowlist.",
	RuleBypassPrincipal: "The peer's mesh identity is allowed.",
	RuleBypassClaim:     "A claim of the verified token is allowed.",
	RuleUnclear:         "The request's host or path can be read in so many ways that the request may belong to almost any app, and some apps are in maintenance; send a plain host and path.",
	RuleNoAccess:        "The app is closed for maintenance.",
	RuleSafeMethod:      "The method only reads.",
	RuleSafeRPC:         "The operator lists this RPC as one that only reads.",
	RuleWriteThrough:    "The operator lets this write through.",
	RuleWriteBody:       "The operator lets this write through, but its body may name another method; send JSON or a URL-encoded form, in UTF-8, not compressed, that names none.",
	RuleMethod:          "The method may write, and the app is read-only.",
	RuleMethodOverride:  "A method override could turn the request into a write; send it without one.",
	RuleGetBody:         "A body has no meaning with this method, and servers differ in what they do with one; send the request without it.",
	RuleGetWrites:       "The operator lists this path as one whose GET writes.",
	RuleUpgrade:         "The connection could carry writes after the upgrade.",
	RuleEventStream:     "Event streams are closed while the app is read-only.",
	RuleBodyTimeout:     "The request can only be judged with its body, which did not arrive in time.",
	RuleBodyUnread:      "The request can only be judged with its body, which could not be read; try again in a moment.",
	RuleHeldLimit:       "Too many requests are waiting to be judged; try again in a moment.",
	RuleGraphQLQuery:    "Every operation is a query.",
}

// Explain returns one sentence for the people whose request the rule decided on, or "" if there is
// no such rule.
func (r Rule) Explain() string {
	if text, ok := explanations[r]; ok {
		return text
	}
	return graphql.Rule(r).Explain()
}

// isTemporary reports whether the same request may pass in a moment, because the rule refuses it
// for a reason other than what it asks for.
func (r Rule) isTemporary() bool {
	return r == RuleHeldLimit || r == RuleBodyTimeout || r == RuleBodyUnread
}
