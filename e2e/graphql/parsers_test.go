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

// oracles are parsers of GraphQL servers. Each says which operations a document has.
var oracles = []struct {
	name string
	// kinds returns the kinds of the operations of a document, or nil if the parser refuses it.
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

// gophersKinds runs documents, because graph-gophers does not export its parser.
func gophersKinds() func(doc string) []string {
	var counter atomic.Int64
	sdl, err := os.ReadFile("servers/schema.graphql")
	if err != nil {
		panic(err)
	}
	s, err := schema.Gophers(string(sdl), &counter)
	if err != nil {
		panic(err)
	}
	names := regexp.MustCompile(`[_A-Za-z][_0-9A-Za-z]*`)

	return func(doc string) (kinds []string) {
		before := counter.Load()
		operations := []string{""}
		for _, n := range names.FindAllString(doc, 8) {
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

func mutates(kinds []string) bool {
	return slices.ContainsFunc(kinds, func(k string) bool { return k != "query" })
}

// judge compares the classifier's decision on a document with what every oracle finds. It returns
// the decision, and how many oracles find queries and nothing else.
func judge(t testing.TB, doc string) (rule classifier.Rule, queries int) {
	t.Helper()
	rule = classifier.Document([]byte(doc), nil)
	for _, o := range oracles {
		kinds := o.kinds(doc)
		switch {
		case !mutates(kinds):
			queries += min(len(kinds), 1)
		case rule == "":
			t.Errorf("%s finds %v, and the classifier lets it pass: %+q", o.name, kinds, doc)
		}
	}
	return rule, queries
}

// FuzzDocument compares the classifier with parsers of Go servers.
func FuzzDocument(f *testing.F) {
	for _, docs := range [][]string{queries, writes, disputed} {
		for _, doc := range docs {
			f.Add(doc)
		}
	}
	f.Fuzz(func(t *testing.T, doc string) { judge(t, doc) })
}

// TestMutationsThatParsersFindAreRefused judges generated documents, ten times as many as
// TestNoWriteReachesAServer sends, and logs how many queries are refused. A query that has neither
// keyword in it must not be refused. What is a query is decided by two parsers, because each of
// them accepts some documents that are not.
func TestMutationsThatParsersFindAreRefused(t *testing.T) {
	n := 10 * *requests
	queries, refused := 0, map[classifier.Rule]int{}
	for i := range n {
		d := &dice{differential.NewDice(*seed, i)}
		doc, _ := d.document()
		rule, agree := judge(t, doc)
		if agree < 2 {
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

// decoded returns the documents that Go servers find in a body. encoding/json folds the names of
// fields and takes the last of equal ones, and as a stream it stops after the first value. A map
// does not fold names.
func decoded(body []byte) (docs []string) {
	type request struct{ Query string }
	var one, first request
	var batch []request
	var names map[string]any

	if json.Unmarshal(body, &one) == nil {
		docs = append(docs, one.Query)
	}
	if json.NewDecoder(bytes.NewReader(body)).Decode(&first) == nil {
		docs = append(docs, first.Query)
	}
	if json.Unmarshal(body, &batch) == nil {
		for _, r := range batch {
			docs = append(docs, r.Query)
		}
	}

	if json.Unmarshal(body, &names) == nil {
		if doc, ok := names["query"].(string); ok {
			docs = append(docs, doc)
		}
	}
	return docs
}

// FuzzBody compares the reader of envelopes with what encoding/json and the parsers find in a body.
func FuzzBody(f *testing.F) {
	for _, r := range seeds() {
		f.Add(r.Body)
	}
	for _, c := range clients(f) {
		f.Add([]byte(c.Body))
	}

	batches := &classifier.Options{Batching: true}
	f.Fuzz(func(t *testing.T, body []byte) {
		if classifier.JSON(body, batches) != "" {
			return
		}
		for _, doc := range decoded(body) {
			for _, o := range oracles {
				if kinds := o.kinds(doc); mutates(kinds) {
					t.Errorf("%s finds %v in %+q of %+q, and the classifier lets it pass", o.name, kinds, doc, body)
				}
			}
		}
	})
}

// sample returns a query of about size bytes, as a generated client sends it.
func sample(size int) string {
	var b strings.Builder
	b.WriteString("query Products($first: Int = 20, $after: String, $filter: Filter!) {\n")
	for i := 0; b.Len() < size-180; i++ {
		fmt.Fprintf(&b, "  alias%d: products(first: $first, after: $after, where: {name: \"value %d\", price: {gte: %d.5}}) @include(if: true) {\n    edges { node { id name ...Price } }\n  }\n", i, i, i)
	}
	b.WriteString("}\n\nfragment Price on Product {\n  price { amount currency }\n}\n")
	return b.String()
}

func BenchmarkParse(b *testing.B) {
	roomy := &classifier.Options{MaxTokens: 1 << 20}

	for _, size := range []int{1 << 10, 10 << 10, 100 << 10} {
		doc := sample(size)
		keyword := strings.Replace(doc, "name", "mutation", 1) // a field of that name: the lexer has to be strict
		envelope := []byte(object(`"operationName"`, `"Products"`, `"variables"`, `{"first":20}`, `"query"`, quote(doc)))
		name := fmt.Sprintf("%dkB", size>>10)

		run := func(parser string, bytes int, f func() error) {
			b.Run(parser+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(bytes))
				b.ReportAllocs()
				for b.Loop() {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		refused := func(r classifier.Rule) error {
			if r != "" {
				return fmt.Errorf("refused by %s", r)
			}
			return nil
		}

		raw, strict := []byte(doc), []byte(keyword)
		run("drydock", len(raw), func() error { return refused(classifier.Document(raw, roomy)) })
		run("drydock-keyword", len(strict), func() error { return refused(classifier.Document(strict, roomy)) })
		run("drydock-json", len(envelope), func() error { return refused(classifier.JSON(envelope, roomy)) })
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
