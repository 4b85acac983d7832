package main

import (
	"context"
	"net/http"
	"runtime/debug"
	"strings"

	genqlient "github.com/Khan/genqlient/graphql"
	machinebox "github.com/machinebox/graphql"
	shurcool "github.com/shurcooL/graphql"
)

func init() {
	clients["machinebox"] = func(url string) (string, error) {
		return version("github.com/machinebox/graphql", ""), sendMachinebox(machinebox.NewClient(url))
	}
	clients["machinebox-multipart"] = func(url string) (string, error) {
		return version("github.com/machinebox/graphql", ", multipart"), sendMachinebox(machinebox.NewClient(url, machinebox.UseMultipartForm()))
	}
	clients["shurcool"] = sendShurcool
	clients["genqlient"] = func(url string) (string, error) {
		return version("github.com/Khan/genqlient", ""), sendGenqlient(genqlient.NewClient(url, http.DefaultClient))
	}
	clients["genqlient-get"] = func(url string) (string, error) {
		return version("github.com/Khan/genqlient", " GET"), sendGenqlient(genqlient.NewClientUsingGet(url, http.DefaultClient))
	}
}

// documents are queries that contain text which looks like a write.
var documents = []struct {
	name, query string
	variables   map[string]any
}{
	{"Simple", "query Simple { a b }", nil},
	{"Echo", "query Echo($x: String) { echo(x: $x) }", map[string]any{"x": "it's \"mutation { b }\" \u00e9 <b> & `make`"}},
	{"Fragments", "query Fragments { node { ...F mutation subscription } } fragment F on Query { a }", nil},
	{"mutation", "query mutation { mutation: a }", nil},
}

// Errors of reading the answers do not count: the requests are recorded.

func sendMachinebox(client *machinebox.Client) error {
	for _, d := range documents {
		r := machinebox.NewRequest(d.query)
		for k, v := range d.variables {
			r.Var(k, v)
		}
		r.Header.Set("Cache-Control", "no-cache")
		var into map[string]any
		_ = client.Run(context.Background(), r, &into)
	}
	return nil
}

func sendShurcool(url string) (string, error) {
	var query struct {
		A        shurcool.String
		Mutation shurcool.String
		Echo     shurcool.String `graphql:"echo(x: $x)"`
	}
	_ = shurcool.NewClient(url, nil).Query(context.Background(), &query, map[string]any{"x": shurcool.String("mutation { b }")})
	return version("github.com/shurcooL/graphql", ""), nil
}

func sendGenqlient(client genqlient.Client) error {
	for _, d := range documents {
		var into map[string]any
		_ = client.MakeRequest(context.Background(), &genqlient.Request{OpName: d.name, Query: d.query, Variables: d.variables}, &genqlient.Response{Data: &into})
	}
	return nil
}

// version returns the last path element of a module with the version that is linked in.
func version(module, suffix string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dep := range info.Deps {
		if dep.Path == module {
			return strings.TrimPrefix(module, "github.com/") + " " + dep.Version + suffix
		}
	}
	return module + suffix
}
