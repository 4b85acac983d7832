package maintenance

import (
	"cmp"
	"slices"
	"strings"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// This file has what read-only lets pass: requests that provably write nothing, and the writes that
// the operator lets through. On a GraphQL path this depends on the document in the request, which
// the package graphql judges. Elsewhere it depends on the method and the headers. The functions
// whose names begin with judge complete a Decision d, which passes unless they refuse or ask for
// the body.

// judgeReadOnly judges a request to an app in read-only. It refuses whatever is not known to read.
func (a *app) judgeReadOnly(r *Request, d *Decision) {
	switch grantedBy(a.writeThrough, r, a.maxBody) {
	case answerYes:
		d.Rule = RuleWriteThrough
		return
	case answerNeedsBody:
		d.needBody(RuleWriteThrough, a.maxBody)
		return
	}

	for i := range a.getWrites {
		if a.getWrites[i].refuses(r) {
			d.refuse(RuleGetWrites)
			return
		}
	}

	// If some servers may find GraphQL at the path and others may not, the request must pass by the
	// rules for both.
	if !d.mayBeGraphQL || !a.surelyServesGraphQL(r.interpret()) {
		if a.judgeHTTP(r, d); d.Verdict == Refuse {
			return
		}
	}

	if d.mayBeGraphQL {
		a.judgeGraphQL(r, d)
	}
}

// judgeHTTP judges a request by the rules of HTTP.
func (a *app) judgeHTTP(r *Request, d *Decision) {
	rules := &a.spec.ReadOnly
	switch {
	case r.interpret().upgrade && rules.Upgrades != PolicyAllow:
		d.refuse(RuleUpgrade)
	case !isSafeMethod(r.Method) && r.Method != "CONNECT": // CONNECT is an upgrade (RFC 8441)
		a.judgeWrite(r, d)
	case r.isOverridden():
		d.refuse(RuleMethodOverride)
	case rules.EventStreams == PolicyRefuse && acceptsEventStream(r):
		d.refuse(RuleEventStream)
	default:
		d.Rule = RuleSafeMethod
		a.judgeUnexpectedBody(r, d)
	}
}

// judgeWrite judges a request whose method may write, and which no write-through rule lets pass.
func (a *app) judgeWrite(r *Request, d *Decision) {
	switch {
	case r.isOverridden():
		d.refuse(RuleMethodOverride)
	case r.Method == "POST" && slices.ContainsFunc(a.spec.ReadOnly.SafeRPCs, r.interpret().surelyIs) && hasGRPCMessages(r):
		d.Rule = RuleSafeRPC
	case slices.ContainsFunc(a.writeThrough, func(rule grantRule) bool { return rule.matches(r) }):
		d.refuse(RuleWriteBody)
	default:
		d.refuse(RuleMethod)
	}
}

// judgeUnexpectedBody refuses a body that has no meaning with the method, unless the operator
// allows it.
func (a *app) judgeUnexpectedBody(r *Request, d *Decision) {
	if a.spec.ReadOnly.GetBodies == PolicyAllow {
		return
	}

	switch r.hasUnexpectedBody() {
	case answerYes:
		d.refuse(RuleGetBody)
	case answerNeedsBody:
		d.needBody(RuleSafeMethod, bodyMustBeEmpty)
	}
}

// acceptsEventStream reports whether a request may ask for server-sent events, which begin with a
// GET that accepts text/event-stream (WHATWG HTML, "Server-sent events").
func acceptsEventStream(r *Request) bool {
	return slices.ContainsFunc(r.valuesInAnySpelling("accept"), func(value string) bool {
		return strings.Contains(strings.ToLower(value), "text/event-stream")
	})
}

// isSafeMethod reports whether a method is safe (RFC 9110 section 9.2.1).
func isSafeMethod(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE"
}

// hasGRPCMessages reports whether every server reads a body as protobuf messages of gRPC or
// gRPC-Web. Another codec does not count: some frameworks parse the body by the codec's name, such
// as +json (Slim, Laravel), and may find a method in it.
func hasGRPCMessages(r *Request) bool {
	kind, ok := r.soleValue("content-type")
	media, params, _ := strings.Cut(strings.ToLower(kind), ";")
	media = strings.TrimSuffix(strings.Trim(media, " \t"), "+proto")

	return ok && isUTF8Charset(params) && (media == "application/grpc" || media == "application/grpc-web" || media == "application/grpc-web-text")
}

// graphqlPath is a path that serves GraphQL: as written, and in lower case.
type graphqlPath struct{ exact, folded string }

// isSurely reports whether every server reads the path of a request as the GraphQL path itself,
// with or without a last slash.
func (p *graphqlPath) isSurely(rs *readings) bool {
	bare := strings.TrimSuffix(p.exact, "/")
	return rs.surelyIs(bare) || rs.surelyIs(bare+"/")
}

// mayBeGraphQL reports whether some server may find GraphQL at the path of a request. The HTTP
// server of the JDK compares paths without regard to segments, so that "/graphqlx" leads to its
// "/graphql". Many honest paths begin so, and therefore this only counts if the URL has parameters
// of GraphQL.
func (a *app) mayBeGraphQL(r *Request) bool {
	rs := r.interpret()
	return slices.ContainsFunc(a.graphqlPaths, func(p graphqlPath) bool {
		return rs.mayReach(p.folded) || isSafeMethod(r.Method) && rs.mayBeginWith(p.folded) && graphql.HasParameter(rs.query)
	})
}

// surelyServesGraphQL reports whether every server reads a path as one that serves GraphQL.
func (a *app) surelyServesGraphQL(rs *readings) bool {
	return slices.ContainsFunc(a.graphqlPaths, func(p graphqlPath) bool { return p.isSurely(rs) || rs.surelyUnder(p.exact) })
}

// judgeGraphQL judges a request to a GraphQL path. It looks at the URL and the body whatever the
// method is, because servers do so too.
func (a *app) judgeGraphQL(r *Request, d *Decision) {
	d.Rule = RuleGraphQLQuery
	if rule := a.graphQLRule(r, d); rule != "" {
		d.refuse(Rule(rule))
	}
}

// graphQLRule returns the rule that refuses a request to a GraphQL path, or "" if none does. If the
// answer depends on the body, it returns "" and sets NeedBody in d.
func (a *app) graphQLRule(r *Request, d *Decision) graphql.Rule {
	rs := r.interpret()
	switch {
	case rs.upgrade && !a.graphQLUpgrades(r):
		return graphql.RuleUpgrade
	case r.overrideMethod() != "": // no GraphQL client sends one
		return graphql.RuleMethodOverride
	case a.mayNameDocument(rs):
		return graphql.RulePath
	case isSafeMethod(r.Method), rs.upgrade:
		return a.graphQLURLRule(r, d)
	case r.Method != "POST":
		return graphql.RuleMethod
	case graphql.HasParameter(rs.query):
		return graphql.RuleURLParameter
	}

	rule := cmp.Or(graphql.ContentEncoding(r.valuesInAnySpelling("content-encoding")), a.contentTypeRule(r))
	switch {
	case rule != "":
		return rule
	case r.announcedBytes() > a.maxBody:
		return graphql.RuleLimitBody
	case r.BodyRead || r.EndStream:
		return r.graphQLJSON(&a.graphqlOptions)
	}

	d.needBody(RuleGraphQLQuery, a.maxBody)
	return ""
}

// graphQLUpgrades reports whether the operator allows an upgrade on a GraphQL path. A server that
// does not upgrade a POST may still run it, so only methods without an effect of their own pass.
func (a *app) graphQLUpgrades(r *Request) bool {
	return a.spec.GraphQL != nil && a.spec.GraphQL.Upgrades == PolicyAllow && (r.Method == "GET" || r.Method == "CONNECT")
}

// graphQLJSON returns the rule that refuses a GraphQL request by its body, or "". The result is
// kept for further apps with the same options. It is not kept if the options have lists, which
// would have to be compared.
func (r *Request) graphQLJSON(opt *graphql.Options) graphql.Rule {
	rs := r.interpret()
	hasNoLists := len(opt.ExtraKeys) == 0 && len(opt.Persisted) == 0
	limits := [...]int{opt.MaxBody, opt.MaxBatch, opt.MaxTokens, opt.MaxDepth}
	if hasNoLists && rs.graphQLRead && rs.graphQLLimits == limits && rs.graphQLBatching == opt.Batching {
		return rs.graphQLRule
	}

	rule := graphql.JSON(r.Body, opt)
	if hasNoLists {
		rs.graphQLRead, rs.graphQLLimits, rs.graphQLBatching, rs.graphQLRule = true, limits, opt.Batching, rule
	}

	return rule
}

// contentTypeRule returns the rule that refuses a GraphQL request by its Content-Type, or "". It
// refuses a header that is there in a second spelling, because servers may read either.
func (a *app) contentTypeRule(r *Request) graphql.Rule {
	if _, ok := r.soleValue("content-type"); !ok && r.hasInAnySpelling("content-type") {
		return graphql.RuleContentType
	}
	return graphql.ContentType(r.headerValues("content-type"))
}

// isGraphQLPath reports whether every server reads a path as one of the GraphQL paths themselves.
func (a *app) isGraphQLPath(rs *readings) bool {
	return slices.ContainsFunc(a.graphqlPaths, func(p graphqlPath) bool { return p.isSurely(rs) })
}

// mayNameDocument reports whether a path may lie below a GraphQL path, where for some servers it
// names a stored document (Hot Chocolate's MapGraphQLPersistedOperations). They run that document
// whatever the request contains.
func (a *app) mayNameDocument(rs *readings) bool {
	if a.spec.GraphQL != nil && a.spec.GraphQL.Below == PolicyAllow {
		return false
	}

	return !a.isGraphQLPath(rs) &&
		slices.ContainsFunc(a.graphqlPaths, func(p graphqlPath) bool { return rs.mayLieBelow(p.folded) })
}

// graphQLURLRule does what graphQLRule does, for a request whose document is in its URL.
func (a *app) graphQLURLRule(r *Request, d *Decision) graphql.Rule {
	rs := r.interpret()
	switch r.hasUnexpectedBody() {
	case answerYes:
		return graphql.RuleGetBody
	case answerNeedsBody:
		d.needBody(RuleSafeMethod, bodyMustBeEmpty)
	}

	isPreflight := r.Method == "OPTIONS" && !graphql.HasParameter(rs.query)
	isEditor := rs.query == "" && a.isGraphQLPath(rs) // where servers show an editor for queries
	if isPreflight || isEditor {
		d.Rule = RuleSafeMethod
		return ""
	}

	return graphql.Query(rs.query, &a.graphqlOptions)
}
