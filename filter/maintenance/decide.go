package maintenance

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
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

// Bypass is "ip", "principal" or "claim" for a request that the rule let through
// although its app is in maintenance, else "".
func (r Rule) Bypass() string {
	kind, _ := strings.CutPrefix(string(r), "bypass.")
	if kind == string(r) {
		return ""
	}
	return kind
}

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

func (a *app) bypass(r *Request) Rule {
	if len(a.networks) > 0 && a.networks.contain(r.Attributes.SourceAddress()) {
		return RuleBypassIP
	}
	if len(a.spec.Bypass.Principals) > 0 {
		if p := r.Attributes.Principal(); p != "" && slices.ContainsFunc(a.spec.Bypass.Principals, func(rule string) bool {
			prefix, wild := strings.CutSuffix(rule, "*")
			return p == rule || wild && strings.HasPrefix(p, prefix)
		}) {
			return RuleBypassPrincipal
		}
	}
	if a.grantsClaims(r) {
		return RuleBypassClaim
	}
	return ""
}

// readOnly judges a request to an app in read-only. Everything that is not known to
// read is refused.
func (a *app) readOnly(r *Request, d Decision) Decision {
	switch grantedBy(a.writeThrough, r, a.maxBody) {
	case answerYes:
		d.Rule = RuleWriteThrough
		return d
	case answerNeedsBody:
		d.needBody(RuleWriteThrough, a.maxBody)
		return d
	}

	for i := range a.getWrites {
		if a.getWrites[i].refuses(r) {
			d.refuse(RuleGetWrites)
			return d
		}
	}

	// Where one server may read a GraphQL path and another may not, the request must
	// pass by both rules.
	if !d.graphql || !a.onlyGraphQL(r.read()) {
		if a.http(r, &d); d.Verdict == Refuse {
			return d
		}
	}
	if d.graphql {
		a.graphQL(r, &d)
	}
	return d
}

// http judges a request by HTTP's own rules.
func (a *app) http(r *Request, d *Decision) {
	rules, ways := &a.spec.ReadOnly, r.read()
	switch {
	case ways.upgrade && rules.Upgrades != PolicyAllow:
		d.refuse(RuleUpgrade)
	case !safe(r.Method) && r.Method != "CONNECT": // over HTTP/2 an upgrade (RFC 8441)
		a.write(r, d)
	case r.overridden():
		d.refuse(RuleMethodOverride)
	case rules.EventStreams == PolicyRefuse && acceptsEventStream(r):
		d.refuse(RuleEventStream)
	default:
		d.Rule = RuleSafeMethod
		a.withoutBody(r, d)
	}
}

// write judges a request whose method may write, which no write-through rule lets pass.
func (a *app) write(r *Request, d *Decision) {
	switch {
	case r.overridden():
		d.refuse(RuleMethodOverride)
	case r.Method == "POST" && slices.ContainsFunc(a.spec.ReadOnly.SafeRPCs, r.read().surelyIs) && grpcMessages(r):
		d.Rule = RuleSafeRPC
	case slices.ContainsFunc(a.writeThrough, func(rule grantRule) bool { return rule.matches(r) }):
		d.refuse(RuleWriteBody)
	default:
		d.refuse(RuleMethod)
	}
}

// withoutBody refuses a body that the method gives no meaning, unless the operator
// allows it.
func (a *app) withoutBody(r *Request, d *Decision) {
	if a.spec.ReadOnly.GetBodies == PolicyAllow {
		return
	}
	switch r.unexpectedBody() {
	case answerYes:
		d.refuse(RuleGetBody)
	case answerNeedsBody:
		d.needBody(RuleSafeMethod, 0)
	}
}

func acceptsEventStream(r *Request) bool {
	return slices.ContainsFunc(r.anySpelling("accept"), func(v string) bool { return strings.Contains(strings.ToLower(v), "text/event-stream") })
}

// safe is RFC 9110 section 9.2.1.
func safe(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE"
}

// grpcType returns the media type of a gRPC or gRPC-Web request, or "".
func grpcType(r *Request) string {
	name, ok := r.only("content-type")
	name, _, _ = strings.Cut(name, ";")
	name = strings.ToLower(strings.TrimSpace(name))
	rest, found := strings.CutPrefix(name, "application/grpc")
	if codec, web := strings.CutPrefix(rest, "-web"); web {
		rest = strings.TrimPrefix(codec, "-text")
	}
	if ok && found && (rest == "" || rest[0] == '+' && token(rest)) {
		return name
	}
	return ""
}

// grpcMessages reports whether every server reads a body as gRPC's or gRPC-Web's messages
// of protocol buffers. Of another codec a framework takes its name, such as +json, for
// how the body is to be parsed (Slim, Laravel), and may find a method in it.
func grpcMessages(r *Request) bool {
	kind, ok := r.only("content-type")
	media, params, _ := strings.Cut(strings.ToLower(kind), ";")
	media = strings.TrimSuffix(strings.Trim(media, " \t"), "+proto")
	return ok && utf8Charset(params) && (media == "application/grpc" || media == "application/grpc-web" || media == "application/grpc-web-text")
}

// graphqlPath is a path that speaks GraphQL.
type graphqlPath struct{ exact, folded string }

// isSurely reports whether every server reads a path as the GraphQL path itself, with
// or without a last slash.
func (p *graphqlPath) isSurely(ways *readings) bool {
	bare := strings.TrimSuffix(p.exact, "/")
	return ways.surelyIs(bare) || ways.surelyIs(bare+"/")
}

// mayBeGraphQL reports whether some server may find GraphQL at a request's path. The
// JDK's HTTP server takes a context's path for a prefix of characters, so that
// "/graphqlx" is its "/graphql"; that counts for URLs with GraphQL's parameters.
func (a *app) mayBeGraphQL(r *Request) bool {
	ways := r.read()
	return slices.ContainsFunc(a.graphql, func(p graphqlPath) bool {
		return ways.mayReach(p.folded) || safe(r.Method) && ways.mayBeginWith(p.folded) && graphql.HasParameter(ways.query)
	})
}

// onlyGraphQL reports whether every server reads a path as one that speaks GraphQL.
func (a *app) onlyGraphQL(ways *readings) bool {
	return slices.ContainsFunc(a.graphql, func(p graphqlPath) bool { return p.isSurely(ways) || ways.surelyUnder(p.exact) })
}

// graphQL judges a request to a GraphQL path. It looks at the URL and the body
// whatever the method, because servers do so too.
func (a *app) graphQL(r *Request, d *Decision) {
	d.Rule = RuleGraphQLQuery
	if rule := a.graphQLRule(r, d); rule != "" {
		d.refuse(Rule(rule))
	}
}

func (a *app) graphQLRule(r *Request, d *Decision) graphql.Rule {
	ways := r.read()
	switch {
	case ways.upgrade && !a.graphQLUpgrades(r):
		return graphql.RuleUpgrade
	case r.override() != "": // no GraphQL client sends one
		return graphql.RuleMethodOverride
	case a.mayNameDocument(ways):
		return graphql.RulePath
	case safe(r.Method), ways.upgrade:
		return a.graphQLByURL(r, d)
	case r.Method != "POST":
		return graphql.RuleMethod
	case graphql.HasParameter(ways.query):
		return graphql.RuleURLParameter
	}

	rule := cmp.Or(graphql.ContentEncoding(r.anySpelling("content-encoding")), a.contentType(r))
	switch {
	case rule != "":
		return rule
	case r.announcedBytes() > a.maxBody:
		return graphql.RuleLimitBody
	case r.BodyRead || r.EndStream:
		return r.graphQLJSON(&a.options)
	}
	d.needBody(RuleGraphQLQuery, a.maxBody)
	return ""
}

// graphQLUpgrades reports whether the operator allows an upgrade on a GraphQL path. A
// server that does not upgrade a POST may still run it, so only what asks for nothing but
// the upgrade may pass.
func (a *app) graphQLUpgrades(r *Request) bool {
	return a.spec.GraphQL != nil && a.spec.GraphQL.Upgrades == PolicyAllow && (r.Method == "GET" || r.Method == "CONNECT")
}

// graphQLJSON judges the body, once for all apps with the same plain options.
func (r *Request) graphQLJSON(opt *graphql.Options) graphql.Rule {
	ways := r.read()
	plain := len(opt.ExtraKeys) == 0 && len(opt.Persisted) == 0
	limits := [...]int{opt.MaxBody, opt.MaxBatch, opt.MaxTokens, opt.MaxDepth}
	if plain && ways.graphQLRead && ways.graphQLLimits == limits && ways.graphQLBatching == opt.Batching {
		return ways.graphQLRule
	}

	rule := graphql.JSON(r.Body, opt)
	if plain {
		ways.graphQLRead, ways.graphQLLimits, ways.graphQLBatching, ways.graphQLRule = true, limits, opt.Batching, rule
	}
	return rule
}

// contentType judges the type of a GraphQL body, of which there must be only one in all
// spellings.
func (a *app) contentType(r *Request) graphql.Rule {
	if _, ok := r.only("content-type"); !ok && r.has("content-type") {
		return graphql.RuleContentType
	}
	return graphql.ContentType(r.headers("content-type"))
}

// mayNameDocument reports whether a path may lie below a GraphQL path, where it names a
// stored document to some servers (Hot Chocolate's MapGraphQLPersistedOperations), which
// they run whatever document comes with it.
func (a *app) mayNameDocument(ways *readings) bool {
	if a.spec.GraphQL != nil && a.spec.GraphQL.Below == PolicyAllow {
		return false
	}
	return !slices.ContainsFunc(a.graphql, func(p graphqlPath) bool { return p.isSurely(ways) }) &&
		slices.ContainsFunc(a.graphql, func(p graphqlPath) bool { return ways.mayLieBelow(p.folded) })
}

// graphQLByURL judges a request by a safe method, whose document is in its URL.
func (a *app) graphQLByURL(r *Request, d *Decision) graphql.Rule {
	ways := r.read()
	switch r.unexpectedBody() {
	case answerYes:
		return graphql.RuleGetBody
	case answerNeedsBody:
		d.needBody(RuleSafeMethod, 0)
	}

	switch {
	case r.Method == "OPTIONS" && !graphql.HasParameter(ways.query),
		// The path itself serves the page on which people write queries.
		ways.query == "" && slices.ContainsFunc(a.graphql, func(p graphqlPath) bool { return p.isSurely(ways) }):
		d.Rule = RuleSafeMethod
		return ""
	}
	return graphql.Query(ways.query, &a.options)
}
