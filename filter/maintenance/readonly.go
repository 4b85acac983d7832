package maintenance

import (
	"cmp"
	"slices"
	"strings"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

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
