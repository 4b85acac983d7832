// Package graphql tests Drydock's mode read-only with real GraphQL servers. Each of the sixteen
// servers has a counter that only a mutation or a subscription raises. A generator makes requests
// from a corpus, and the tests send them to each server through a [differential.Gate], which
// refuses writes: no counter may ever rise.
//
// The corpus is in corpus.go and seeds.go. generate.go puts requests together from documents.go,
// envelopes.go, transport.go, disguise.go and http2.go. invariant_test.go has the rule that no
// write reaches a server, clients_test.go and audits_test.go what must pass, malformed_test.go what
// may be answered 400, parsers_test.go compares the classifier with other parsers, and
// servers_test.go says what the servers do without a gate.
package graphql

import "github.com/drydock-proxy/drydock/e2e/differential"

// rig is the servers. Each is a program in servers/ (see [differential.Command]), and all have the
// schema servers/schema.graphql.
var rig = differential.Rig{Commands: []differential.Command{
	{Name: "apollo", Args: differential.Node("node", "apollo")},
	{Name: "apollo2", Args: differential.Node("node15", "apollo2")},
	{Name: "yoga", Args: differential.Node("node", "yoga")},
	{Name: "graphql-http", Args: differential.Node("node", "graphql-http")},
	{Name: "mercurius", Args: differential.Node("node", "mercurius")},
	{Name: "express-graphql", Args: differential.Node("node15", "express-graphql")},
	{Name: "helix", Args: differential.Node("node15", "helix")},
	{Name: "strawberry", Args: differential.Python("strawberry")},
	{Name: "ariadne", Args: differential.Python("ariadne")},
	{Name: "graphene-django", Args: differential.Python("graphene_django")},
	{Name: "core-flask", Args: differential.Python("core_flask")},
	{Name: "gophers", Args: differential.Go("gophers")},
	{Name: "graphql-go", Args: differential.Go("graphql-go")},
	{Name: "graphql-java", Args: differential.Java("Server", "-Xss4m")},
	{Name: "graphql-ruby", Args: differential.Ruby("server")},
	{Name: "rails", Args: differential.Ruby("rails")},
}}
