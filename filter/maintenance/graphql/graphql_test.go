package graphql

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/golden"
	"github.com/drydock-proxy/drydock/filter/maintenance/cases"
)

// A case is a request with the verdict on it, from the table of package cases. "" as a rule means
// that the request passes.

// decide asks in the order that the package comment gives. The package leaves the headers and
// parameters of the first step to its caller.
func decide(c *cases.Case, body []byte, opt *Options) Rule {
	_, rawQuery, _ := strings.Cut(c.Path, "?")

	switch {
	case c.Header("x-http-method-override") != nil, c.Header("x-http-method") != nil, c.Header("x-method-override") != nil,
		strings.Contains("&"+rawQuery, "&_method="):
		return RuleMethodOverride
	case c.Header("upgrade") != nil:
		return RuleUpgrade
	case c.Method == "GET", c.Method == "HEAD":
		if len(body) > 0 {
			return RuleGetBody
		}
		if rawQuery == "" {
			return "" // the page of the server's query editor
		}
		return Query(rawQuery, opt)
	case c.Method != "POST":
		return RuleMethod
	case HasParameter(rawQuery):
		return RuleURLParameter
	}

	if rule := ContentEncoding(c.Header("content-encoding")); rule != "" {
		return rule
	}
	if rule := ContentType(c.Header("content-type")); rule != "" {
		return rule
	}
	return JSON(body, opt)
}

func TestCasesAreJudgedAsListed(t *testing.T) {
	used := map[Rule]bool{}
	names := map[string]bool{}
	opt := &Options{Batching: true}

	for _, c := range cases.Load(t) {
		t.Run(c.Name, func(t *testing.T) {
			if names[c.Name] {
				t.Error("another case has the same name")
			}

			want := Rule(c.Rule)
			names[c.Name], used[want] = true, true
			if passes := want == ""; passes != (c.Verdict == "pass") {
				t.Errorf("verdict %q contradicts rule %q", c.Verdict, c.Rule)
			}
			if got := decide(&c, c.Body(), opt); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}

	// RulePath depends on how the paths of an app match and is the caller's. The others depend on
	// options or need a large body; TestOptionsLimitAndAllow covers them.
	for _, r := range []Rule{RuleBatch, RuleLimitTokens, RuleLimitBody, RulePath} {
		used[r] = true
	}
	for _, r := range Rules() {
		if !used[r] {
			t.Errorf("no case refuses by %s", r)
		}
	}
}

// "Past" a limit means one more than it allows.
func TestOptionsLimitAndAllow(t *testing.T) {
	const query = `{"query":"{a}"}`
	listed := sha256.Sum256([]byte("{a}"))
	hash := fmt.Sprintf("%x", listed)
	persisted := &Options{Persisted: map[[32]byte]struct{}{listed: {}}}
	byHash := `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + hash + `"}}}`
	extra := &Options{ExtraKeys: []string{"id", "clientName", "größe"}}
	// long returns a request whose document has n tokens: two braces and n-2 names.
	long := func(n int) string { return `{"query":"{` + strings.Repeat("a ", n-2) + `}"}` }

	for _, c := range []struct {
		name string
		body string
		opt  *Options
		want Rule
	}{
		{"nil options", query, nil, ""},
		{"nil options refuse a batch", "[" + query + "]", nil, RuleBatch},
		{"no batching, empty", "[]", nil, RuleBatch},
		{"batch at its limit", "[" + query + "," + query + "]", &Options{Batching: true, MaxBatch: 2}, ""},
		{"batch past its limit", "[" + query + "," + query + "]", &Options{Batching: true, MaxBatch: 1}, RuleLimitBatch},
		{"body at its limit", query, &Options{MaxBody: len(query)}, ""},
		{"body past its limit", query, &Options{MaxBody: len(query) - 1}, RuleLimitBody},
		{"body past the default limit", query + strings.Repeat(" ", DefaultMaxBody), nil, RuleLimitBody},
		{"tokens at their limit", query, &Options{MaxTokens: 3}, ""},
		{"tokens past their limit", query, &Options{MaxTokens: 2}, RuleLimitTokens},
		{"tokens at the default limit", long(DefaultMaxTokens), nil, ""},
		{"tokens past the default limit", long(DefaultMaxTokens + 1), nil, RuleLimitTokens},
		{"a malformed document of as many bytes as tokens are allowed", `{"query":"{a{b}"}`, &Options{MaxTokens: 5}, ""},
		{"a malformed document of more bytes", `{"query":"{a{bb}"}`, &Options{MaxTokens: 5}, RuleSyntax},
		{"a malformed document of as many brackets as levels are allowed", `{"query":"{a{b}"}`, &Options{MaxDepth: 2}, ""},
		{"a malformed document of more brackets", `{"query":"{a}{b}{c}}"}`, &Options{MaxDepth: 2}, RuleSyntax},
		{"depth at its limit", `{"query":"{a{b}}","variables":[[1]]}`, &Options{MaxDepth: 2}, ""},
		{"document past its depth", `{"query":"{a{b}}"}`, &Options{MaxDepth: 1}, RuleLimitDepth},
		{"variables past their depth", `{"query":"{a}","variables":[[1]]}`, &Options{MaxDepth: 1}, RuleLimitDepth},
		{"empty variables past their depth", `{"query":"{a}","variables":[[]]}`, &Options{MaxDepth: 1}, RuleLimitDepth},
		{"depth is capped", `{"query":"` + strings.Repeat("{a", 2*MaxNesting) + strings.Repeat("}", 2*MaxNesting) + `"}`,
			&Options{MaxDepth: 1 << 20}, RuleLimitDepth},
		{"JSON depth is capped", `{"query":"{a}","variables":` + strings.Repeat("[", 1<<18) + strings.Repeat("]", 1<<18) + `}`,
			&Options{MaxDepth: 1 << 20}, RuleLimitDepth},
		{"known hash alone", byHash, persisted, ""},
		{"known hash with a null document", `{"query":null,` + byHash[1:], persisted, ""},
		{"known hash with an empty document", `{"query":"",` + byHash[1:], persisted, ""},
		{"known hash with another document", `{"query":"{b}",` + byHash[1:], persisted, RulePersistedMismatch},
		{"known hash with white space", `{"query":" ",` + byHash[1:], persisted, RuleNoOperation},
		{"known hash in a batch", "[" + byHash + "]", &Options{Batching: true, Persisted: persisted.Persisted}, ""},
		{"unknown hash", strings.Replace(byHash, hash[:2], "00", 1), persisted, RulePersisted},
		{"extra key", `{"id":1,"query":"{a}","clientName":{"x":[]}}`, extra, ""},
		{"extra key outside ASCII", `{"query":"{a}","gr\u00f6ße":1}`, extra, ""},
		{"extra key null", `{"query":"{a}","id":null}`, extra, ""},
		{"extra key twice", `{"query":"{a}","id":1,"id":1}`, extra, RuleDuplicateKey},
		{"extra key in another case", `{"query":"{a}","ID":1}`, extra, RuleDocumentID},
		{"extra key twice, once in another case", `{"query":"{a}","clientName":1,"clientname":1}`, extra, RuleDuplicateKey},
		{"extra key does not make a document", `{"id":1}`, extra, RuleNoQuery},
		{"extra key that differs from a known one by case", `{"query":"{a}","Query":"{b}"}`, &Options{ExtraKeys: []string{"Query"}}, RuleDuplicateKey},
		{"the sixty-first extra key", `{"query":"{a}","x":1}`, &Options{ExtraKeys: append(make([]string, 60), "x")}, RuleUnknownKey},
		{"the sixtieth extra key", `{"query":"{a}","x":1}`, &Options{ExtraKeys: append(make([]string, 59), "x")}, ""},
	} {
		if got := JSON([]byte(c.body), c.opt); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}

	if got := Query("id=1&query={a}", extra); got != "" {
		t.Errorf("extra parameter in a URL: got %q", got)
	}
	if got := Query("extensions={%22persistedQuery%22:{%22sha256Hash%22:%22"+hash+"%22}}", persisted); got != "" {
		t.Errorf("known hash in a URL: got %q", got)
	}
	if got := Query("query={a}", &Options{MaxBody: 8}); got != RuleLimitBody {
		t.Errorf("URL past the limit: got %q", got)
	}
	if got := Query("query={a}", nil); got != "" {
		t.Errorf("URL with nil options: got %q", got)
	}
}

// The rule of a malformed document depends on whether some server may read it as well-formed
// (RuleAmbiguous), no server does (RuleSyntax), it may be the name of a stored document
// (RuleDocumentID), or it may pass because nothing but a query can be in it ("").
func TestDocumentsThatServersReadDifferently(t *testing.T) {
	for _, c := range []struct {
		doc  string
		want Rule
	}{
		{"{a}", ""},
		{"mutation{a}", RuleMutation},
		{"", RuleNoOperation},
		{"{a}{b}", ""},

		// Text that is not a token here but may be one for another lexer.
		{"{a(x:\"\xff\")}", RuleAmbiguous},
		{"#\xff\n{a}", RuleAmbiguous},
		{"{a} \xef\xbb", RuleAmbiguous},
		{"{a(x:-)}", RuleAmbiguous},
		{"{a(x:1e+)}", RuleAmbiguous},
		{`{a(x:"\`, RuleAmbiguous},
		{`{a(x:"\u`, RuleAmbiguous},
		{`{a(x:"\u{`, RuleAmbiguous},
		{`{a(x:"\u{}")}`, RuleAmbiguous},
		{`{a(x:"\u{1F600")}`, RuleAmbiguous},
		{`{a(x:"""\""")}`, RuleAmbiguous},
		{"{a(x:\"\n\",y:mutation)}", RuleAmbiguous},
		{"{a(x:01,y:mutation)}", RuleAmbiguous},
		{`{a(x:"""mutation" "`, RuleAmbiguous},
		{`"d" {a}`, RuleAmbiguous},
		{`"d" {mutation}`, RuleAmbiguous},

		// Documents that are malformed as read here but may end elsewhere for another lexer.
		{"{a #-\u2028}", RuleAmbiguous},
		{"#-\u2028{a}", RuleAmbiguous},
		{`{a(x:"""-\""" """)`, RuleAmbiguous},

		{"query A", RuleSyntax},
		{"query A(", RuleSyntax},
		{"query A()", RuleSyntax},
		{"query A @", RuleSyntax},
		{"query A @a(", RuleSyntax},
		{"query A @a()", RuleSyntax},
		{"fragment F", RuleSyntax},
		{"fragment F on", RuleSyntax},
		{"fragment F on T", RuleSyntax},
		{`"a"`, RuleSyntax},
		{`"a" "b" query{a}`, RuleSyntax},
		{`{a(x:"""`, RuleSyntax},
		{`{a(x:"""""`, RuleAmbiguous},
		{`{a(x:""""""`, RuleSyntax},
		{`{a(x:"""b`, RuleSyntax},
		{`{a(x:"mutation)}`, RuleSyntax},
		{"{mutation", RuleSyntax},
		{"{mutation)", RuleSyntax},
		{"{mutation}}", RuleSyntax},

		// A word instead of a document may name a stored one.
		{"query", RuleDocumentID},
		{"fragment", RuleDocumentID},
		{"sha256:7d4f2bc1", RuleDocumentID},
		{"paymutation", RuleDocumentID},
		{"shop/list-orders.v1", RuleDocumentID},

		// Malformed documents that contain no mutation however they are read pass, and the server
		// reports what is wrong with them.
		{"{", ""},
		{"query A{a", ""},
		{"{8f31403dfe404bccbb0e835f2629c6a7}", ""},
		{"{a(x:1.)}", ""},
		{"{a(x:1e)}", ""},
		{"{a(x:1.5.6)}", ""},
		{"query A($a:B)($c:D){a}", ""},
		{"fragment F($a:B) on T{a}", ""},
		{"{a(s:subscribe,m:mutate", ""},

		// Those that would contain one if they were cleaned up first, or read without case, are
		// refused.
		{"{8f31403d-fe40-4bcc-bb0e-835f2629c6a7}", RuleAmbiguous},
		{"{a} MUTATION{b}", RuleSyntax},
		{"{a} Subscription{b}", RuleSyntax},
		{"{a} muta#x\ntion{b}", RuleSyntax},
		{`{a} muta"x"tion{b}`, RuleSyntax},
		{"{a} sub\n,script, ion{b}", RuleSyntax},
		{"{a} &#109;utation{b}", RuleSyntax},
		{"{a} %6dutation{b}", RuleAmbiguous},
		{`{a} \u006dutation{b}`, RuleAmbiguous},
	} {
		if got := Document([]byte(c.doc), nil); got != c.want {
			t.Errorf("%q: got %q, want %q", c.doc, got, c.want)
		}
	}
}

// ſ (U+017F) equals s if case is folded as in Unicode, which no header does.
func TestContentTypeMustBeJSONInUTF8(t *testing.T) {
	for value, want := range map[string]Rule{
		"\tapplication/json\t;\tcharset=utf-8 ": "",
		"application/json;charset=\"UTF-8\"":    "",
		"application/json;charset='utf-8'":      RuleCharset,
		"application/json;charset=\"utf-8":      RuleCharset,
		"application/json;charset =utf-8":       RuleCharset,
		"application/json;charſet=utf-8":        RuleCharset,
		"application/json;charset=utf8":         RuleCharset,
		"application/jſon":                      RuleContentType,
		"application/json charset=utf-8":        RuleContentType,
		"application/json,application/json":     RuleContentType,
		"*/*":                                   RuleContentType,
	} {
		if got := ContentType([]string{value}); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

// TestEachRuleIsExplained compares the sentences with a golden file, so that a change of what the
// developers of clients read is reviewed.
func TestEachRuleIsExplained(t *testing.T) {
	var got bytes.Buffer
	for _, r := range Rules() {
		text := r.Explain()
		if !strings.HasPrefix(string(r), "graphql.") || !strings.HasSuffix(text, ".") || strings.Contains(strings.TrimSuffix(text, "."), ". ") {
			t.Errorf("%s is not explained by one sentence: %q", r, text)
		}
		fmt.Fprintf(&got, "%s\n\t%s\n", r, text)
	}

	golden.Compare(t, "testdata/rules.golden", got.String())
	if text := Rule("graphql.unheard-of").Explain(); text != "" {
		t.Errorf("an unknown rule is explained by %q", text)
	}
	if all := Rules(); len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Error("a rule is listed twice")
	}
}

// TestAppendedMutationIsRefused appends a mutation to the document of every case that passes.
func TestAppendedMutationIsRefused(t *testing.T) {
	for _, c := range cases.Load(t) {
		if c.Verdict != "pass" || c.Method != "POST" {
			continue
		}

		body := c.Body()
		for doc := range documents(body) {
			if rule := Document([]byte(doc+"\nmutation M{b}"), nil); rule == "" {
				t.Errorf("%s: a mutation after %q passes", c.Name, doc)
			}
		}
	}
}

// documents yields the documents in a JSON body. It reads them with encoding/json.
func documents(body []byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		type request struct{ Query string }
		var single request
		var batch []request

		if json.Unmarshal(body, &single) == nil {
			batch = []request{single}
		} else if json.Unmarshal(body, &batch) != nil {
			return
		}

		for _, r := range batch {
			if !yield(r.Query) {
				return
			}
		}
	}
}

// The first call of each function may allocate: AllocsPerRun does not count it.
func TestWarmCallsAllocateNothing(t *testing.T) {
	opt := &Options{Batching: true, ExtraKeys: []string{"clientName"}, MaxTokens: 1 << 20}
	body := jsonBody(realistic(1 << 10))
	doc, small, refused := []byte(realistic(100_000)), []byte("{mutation}"), []byte("mutation M{b}")
	plain := []byte(`{"query":"{a mutation}","variables":{"x":[1]},"clientName":"x"}`)
	batch := []byte(`[{"query":"{\n a\n}"},{"query":"{\n b\n}","operationName":"\u0041"}]`)
	hash := sha256.Sum256([]byte("{a}"))
	persisted := fmt.Appendf(nil, `{"query":"{a}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"%x"}}}`, hash)

	for _, c := range []struct {
		name  string
		judge func() Rule
		want  Rule
	}{
		{"document", func() Rule { return Document(doc, opt) }, ""},
		{"document without options", func() Rule { return Document(small, nil) }, ""},
		{"refused document", func() Rule { return Document(refused, opt) }, RuleMutation},
		{"JSON without escapes", func() Rule { return JSON(plain, opt) }, ""},
		{"JSON with escapes", func() Rule { return JSON(body, opt) }, ""},
		{"batch", func() Rule { return JSON(batch, opt) }, ""},
		{"persisted", func() Rule { return JSON(persisted, opt) }, ""},
		{"URL", func() Rule { return Query("query=query+A%7Ba%7D&variables=%7B%22x%22:1%7D&operationName=A", opt) }, ""},
		{"URL of a POST", func() Rule {
			if HasParameter("op=GetUser&v=2") {
				return RuleURLParameter
			}
			return ""
		}, ""},
		{"content type", func() Rule { return ContentType([]string{"application/json; charset=UTF-8"}) }, ""},
	} {
		if got := c.judge(); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}

		if n := testing.AllocsPerRun(100, func() { c.judge() }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

// TestTimeIsLinear gives each function large inputs that a careless implementation would read again
// and again. A quadratic one takes minutes instead of milliseconds.
func TestTimeIsLinear(t *testing.T) {
	const size = 1 << 17 // bytes of a document
	opt := &Options{Batching: true, MaxBody: 8 * size, MaxBatch: size, MaxTokens: size}
	for _, pattern := range []string{
		`"`, `\`, `"\"`, `\"""`, `""" `, `"" `, `#`, "#\n", "#é\n", `{`, `(`, `{}`, `{a}`, `query`, `query `, `query{a}`, `mutation `, `{mutation}`,
		`1`, `.`, `-`, `"\u`, `"\u{`, `0`, `@a`, `é`, "\r", " ",
	} {
		doc := []byte(strings.Repeat(pattern, size/len(pattern)))
		inString, err := json.Marshal(string(doc))
		if err != nil {
			t.Fatal(err)
		}

		start := time.Now()
		Document(doc, opt)
		Document(append([]byte("query mutation"), doc...), opt)
		Document(append([]byte(`{mutation(a:"`), doc...), opt)
		Document(append([]byte(`{mutation(a:"""`), doc...), opt)

		JSON(doc, opt)
		JSON(append([]byte(`{"query":`), inString...), opt)
		JSON(append([]byte(`{"variables":`), inString...), opt)
		JSON(append([]byte(`{"query":"`), doc...), opt)
		JSON(append([]byte(`[{"query":"{\n}"},`), doc...), opt)
		JSON([]byte("["+strings.Repeat(`{"query":"{\n}"},`, size/17)), opt)

		Query(string(doc), opt)
		Query("query="+string(doc), opt)
		Query("query="+url.QueryEscape(string(doc)), opt)
		Query(strings.Repeat("&", size), opt)

		HasParameter(string(doc))
		HasParameter(strings.Repeat("a&", size/2))

		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%q repeated over 128 KiB takes %v", pattern, d)
		}
	}
}

// jsonBody wraps a document as clients do.
func jsonBody(doc string) []byte {
	b, err := json.Marshal(map[string]any{"query": doc, "operationName": "Page", "variables": map[string]any{"id": "1"}})
	if err != nil {
		panic(err)
	}
	return b
}

// realistic returns a query of about size bytes in the layout of a code generator. It does not
// contain a keyword.
func realistic(size int) string {
	var b strings.Builder
	b.WriteString("query Page($id: ID!, $first: Int = 20) {\n  viewer {\n    ...Part0\n  }\n}\n")

	for i := 0; b.Len() < size-150; i++ {
		fmt.Fprintf(&b, "\nfragment Part%d on Organization {\n  __typename\n  displayName\n  repositories(first: $first, orderBy: {field: UPDATED_AT, direction: DESC}) {\n    totalCount\n    edges {\n      node {\n        description(format: \"text/plain\")\n        createdAt @include(if: true)\n      }\n    }\n  }\n}\n", i)
	}
	return b.String()
}

func BenchmarkDocument(b *testing.B) {
	opt := &Options{MaxTokens: 1 << 20}
	for _, size := range []int{1 << 10, 100_000} {
		for name, doc := range map[string]string{
			"query":    realistic(size),
			"keywords": strings.Replace(realistic(size), "Page", "UserMutationsAndsubscriptions", 1),
		} {
			b.Run(fmt.Sprintf("%s/%dkB", name, size/1000), func(b *testing.B) {
				benchmark(b, []byte(doc), func(doc []byte) Rule { return Document(doc, opt) })
			})
		}
	}
}

func BenchmarkJSON(b *testing.B) {
	opt := &Options{MaxTokens: 1 << 20}
	for _, size := range []int{1 << 10, 100_000} {
		b.Run(fmt.Sprintf("%dkB", size/1000), func(b *testing.B) {
			benchmark(b, jsonBody(realistic(size)), func(body []byte) Rule { return JSON(body, opt) })
		})
	}
}

func BenchmarkQuery(b *testing.B) {
	benchmark(b, []byte(url.Values{"query": {realistic(1 << 10)}}.Encode()), func(raw []byte) Rule { return Query(string(raw), nil) })
}

func benchmark(b *testing.B, input []byte, f func([]byte) Rule) {
	b.SetBytes(int64(len(input)))
	b.ReportAllocs()

	for b.Loop() {
		if rule := f(input); rule != "" {
			b.Fatal(rule)
		}
	}
}
