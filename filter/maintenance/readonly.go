package maintenance

import (
	"cmp"
	"slices"
	"strings"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// readOnly judges a request to an app in read-only. It refuses whatever is not known to read.
func (a *app) readOnly(r *Request, d *Decision) {
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
	if !d.graphql || !a.onlyGraphQL(r.read()) {
		if a.http(r, d); d.Verdict == Refuse {
			return
		}
	}

	if d.graphql {
		a.graphQL(r, d)
	}
}

// http judges a request by the rules of HTTP.
func (a *app) http(r *Request, d *Decision) {
	rules := &a.spec.ReadOnly
	switch {
	case r.read().upgrade && rules.Upgrades != PolicyAllow:
		d.refuse(RuleUpgrade)
	case !safe(r.Method) && r.Method != "CONNECT": // which over HTTP/2 is an upgrade (RFC 8441)
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

// write judges a request whose method may write, and which no write-through rule lets pass.
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

// withoutBody refuses a body that has no meaning with the method, unless the operator allows it.
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
	return slices.ContainsFunc(r.anySpelling("accept"), func(value string) bool {
		return strings.Contains(strings.ToLower(value), "text/event-stream")
	})
}

// safe reports whether a method is safe (RFC 9110 section 9.2.1).
func safe(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE"
}

// grpcMessages reports whether every server reads a body as protobuf messages of gRPC or gRPC-Web.
// Another codec does not count: some frameworks parse the body by the codec's name, such as +json
// (Slim, Laravel), and may find a method in it.
func grpcMessages(r *Request) bool {
	kind, ok := r.only("content-type")
	media, params, _ := strings.Cut(strings.ToLower(kind), ";")
	media = strings.TrimSuffix(strings.Trim(media, " \t"), "+proto")

	return ok && utf8Charset(params) && (media == "application/grpc" || media == "application/grpc-web" || media == "application/grpc-web-text")
}

// graphqlPath is a path that serves GraphQL: as written, and in lower case.
type graphqlPath struct{ exact, folded string }

// isSurely reports whether every server reads the path of a request as the GraphQL path itself,
// with or without a last slash.
func (p *graphqlPath) isSurely(ways *readings) bool {
	bare := strings.TrimSuffix(p.exact, "/")
	return ways.surelyIs(bare) || ways.surelyIs(bare+"/")
}

// mayBeGraphQL reports whether some server may find GraphQL at the path of a request. The HTTP
// server of the JDK compares paths without regard to segments, so that "/graphqlx" leads to its
// "/graphql"; this counts if the URL has parameters of GraphQL.
func (a *app) mayBeGraphQL(r *Request) bool {
	ways := r.read()
	return slices.ContainsFunc(a.graphql, func(p graphqlPath) bool {
		return ways.mayReach(p.folded) || safe(r.Method) && ways.mayBeginWith(p.folded) && graphql.HasParameter(ways.query)
	})
}

// onlyGraphQL reports whether every server reads a path as one that serves GraphQL.
func (a *app) onlyGraphQL(ways *readings) bool {
	return slices.ContainsFunc(a.graphql, func(p graphqlPath) bool { return p.isSurely(ways) || ways.surelyUnder(p.exact) })
}

// graphQL judges a request to a GraphQL path. It looks at the URL and the body whatever the method
// is, because servers do so too.
func (a *app) graphQL(r *Request, d *Decision) {
	d.Rule = RuleGraphQLQuery
	if rule := a.graphQLRule(r, d); rule != "" {
		d.refuse(Rule(rule))
	}
}

// graphQLRule returns the rule that refuses a request to a GraphQL path, or "". If it needs the
// body to answer, it says so in d.
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

// graphQLUpgrades reports whether the operator allows an upgrade on a GraphQL path. A server that
// does not upgrade a POST may still run it, so only methods without an effect of their own pass.
func (a *app) graphQLUpgrades(r *Request) bool {
	return a.spec.GraphQL != nil && a.spec.GraphQL.Upgrades == PolicyAllow && (r.Method == "GET" || r.Method == "CONNECT")
}

// graphQLJSON judges the body. Apps with the same options share the result, unless the options have
// lists.
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

// contentType judges the type of a GraphQL body. The header must not be there in another spelling
// as well.
func (a *app) contentType(r *Request) graphql.Rule {
	if _, ok := r.only("content-type"); !ok && r.has("content-type") {
		return graphql.RuleContentType
	}
	return graphql.ContentType(r.headers("content-type"))
}

// isGraphQLPath reports whether every server reads a path as one of the GraphQL paths themselves.
func (a *app) isGraphQLPath(ways *readings) bool {
	return slices.ContainsFunc(a.graphql, func(p graphqlPath) bool { return p.isSurely(ways) })
}

// mayNameDocument reports whether a path may lie below a GraphQL path, where for some servers it
// names a stored document (Hot Chocolate's MapGraphQLPersistedOperations). They run that document
// whatever the request contains.
func (a *app) mayNameDocument(ways *readings) bool {
	if a.spec.GraphQL != nil && a.spec.GraphQL.Below == PolicyAllow {
		return false
	}

	return !a.isGraphQLPath(ways) &&
		slices.ContainsFunc(a.graphql, func(p graphqlPath) bool { return ways.mayLieBelow(p.folded) })
}

// graphQLByURL judges a request with a safe method, whose document is in its URL.
func (a *app) graphQLByURL(r *Request, d *Decision) graphql.Rule {
	ways := r.read()
	switch r.unexpectedBody() {
	case answerYes:
		return graphql.RuleGetBody
	case answerNeedsBody:
		d.needBody(RuleSafeMethod, 0)
	}

	isPreflight := r.Method == "OPTIONS" && !graphql.HasParameter(ways.query)
	isEditor := ways.query == "" && a.isGraphQLPath(ways) // where servers show an editor for queries
	if isPreflight || isEditor {
		d.Rule = RuleSafeMethod
		return ""
	}

	return graphql.Query(ways.query, &a.options)
}
