package graphql

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	goast "github.com/graphql-go/graphql/language/ast"
	goparser "github.com/graphql-go/graphql/language/parser"
	"github.com/graphql-go/graphql/language/source"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/drydock-proxy/drydock/e2e/differential"
	"github.com/drydock-proxy/drydock/e2e/graphql/servers/golang/schema"
	classifier "github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// This file compares the classifier, the part of Drydock's filter that reads GraphQL, with parsers
// of GraphQL servers written in Go. A GraphQL document has one or more operations, each of a kind:
// "query" only reads, "mutation" and "subscription" may write. The classifier must refuse every
// document in which some parser finds an operation that may write. It returns a rule,
// which names the reason, or "" if the document passes.

// oracles are the parsers.
var oracles = []struct {
	name string
	// kinds returns the kind of each operation of a document, or nil if the parser refuses the
	// document.
	kinds func(doc string) []string
}{
	{"gqlparser", func(doc string) (kinds []string) {
		d, err := parser.ParseQuery(&ast.Source{Input: doc})
		if err != nil {
			return nil
		}
		for _, o := range d.Operations {
			kinds = append(kinds, string(o.Operation))
		}
		return kinds
	}},
	{"graphql-go", func(doc string) (kinds []string) {
		d, err := goparser.Parse(goparser.ParseParams{Source: source.NewSource(&source.Source{Body: []byte(doc)})})
		if err != nil {
			return nil
		}
		for _, n := range d.Definitions {
			if o, ok := n.(*goast.OperationDefinition); ok {
				kinds = append(kinds, o.Operation)
			}
		}
		return kinds
	}},
	{"gophers", gophersKinds()},
}

// gophersKinds returns the function kinds for graph-gophers/graphql-go. That package does not
// export its parser, so the function runs a document on a schema with a counter that mutations and
// subscriptions raise. A name selects the operation to run, and any name in the document may be the
// name of an operation. The kinds that it returns are not one for each operation: a "query" for
// each name that runs without an error, and a "mutation" if the counter rose.
func gophersKinds() func(doc string) []string {
	const maxNames = 8 // more names than any operation of the corpus has before it

	var counter atomic.Int64
	sdl, err := os.ReadFile("servers/schema.graphql")
	if err != nil {
		panic(err)
	}
	s, err := schema.Gophers(string(sdl), &counter)
	if err != nil {
		panic(err)
	}
	name := regexp.MustCompile(`[_A-Za-z][_0-9A-Za-z]*`)

	return func(doc string) (kinds []string) {
		before := counter.Load()
		operations := []string{""} // "" runs the only operation
		for _, n := range name.FindAllString(doc, maxNames) {
			if !slices.Contains(operations, n) {
				operations = append(operations, n)
			}
		}

		for _, o := range operations {
			if len(s.Exec(context.Background(), doc, o, nil).Errors) == 0 {
				kinds = append(kinds, "query")
			}
		}

		if counter.Load() != before {
			kinds = append(kinds, "mutation")
		}
		return kinds
	}
}

// mayWrite reports whether there is an operation that is not a query.
func mayWrite(kinds []string) bool {
	return slices.ContainsFunc(kinds, func(k string) bool { return k != "query" })
}

// checkDocument fails the test if the classifier lets a document pass in which some oracle finds an
// operation that may write. It returns the classifier's rule, or
// "", and how many oracles find queries in the document and nothing else.
func checkDocument(t testing.TB, doc string) (rule classifier.Rule, onlyQueries int) {
	t.Helper()
	rule = classifier.Document([]byte(doc), nil)
	for _, o := range oracles {
		kinds := o.kinds(doc)
		switch {
		case len(kinds) == 0: // refused by the oracle
		case !mayWrite(kinds):
			onlyQueries++
		case rule == "":
			t.Errorf("%s finds %v, and the classifier lets it pass: %+q", o.name, kinds, doc)
		}
	}
	return rule, onlyQueries
}

// FuzzDocument compares the classifier with the oracles on documents, beginning with the corpus.
func FuzzDocument(f *testing.F) {
	for _, docs := range [][]string{queries, writes, disputed} {
		for _, doc := range docs {
			f.Add(doc)
		}
	}
	f.Fuzz(func(t *testing.T, doc string) { checkDocument(t, doc) })
}

// TestMutationsThatParsersFindAreRefused checks generated documents, ten times as many as
// TestNoWriteReachesAServer sends. It also logs how many documents that only query are refused, and
// requires that each of those contains the word "mutation" or "subscription". A document counts as
// one that only queries if two oracles agree on it, because each oracle alone accepts documents
// that the specification of GraphQL does not allow.
func TestMutationsThatParsersFindAreRefused(t *testing.T) {
	n := 10 * *requests
	queries, refused := 0, map[classifier.Rule]int{} // documents that only query
	for i := range n {
		d := &dice{differential.NewDice(*seed, i)}
		doc, _ := d.document()
		rule, agreeing := checkDocument(t, doc)
		if agreeing < 2 {
			continue
		}

		queries++
		if rule == "" {
			continue
		}
		refused[rule]++
		if !strings.Contains(doc, "mutation") && !strings.Contains(doc, "subscription") {
			t.Errorf("%s refuses a query with neither keyword in it: %+q", rule, doc)
		}
	}

	total := 0
	for _, n := range refused {
		total += n
	}
	t.Logf("seed %d: of %d documents %d only query; %.2f %% of these are refused, all with a keyword in them: %v", *seed, n, queries, differential.Percent(int64(total), int64(queries)), refused)
}

// documentsIn returns the documents that servers written in Go may find in the body of a request,
// each way of reading it with encoding/json that they use. A document may be in the result twice.
func documentsIn(body []byte) (docs []string) {
	type request struct{ Query string }

	// A field of a struct takes the last member whose name is "query" in any case.
	var one request
	if json.Unmarshal(body, &one) == nil {
		docs = append(docs, one.Query)
	}

	// A decoder reads the first value, whatever follows it.
	var first request
	if json.NewDecoder(bytes.NewReader(body)).Decode(&first) == nil {
		docs = append(docs, first.Query)
	}

	var batch []request
	if json.Unmarshal(body, &batch) == nil {
		for _, r := range batch {
			docs = append(docs, r.Query)
		}
	}

	// A map distinguishes the case of names.
	var members map[string]any
	if json.Unmarshal(body, &members) == nil {
		if doc, ok := members["query"].(string); ok {
			docs = append(docs, doc)
		}
	}
	return docs
}

// FuzzBody compares the classifier with the oracles on bodies of requests: JSON with a document, or
// with a batch of them. If the classifier lets a body pass, no oracle may find an operation that
// may write in any document that encoding/json finds in the body.
func FuzzBody(f *testing.F) {
	for _, r := range seeds() {
		f.Add(r.Body)
	}
	for _, rec := range recordedRequests(f) {
		f.Add([]byte(rec.Body))
	}

	allowBatches := &classifier.Options{Batching: true}
	f.Fuzz(func(t *testing.T, body []byte) {
		if classifier.JSON(body, allowBatches) != "" {
			return // refused, which is never wrong here
		}
		for _, doc := range documentsIn(body) {
			for _, o := range oracles {
				if kinds := o.kinds(doc); mayWrite(kinds) {
					t.Errorf("%s finds %v in %+q of %+q, and the classifier lets it pass", o.name, kinds, doc, body)
				}
			}
		}
	})
}

// sampleQuery returns a query of about size bytes, in the form that generated clients send. It has
// as many fields with arguments as fit.
func sampleQuery(size int) string {
	const lastField = 180 // bytes that a field and the end of the document take, at most

	var b strings.Builder
	b.WriteString("query Products($first: Int = 20, $after: String, $filter: Filter!) {\n")
	for i := 0; b.Len() < size-lastField; i++ {
		fmt.Fprintf(&b, "  alias%d: products(first: $first, after: $after, where: {name: \"value %d\", price: {gte: %d.5}}) @include(if: true) {\n    edges { node { id name ...Price } }\n  }\n", i, i, i)
	}
	b.WriteString("}\n\nfragment Price on Product {\n  price { amount currency }\n}\n")
	return b.String()
}

// BenchmarkParse measures how long the classifier takes for a query beside two parsers. It is
// faster for a document without the word "mutation" ("drydock") than for one in which a field has
// that name ("drydock-keyword"), because then it has to find out where strings and comments end.
func BenchmarkParse(b *testing.B) {
	manyTokens := &classifier.Options{MaxTokens: 1 << 20} // so that the largest query passes

	for _, size := range []int{1 << 10, 10 << 10, 100 << 10} {
		doc := sampleQuery(size)
		keyword := strings.Replace(doc, "name", "mutation", 1)
		envelope := []byte(object(`"operationName"`, `"Products"`, `"variables"`, `{"first":20}`, `"query"`, quote(doc)))
		name := fmt.Sprintf("%dkB", size>>10)

		run := func(parser string, bytes int, parse func() error) {
			b.Run(parser+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(bytes))
				b.ReportAllocs()
				for b.Loop() {
					if err := parse(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		errorOf := func(r classifier.Rule) error { // nil for a document that passes
			if r != "" {
				return fmt.Errorf("refused by %s", r)
			}
			return nil
		}

		raw, withKeyword := []byte(doc), []byte(keyword)
		run("drydock", len(raw), func() error { return errorOf(classifier.Document(raw, manyTokens)) })
		run("drydock-keyword", len(withKeyword), func() error { return errorOf(classifier.Document(withKeyword, manyTokens)) })
		run("drydock-json", len(envelope), func() error { return errorOf(classifier.JSON(envelope, manyTokens)) })
		run("gqlparser", len(raw), func() error {
			_, err := parser.ParseQuery(&ast.Source{Input: doc})
			return err
		})
		run("graphql-go", len(raw), func() error {
			_, err := goparser.Parse(goparser.ParseParams{Source: source.NewSource(&source.Source{Body: raw})})
			return err
		})
	}
}
