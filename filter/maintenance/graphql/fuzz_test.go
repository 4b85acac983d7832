package graphql

import (
	"encoding/json"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/filter/maintenance/cases"
)

// These tests look for a document that passes although some server would find a mutation or a
// subscription in it. Servers differ in how their lexers read text, so each test reads a document
// in every dialect: with every combination of the ways in which lexers are known or suspected to
// differ.

// unlimited has no limits, so that a document gets the same verdict in every wrapping.
// TestOptionsLimitAndAllow covers the limits.
var unlimited = &Options{Batching: true, MaxBody: 1 << 30, MaxBatch: 1 << 30, MaxTokens: 1 << 30, MaxDepth: MaxNesting}

// A dialect is a set of ways in which a server's lexer is known or suspected to depart from the
// specification.
type dialect uint

const (
	crKeepsComment   dialect = 1 << iota // only a line feed ends a comment
	unicodeEndsLine                      // U+0085, U+2028 and U+2029 do too
	controlEndsLine                      // and so does any control character but tab
	noBlockStrings                       // """ is an empty string and the beginning of another
	noEscapedQuotes                      // \""" ends a block string
	looksBack                            // a quote is escaped if the byte before it is a backslash
	multilineStrings                     // strings may span lines
	countsRunes                          // a name after a comment ends too early, as in graphql-go
	nulEnds                              // a NUL ends the document, as in C
	dialects                             // the number of dialects
)

// changes reports whether doc, read in dialect d, has an operation at the top level that is not a
// query. It checks less of the grammar than any server, and therefore finds more.
func (d dialect) changes(doc string) bool {
	r := dialectReader{dialect: d, doc: doc}
	depth := 0                   // of open brackets
	start := true                // a definition may begin here
	maxSteps := 4*len(doc) + 100 // countsRunes goes back, perhaps forever
	for steps := 0; r.i < len(doc) && steps < maxSteps; steps++ {
		c, size := utf8.DecodeRuneInString(doc[r.i:])
		switch {
		case c == 0 && r.has(nulEnds):
			return false
		case strings.ContainsRune(" \t\n\r,\ufeff", c):
			r.i += size
			r.extra += size - 1
			continue
		case c == '#':
			r.comment()
			continue

		case c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			name := r.name()
			if start {
				switch name {
				case "mutation", "subscription":
					return true
				case "query", "fragment":
					start = false
				default:
					return false
				}
			}
		case c == '"' && strings.HasPrefix(doc[r.i:], `"""`) && !r.has(noBlockStrings):
			if !r.blockString() {
				return false
			}
		case c == '"':
			if !r.string() {
				return false
			}

		case c == '{' || c == '(' || c == '[':
			if depth == 0 && start && c != '{' {
				return false
			}
			depth++
			start = false
			r.i++
		case c == '}' || c == ')' || c == ']':
			if depth--; depth < 0 {
				return false
			}
			start = depth == 0 && c == '}'
			r.i++
		case c > ' ' && c < 0x7F && !start:
			r.i++
		default:
			return false
		}
		r.extra = 0
	}

	return false
}

// A dialectReader reads the tokens of a document in a dialect.
type dialectReader struct {
	dialect
	doc   string
	i     int // in doc, of the next byte to read
	extra int // the bytes minus the runes of the ignored text before the token
}

// has reports whether the lexer departs in that way.
func (r *dialectReader) has(d dialect) bool { return r.dialect&d != 0 }

// comment skips the comment at i.
func (r *dialectReader) comment() {
	var c rune
	var size int
	for r.i++; r.i < len(r.doc); r.i += size {
		c, size = utf8.DecodeRuneInString(r.doc[r.i:])
		if r.endsComment(c) {
			if c != '\n' && c != '\r' && c != 0 {
				r.i += size
			}
			break
		}
		r.extra += size - 1
	}
}

// endsComment reports whether a comment ends at c.
func (r *dialectReader) endsComment(c rune) bool {
	switch {
	case c == '\n':
		return true
	case c == '\r':
		return !r.has(crKeepsComment)
	case c == 0 && r.has(nulEnds):
		return true
	case c == 0x85 || c == 0x2028 || c == 0x2029:
		return r.has(unicodeEndsLine) || c == 0x85 && r.has(controlEndsLine)
	}

	isControl := c < 0x20 && c != '\t' || 0x7F <= c && c < 0xA0
	return isControl && r.has(controlEndsLine)
}

// name reads the name at i.
func (r *dialectReader) name() string {
	start := r.i
	for r.i < len(r.doc) && isNameByte(r.doc[r.i]) {
		r.i++
	}
	name := r.doc[start:r.i]

	if r.has(countsRunes) {
		r.i -= min(r.extra, r.i)
	}
	return name
}

// isNameByte reports whether c is a letter, a digit or an underscore.
func isNameByte(c byte) bool {
	c = lower(c)
	return c == '_' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
}

// blockString reads the block string at i and reports whether it ends.
func (r *dialectReader) blockString() bool {
	r.i += 3
	for {
		n := strings.Index(r.doc[r.i:], `"""`)
		if n < 0 {
			return false
		}
		r.i += n + 3
		if n == 0 || r.doc[r.i-4] != '\\' || r.has(noEscapedQuotes) {
			return true
		}
	}
}

// string reads the string at i and reports whether it ends.
func (r *dialectReader) string() bool {
	for r.i++; ; r.i++ {
		if r.i >= len(r.doc) || (r.doc[r.i] == '\n' || r.doc[r.i] == '\r') && !r.has(multilineStrings) {
			return false
		}
		if r.doc[r.i] == '\\' && !r.has(looksBack) {
			r.i++
		} else if r.doc[r.i] == '"' && !(r.has(looksBack) && r.doc[r.i-1] == '\\') {
			r.i++
			return true
		}
	}
}

// hasKeyword reports whether doc contains the keyword of an operation that is not a query.
func hasKeyword(doc string) bool {
	return strings.Contains(doc, "mutation") || strings.Contains(doc, "subscription")
}

// checkDocument fails the test if some dialect finds an operation other than a query in doc, which
// passes.
func checkDocument(t *testing.T, doc string) {
	t.Helper()
	if !hasKeyword(doc) {
		return
	}

	for d := range dialects {
		if d.changes(doc) {
			t.Fatalf("passes, but dialect %09b finds an operation that is not a query: %q", d, doc)
		}
	}
}

// TestPassingDocumentsOnlyQueryInEveryDialect mixes text that lexers read differently into
// documents that pass, and reads those that still pass in every dialect.
func TestPassingDocumentsOnlyQueryInEveryDialect(t *testing.T) {
	seeds := []string{
		"{a}", "query A{a}", "query A($x:I={a:1}){a(x:$x)}", `{a(x:"s")}`, `{a(x:"""s""")}`, "#c\n{a}", "{a #c\n}", `"d" query A{a}`, `"""d""" query A{a}`,
		"fragment F on T{a} {...F}", "query A{a}#c\nquery B{b}", "{a}#c",
		"# mutation M{b}\n{a}", "# {a} mutation M{b} #\nquery A{a}", "{a}# query Q{\nmutation M{b}#\n}", `{a(x:"} mutation M{b} #")}`, `{a(x:"""} mutation M{b} #""")}`,
		`"mutation M{b} #" query A{a}`, `"""mutation M{b} #""" query A{a}`, `{a(x:"",y:") } mutation M{b} #")}`, `{a(x:"c",y:") } mutation M{b} #")}`,
	}
	parts := []string{
		"{", "}", "(", ")", "{b}", "{b", "mutation M{b}", "mutation", "subscription{b}", "query", "query Q{", "} mutation M{b}", "a(x:", "x:", ")}", "#", "\n", "\r", "\r\n",
		"\t", " ", ",", "\v", "\x00", "\x1e", "\x7f", "\u0085", "\u2028", "\u2029", "\ufeff", "\u00a0", "é", "éééééééé", "変", "\"", "\"\"", "\"\"\"", "\\", "\\\"", "\\\\",
		"\\\"\"\"", "\\u0022", "\\u{22}", "\"s\"", "\"\"\"s\"\"\"", "@d", "$", "&", "...", "1", "a", "#é",
	}

	rnd := rand.New(rand.NewPCG(4, 4))
	passed := 0 // documents with a keyword
	for range 300_000 {
		doc := seeds[rnd.IntN(len(seeds))]
		for range 1 + rnd.IntN(6) {
			i := rnd.IntN(len(doc) + 1)
			doc = doc[:i] + parts[rnd.IntN(len(parts))] + doc[i:]
		}

		if Document([]byte(doc), nil) != "" {
			continue
		}
		if hasKeyword(doc) {
			passed++
		}
		checkDocument(t, doc)
	}

	if passed < 2000 {
		t.Errorf("only %d documents with a keyword passed, too few for the test to mean much", passed)
	}
}

// FuzzDocument checks that a document gets the same verdict alone, in JSON and in a URL, that it is
// a query in every dialect if it passes, and that it does not pass with a mutation at either end,
// or in the middle at cut.
func FuzzDocument(f *testing.F) {
	for _, c := range cases.Load(f) {
		for doc := range documents(c.Body()) {
			f.Add(doc, len(doc)/2)
		}
	}

	f.Fuzz(func(t *testing.T, doc string, cut int) {
		rule := Document([]byte(doc), unlimited)
		if !utf8.ValidString(doc) {
			if rule != RuleAmbiguous {
				t.Fatalf("not UTF-8, but %q", rule)
			}
			return
		}

		if got := JSON(jsonBody(doc), unlimited); got != rule {
			t.Errorf("%q as a document, %q in JSON", rule, got)
		}
		// A value of a URL that still has a percent escape after decoding is refused, because some
		// gateways decode a value before the server decodes it again.
		decodedTwice := percentEscaped([]byte(doc))
		if got := Query("query="+url.QueryEscape(doc), unlimited); got != rule && !(got == RuleURLEncoding && decodedTwice) {
			t.Errorf("%q as a document, %q in a URL", rule, got)
		}
		if rule != "" {
			return
		}

		checkDocument(t, doc)
		for _, op := range []string{"mutation M{b}", "subscription{b}"} {
			// A malformed document without the words mutation and subscription passes, because no
			// server runs it. Behind it, op may be something else: the name in "{} query".
			if lex([]byte(doc), false, unlimited) != "" {
				break
			}
			if Document([]byte(doc+"\n"+op), unlimited) == "" || Document([]byte(op+doc), unlimited) == "" {
				t.Fatalf("passes with %q at an end", op)
			}
		}

		if cut >= 0 && cut < len(doc) {
			doc = doc[:cut] + "}mutation M{b}" + doc[cut:]
			if Document([]byte(doc), unlimited) == "" { // the mutation may be in a string
				checkDocument(t, doc)
			}
		}
	})
}

// FuzzJSON compares the reader of JSON with encoding/json: what passes must be valid JSON, in which
// every document passes too, and must not pass with more text after it.
func FuzzJSON(f *testing.F) {
	for _, c := range cases.Load(f) {
		f.Add(c.Body())
	}

	f.Fuzz(func(t *testing.T, body []byte) {
		rule := JSON(body, unlimited)
		// The reader decodes strings in place of earlier ones, which must not change a verdict.
		if again := JSON(body, unlimited); again != rule {
			t.Fatalf("%q, then %q", rule, again)
		}
		if i := firstByte(body); rule == RuleJSON && i < len(body) && body[i] == '{' && json.Valid(body) {
			t.Error("is refused as invalid JSON, but is valid")
		}
		if rule != "" {
			return
		}

		if !json.Valid(body) {
			t.Fatal("passes, but is not JSON")
		}

		n := 0
		for doc := range documents(body) { // encoding/json folds keys and keeps the last
			n++
			if rule := Document([]byte(doc), unlimited); rule != "" {
				t.Errorf("passes, but %q is refused by %s", doc, rule)
			}
		}
		if n == 0 {
			t.Error("passes without a document")
		}

		isBatch := body[firstByte(body)] == '['
		unbatched := JSON(body, &Options{MaxBody: 1 << 30, MaxTokens: 1 << 30, MaxDepth: MaxNesting})
		if isBatch != (unbatched == RuleBatch) {
			t.Errorf("without batching: %q", unbatched)
		}
		for _, more := range []string{"x", "{}", ",", "\x00", `{"query":"mutation M{b}"}`} {
			if JSON([]byte(string(body)+more), unlimited) == "" {
				t.Errorf("passes with %q after it", more)
			}
		}
	})
}

// firstByte returns the index of the first byte that is not white space.
func firstByte(body []byte) int {
	return len(body) - len(strings.TrimLeft(string(body), " \t\r\n"))
}

// FuzzQuery compares the reader of query strings with net/url: what passes has exactly one
// document, which passes too, and no parameter in another case.
func FuzzQuery(f *testing.F) {
	for _, c := range cases.Load(f) {
		if _, rawQuery, ok := strings.Cut(c.Path, "?"); ok {
			f.Add(rawQuery)
		}
	}

	f.Fuzz(func(t *testing.T, rawQuery string) {
		rule := Query(rawQuery, unlimited)
		values, err := url.ParseQuery(rawQuery)
		if err == nil && !HasParameter(rawQuery) {
			for name := range values {
				for _, p := range params {
					if strings.EqualFold(name, p) {
						t.Errorf("%q is not found", name)
					}
				}
			}
		}
		if rule != "" {
			return
		}

		if err != nil {
			t.Fatalf("passes, but %v", err)
		}
		if !HasParameter(rawQuery) {
			t.Error("passes, but has no GraphQL parameter")
		}
		if docs := values["query"]; len(docs) != 1 || Document([]byte(docs[0]), unlimited) != "" {
			t.Errorf("passes with the documents %q", docs)
		}

		for name := range values {
			for _, p := range params {
				if name != p && strings.EqualFold(name, p) {
					t.Errorf("passes with %q", name)
				}
			}
		}

		if Query(rawQuery+"&query=mutation+M%7Bb%7D", unlimited) == "" {
			t.Error("passes with a mutation after it")
		}
	})
}
