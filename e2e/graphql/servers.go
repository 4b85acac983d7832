// Package graphql holds read-only against GraphQL servers as they are: sixteen of them run, each with a counter that
// only a mutation or a subscription raises, and what a generator makes of a corpus goes to each through a
// [differential.Gate]. No counter may ever rise.
package graphql

import "github.com/drydock-proxy/drydock/e2e/differential"

// rig is the servers, each as it is started.
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
