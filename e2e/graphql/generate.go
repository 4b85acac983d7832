package graphql

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// Generator makes requests from the corpus: first the corpus as it stands, then the same over HTTP/2, then what mutations
// of documents, envelopes, transports, encodings and disguises make of it, a third of it over HTTP/2. Most of it asks for
// a mutation in a way that some server understands.
type Generator struct {
	seed  uint64
	seeds []*differential.Request
}

// NewGenerator returns the generator of a seed; extra requests join the corpus.
func NewGenerator(seed uint64, extra ...*differential.Request) *Generator {
	return &Generator{seed: seed, seeds: append(seeds(), extra...)}
}

// Request is the i-th request. It depends on nothing but the seed, the corpus and i.
func (g *Generator) Request(i int) *differential.Request {
	if i < 2*len(g.seeds) {
		r := g.seeds[i%len(g.seeds)].Clone()
		if i >= len(g.seeds) {
			r.HTTP2 = &differential.HTTP2{}
			r.Did("HTTP/2")
			if r.Header("Upgrade") == "websocket" {
				r.HTTP2.Pseudo = [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}}
			}
		}
		return r
	}
	d := &dice{differential.NewDice(g.seed, i)}
	var r *differential.Request
	if d.Chance(15) {
		r = d.pick(g.seeds).Clone()
		if d.Chance(50) { // what a client sends, but to write
			r.Body = bytes.Replace(r.Body, []byte(`:"query `), []byte(`:"mutation `), 1)
			r.Target = strings.Replace(r.Target, "query=query", "query=mutation", 1)
			r.Did("as a mutation")
		}
		if d.Chance(80) {
			d.transport(r)
		}
	} else {
		r = d.request()
	}
	for d.Chance(20) {
		d.transport(r)
	}
	for d.Chance(15) {
		d.disguise(r)
	}
	if d.Chance(35) {
		d.http2(r)
	}
	return r
}

// dice are the generator's choices.
type dice struct{ differential.Dice }

func (d *dice) pick(of []*differential.Request) *differential.Request { return of[d.IntN(len(of))] }

// insert puts s somewhere into text, at a rune's boundary.
func (d *dice) insert(text, s string) string {
	i := d.IntN(len(text) + 1)
	for i < len(text) && !utf8.RuneStart(text[i]) {
		i++
	}
	return text[:i] + s + text[i:]
}

// Documents.

var ignorable = []string{
	",", " ", "\t", "\n", "\r", "\r\n", "#\n", "# mutation M{b}\n", "# \" \"\"\" {\n", "\ufeff", "#x\r", "#é\n", "#éé mutation M{b}\n", "#\u2028\n",
}

var strange = []string{
	"\x00", "\v", "\f", "\x1b", "\x7f", "\u0085", "\u00a0", "\u1680", "\u2000", "\u200b", "\u2028", "\u2029", "\u3000", "\ufffe", "\U000e0020",
	"#x\u2028", "#x\u2029", "#x\u0085", "#x\v", "#x\f", "#x\x00", ";", "\\", "'", "`", "%", "&", "..", "...", "$", "-", "0", "1.e", "/", "//x\n", "/*", "<!--",
}

var texts = []string{
	`""`, `"x"`, `"mutation M{b}"`, `"\""`, `"\\"`, `"\\\""`, `"\u0022"`, `"\u{22}"`, `"{"`, `"}"`, `"#"`, `"é"`, `"\`, `"`, `"x\`,
	`""""""`, `"""x"""`, `"""mutation M{b}"""`, `"""\""""""`, `"""\"""`, `""" " """`, `""" "" """`, `""""x"""`, `"""x""""`, `"""\\"""`, `"""\\\""""""`, `"""`,
	"\"\"\"\n#\n\"\"\"", "\"\"\"\r\"\"\"", "\"\"\"é\u2028\"\"\"", `"""\"""" """`, `"""\u0022""" """`,
}

// tokens splits a document roughly the way that the specification does, and never loses a byte of it.
func tokens(doc string) (t []string) {
	for doc != "" {
		n := 1
		switch c := doc[0]; {
		case strings.HasPrefix(doc, `"""`):
			n = len(doc)
			if i := strings.Index(doc[3:], `"""`); i >= 0 {
				n = 3 + i + 3
			}
		case c == '"':
			for n < len(doc) && doc[n] != '"' && doc[n] != '\n' {
				if doc[n] == '\\' {
					n++
				}
				n++
			}
			n = min(n+1, len(doc))
		case c == '#':
			if n = strings.IndexAny(doc, "\r\n"); n < 0 {
				n = len(doc)
			}
		case c == '_' || unicode.IsLetter(rune(c)) && c < utf8.RuneSelf:
			for n < len(doc) && (doc[n] == '_' || doc[n] < utf8.RuneSelf && (unicode.IsLetter(rune(doc[n])) || unicode.IsDigit(rune(doc[n])))) {
				n++
			}
		default:
			_, n = utf8.DecodeRuneInString(doc)
		}
		t, doc = append(t, doc[:n]), doc[n:]
	}
	return t
}

// soup is made of what lexers disagree about: where strings and comments end.
func (d *dice) soup() string {
	var b strings.Builder
	b.WriteString(d.One(`{echo(x:`, `query A{echo(x:`, `query A($x:String=`, `query A@include(if:`, ``, `{a(x:[`))
	for range 1 + d.IntN(9) {
		b.WriteString(d.One(`"`, `"""`, `\"""`, `\"`, `\\`, `\`, ` `, "\n", "\r", `#`, `mutation M{b}`, `)}`, `}`, `{`, `x`, `""`, `\u0022`, "é", "\u2028", "\ufeff"))
	}
	if d.Chance(70) {
		b.WriteString(d.One(`")}`, `""")}`, `)}`, `"`, `"""`) + d.One("", " ", "\n", "#") + d.One(m, "mutation{b}", "subscription{bump}"))
	}
	if d.Chance(50) {
		b.WriteString(d.One(`#`, "\n#") + d.One(`")}`, `""")}`, `"""`, `"`, "\r"+m))
	}
	return b.String()
}

func (d *dice) document() (doc string, trail []string) {
	did := func(format string, args ...any) { trail = append(trail, fmt.Sprintf(format, args...)) }
	base := func() string {
		switch n := d.IntN(100); {
		case n < 52:
			return d.One(writes...)
		case n < 69:
			return d.One(disputed...)
		case n < 88:
			return d.One(queries...)
		default:
			return d.soup()
		}
	}
	doc = base()
	did("document %.60q", doc)
	for d.Chance(45) {
		t := tokens(doc)
		i := d.IntN(len(t) + 1)
		at := func(s string) string { return strings.Join(t[:i], "") + s + strings.Join(t[i:], "") }
		switch n := d.IntN(15); n {
		case 0, 1, 2:
			s := d.One(ignorable...)
			doc = at(s)
			did("insert %q", s)
		case 3:
			s := d.One(strange...)
			doc = at(s)
			did("insert %q", s)
		case 4:
			s := d.One(texts...)
			if j := slices.IndexFunc(t, func(s string) bool { return s[0] == '"' }); j >= 0 {
				t[j] = s
				doc = strings.Join(t, "")
			} else {
				doc = at(s)
			}
			did("string %q", s)
		case 5:
			s := d.One(texts...)
			doc = s + d.One("", " ", "\n", ",") + doc
			did("description %q", s)
		case 6, 7:
			s := base()
			sep := d.One("", " ", "\n", ",", "#\n", "#", "#\r", "\ufeff", "}")
			if d.Chance(50) {
				doc = doc + sep + s
			} else {
				doc = s + sep + doc
			}
			did("join %.60q", s)
		case 8:
			if i < len(t) {
				did("delete %.20q", t[i])
				doc = strings.Join(slices.Delete(t, i, i+1), "")
			}
		case 9:
			if i < len(t) {
				doc = at(t[i])
				did("double %.20q", t[i])
			}
		case 10:
			for j, s := range t {
				if s == "mutation" || s == "subscription" || s == "query" {
					t[j] = d.One("MUTATION", "Mutation", "mutat\u0131on", "mut\u0430tion", `\u006dutation`, "muta\u00adtion", "mutation_", "mutation\u200d", "ｍutation")
					did("keyword %q", t[j])
					break
				}
			}
			doc = strings.Join(t, "")
		case 11:
			s := d.One(" @include(if: true)", "@skip(if:false)", "@mutation", ` @x(y: "mutation{b}")`, "@x(y:{z:[1,2.5e3,$v,E]})", "()", "($v:Int=1)", "($v:[Int!]!=[1]@d)")
			doc = at(s)
			did("insert %q", s)
		case 12:
			s := d.One("type T{a:Int}", "extend type Query{c:Int}", "schema{query:Query}", "directive @d on FIELD", "scalar mutation", "fragment G on Query{a}", `"d" fragment H($x:Int) on Query{a}`)
			if d.Chance(50) {
				doc = s + " " + doc
			} else {
				doc += " " + s
			}
			did("join %q", s)
		case 13:
			s := d.One("é", "ééééé", "\U0001f6f3", "e\u0301")
			for j := range t {
				if t[j][0] == '#' || t[j][0] == '"' && len(t[j]) > 1 {
					t[j] = t[j][:1] + s + t[j][1:]
				}
			}
			doc = strings.Join(t, "")
			if d.Chance(50) {
				doc = "#" + strings.Repeat(s, 1+d.IntN(9)) + d.One("\n", " "+m+"\n", "\r", "") + doc
			}
			did("wide text %q", s)
		case 14:
			doc = strings.ReplaceAll(doc, d.One("\n", " ", "{", "b"), d.One("\r", "\r\n", "\t", ",", "{ ", "b#\n", "{#x\r"))
			did("replace")
		}
	}
	return doc, trail
}

// Envelopes.

type member struct{ key, value string }

// jsonString encodes s with as many escapes as it likes.
func (d *dice) jsonString(s string) string {
	style := d.IntN(10)
	if style < 6 {
		return quote(s)
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\' || r < 0x20 || style == 6 || style == 7 && d.Chance(30):
			for _, u := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, d.One(`\u%04x`, `\u%04X`), u)
			}
		case style == 8 && r == '/':
			b.WriteString(`\/`)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func (d *dice) key(name string) string {
	switch d.IntN(12) {
	case 0:
		return d.One(`"Query"`, `"QUERY"`, `"qUERY"`)
	case 1:
		i := d.IntN(len(name))
		return fmt.Sprintf(`"%s\u%04x%s"`, name[:i], name[i], name[i+1:])
	case 2:
		return d.One(`" query"`, `"query "`, `"query\u0000"`, `"ｑuery"`, `"que\u0072y"`, `"query[]"`, `"query\ufeff"`)
	default:
		return `"` + name + `"`
	}
}

func (d *dice) envelope(doc string) (text string, trail []string) {
	did := func(s string) { trail = append(trail, s) }
	value := d.jsonString(doc)
	all := []member{{`"query"`, value}}
	switch {
	case strings.Contains(doc, "mutation M") && d.Chance(70):
		all = append(all, member{`"operationName"`, `"M"`})
		did("operationName M")
	case d.Chance(20):
		all = append(all, member{`"operationName"`, d.One(`"M"`, `"A"`, `null`, `""`, `"S"`, `"X"`, `"mutation"`, `0`, `["M"]`, `true`)})
		did("operationName " + all[1].value)
	}
	if d.Chance(25) {
		all = append(all, member{`"variables"`, d.One(`{}`, `null`, `{"x":"mutation M{b}"}`, `"{}"`, `[]`, `{"query":"mutation M{b}"}`, `{"x":1e999}`, `{"a":{"b":[[[]]]}}`, `""`)})
		did("variables " + all[len(all)-1].value)
	}
	for d.Chance(25) {
		i := d.IntN(len(all) + 1)
		other := d.jsonString(d.One(q, m, "query A{a}", "", "subscription{bump}"))
		switch d.IntN(11) {
		case 0, 1:
			all = slices.Insert(all, i, member{d.key("query"), other})
			did("second query key " + all[i].key)
		case 2:
			all[0].key = d.key("query")
			did("key " + all[0].key)
		case 3:
			hash := sha256Hex(d.One(q, m, doc))
			if d.Chance(20) {
				hash = d.One("", strings.ToUpper(hash), hash[:10], " "+hash, "x")
			}
			version := d.One("1", "1", "1", `"1"`, "1.0", "2", "null")
			ext := `{"persistedQuery":{"version":` + version + `,"sha256Hash":"` + hash + `"}}`
			all = slices.Insert(all, i, member{d.One(`"extensions"`, `"extensions"`, `"Extensions"`, `"exten\u017fions"`), ext})
			did("persisted query")
			if d.Chance(40) {
				all = slices.DeleteFunc(all, func(m member) bool { return m.key == `"query"` })
				did("hash alone")
			}
		case 4:
			k := d.One("id", "documentId", "document_id", "doc_id", "docId", "queryId", "persisted", "doc", "hash", "operations", "map", "mutation", "_json", "batch", "0", "constructor")
			all = slices.Insert(all, i, member{quote(k), d.One(other, `"`+sha256Hex(m)+`"`, "true", "1", "{"+`"query":`+other+"}", "["+other+"]")})
			did("extra key " + k)
		case 5:
			all = slices.Insert(all, i, member{`"__proto__"`, `{"query":` + other + `}`})
			did("__proto__")
		case 6:
			all[0].value = d.One("["+value+"]", `{"query":`+value+`}`, "null", "1", value+" "+value, "'"+doc+"'", "NaN")
			did("query of another type")
		case 7:
			d.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			did("reordered")
		case 8:
			j := d.IntN(max(1, len(all)))
			if j < len(all) {
				all = slices.Insert(all, i, all[j])
				did("doubled " + all[i].key)
			}
		case 9:
			all = slices.Insert(all, i, member{quote(strings.Repeat("k", d.IntN(80))), d.One("1e400", "-0", "01", "1.", "0x1", "Infinity", "-", "+1", "\"\\ud800\"", "\"\\x41\"", "\"\xff\"", "tru", "nul")})
			did("odd value")
		case 10:
			all = slices.Insert(all, i, member{`"extensions"`, d.One(`{"query":`+other+`}`, `null`, `[]`, `{"persistedQuery":null}`, `{"persistedQuery":{"version":1,"sha256Hash":"`+sha256Hex(m)+`","sha256Hash":"`+sha256Hex(q)+`"}}`)})
			did("odd extensions")
		}
		if len(all) == 0 {
			all = []member{{`"query"`, value}}
		}
	}
	var pairs []string
	for _, m := range all {
		pairs = append(pairs, m.key, m.value)
	}
	text = object(pairs...)

	for d.Chance(18) {
		other := object(`"query"`, d.jsonString(d.One(q, m)))
		switch d.IntN(9) {
		case 0, 1, 2:
			parts := []string{text, other}
			d.Shuffle(2, func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
			text = "[" + strings.Join(parts[:1+d.IntN(2)], d.One(",", ", ", ",\n")) + "]"
			did("batch")
		case 3:
			text = d.One("["+text+"]", "["+text+","+text+"]", `{"0":`+text+`,"length":1}`, `{"_json":[`+text+`]}`, `{"operations":`+text+`}`, `{"body":`+text+`}`)
			did("wrapped")
		case 4:
			text = text + d.One("", " ", "\n", ",", "\x00", "\r\n\r\n", ";", "//x", "]", "}") + d.One("", other, "x", "null")
			did("trailing data")
		case 5:
			text = d.One("\ufeff", " ", "\n\n", "\f", "\u00a0", ")]}',\n", "\x1e", "/**/", "//x\n", "null", other, "\x00") + text
			did("leading data")
		case 6:
			s := d.One(" ", "\t", "\r", "\v", "\f", "\u00a0", "\u2028", "/**/", ",", "\ufeff", "\x00")
			text = d.insert(text, s)
			did("insert " + quote(s))
		case 7:
			s := d.One("\xff", "\xc0\x80", "\xed\xa0\x80", "\xc1\xad", "\xf5\x80\x80\x80", "\x80", "\xe2\x80")
			text = d.insert(text, s)
			did(fmt.Sprintf("insert %+q", s))
		case 8:
			if len(text) > 2 {
				i := d.IntN(len(text))
				text = text[:i] + text[i+1:]
				did("byte dropped")
			}
		}
	}
	return text, trail
}

// Transports.

// request wraps a document in an envelope and a transport.
func (d *dice) request() *differential.Request {
	doc, trail := d.document()
	r := &differential.Request{Method: "POST", Target: "/graphql"}
	form := func() string {
		sep := d.One("&", "&", "&", "&", ";")
		name := d.One("query", "query", "query", "query", "query", "query[]", "Query", "%71uery", "qu%65ry", "query%00", "+query", "query[0]", "query.x", "mutation")
		all := []string{name + "=" + d.escape(doc)}
		if d.Chance(30) {
			all = append(all, d.One("query=", "Query=", "%71uery=", "query[]=", "x=", "operationName=", "variables=", "extensions=", "id=", "raw=")+d.escape(d.One(q, m, "A", "M", "", "{}")))
		}
		if d.Chance(20) {
			all = append(all, "extensions="+url.QueryEscape(`{"persistedQuery":{"version":1,"sha256Hash":"`+sha256Hex(d.One(q, m, doc))+`"}}`))
			if d.Chance(50) {
				all = all[1:]
			}
		}
		d.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		return strings.Join(all, sep)
	}
	r.Trail = trail
	switch n := d.IntN(100); {
	case n < 68:
		body, more := d.envelope(doc)
		r.Body = []byte(body)
		r.Trail = append(append(r.Trail, "JSON"), more...)
		r.Set("Content-Type", "application/json")
	case n < 84:
		r.Method = "GET"
		r.Target += "?" + form()
		r.Did("GET")
	case n < 90:
		r.Body = []byte(form())
		r.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Did("form")
	case n < 93:
		r.Body = []byte(doc)
		r.Set("Content-Type", "application/graphql")
		r.Did("application/graphql")
	case n < 96:
		body, more := d.envelope(doc)
		r.Trail = append(r.Trail, more...)
		r.Set("Content-Type", "multipart/form-data; boundary=x")
		switch d.IntN(4) {
		case 0:
			r.Body = []byte(multipart("query", doc))
		case 1:
			r.Body = []byte(multipart("operations", body, "map", "{}"))
		case 2:
			r.Body = []byte(multipart("operations", `{"query":"{a}"}`, "map", `{"0":["query"]}`, "0", doc))
		case 3:
			r.Body = []byte(multipart("map", "{}", "operations", body, "operations", `{"query":"{a}"}`))
		}
		r.Did("multipart")
	case n < 98:
		body, more := d.envelope(doc)
		r.Trail = append(r.Trail, more...)
		r.Body = []byte(body)
		r.Target += "?" + form()
		r.Set("Content-Type", "application/json")
		r.Did("POST with parameters in the URL")
	default:
		r.Trail = append(r.Trail, "websocket")
		w := websocket(d.One("graphql-transport-ws", "graphql-ws"), doc)
		w.Trail = r.Trail
		return w
	}
	return r
}

// escape encodes a form's value, not always as one should.
func (d *dice) escape(s string) string {
	switch d.IntN(8) {
	case 0:
		var b strings.Builder
		for i := range len(s) {
			fmt.Fprintf(&b, "%%%02x", s[i])
		}
		return b.String()
	case 1:
		return url.PathEscape(s)
	case 2:
		return url.QueryEscape(url.QueryEscape(s))
	case 3:
		return url.QueryEscape(s) + d.One("%", "%zz", "%u006d", "%00", "%ff", "#", "?")
	default:
		return url.QueryEscape(s)
	}
}

var types = []string{
	"application/json; charset=utf-8", "application/json;charset=UTF-8", `application/json; charset="utf-8"`, "APPLICATION/JSON", "application/json;", "application/json ",
	"application/json; charset=utf-16", "application/json; charset=utf-16le", "application/json; charset=latin1", "application/json; charset=utf-7", "application/json; charset=x",
	"application/json; boundary=x", "application/json, application/json", "application/json,text/plain", "application/graphql+json", "application/graphql-response+json",
	"application/vnd.api+json", "text/json", "text/plain", "application/octet-stream", "application/graphql", "application/graphql; charset=utf-8", "*/*", "json", "",
	"application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json\t", "application/json;charset=utf-8;charset=utf-7", "application/jsonp",
}

// transport changes one thing about how a request is sent.
func (d *dice) transport(r *differential.Request) {
	switch n := d.IntN(20); n {
	case 0, 1, 2:
		t := d.One(types...)
		r.Set("Content-Type", t)
		if t == "" {
			r.Drop("Content-Type")
		}
		r.Did("type " + quote(t))
	case 3:
		t := d.One(types...)
		name := d.One("Content-Type", "content-type", "Content_Type", "X-Content-Type", "CONTENT-TYPE")
		h := [2]string{name, t}
		r.Headers = slices.Insert(r.Headers, d.IntN(len(r.Headers)+1), h)
		r.Did("second type, " + name + ": " + t)
	case 4, 5:
		e := d.One("gzip", "deflate", "br", "x-gzip", "GZIP", "identity", "gzip, gzip", "deflate-raw", "gzip, identity", "compress", "")
		if len(r.Body) > 0 {
			r.Body = differential.Compress(e, r.Body)
		}
		if d.Chance(85) {
			r.Headers = append(r.Headers, [2]string{d.One("Content-Encoding", "content-encoding", "Content-Encoding", "Content_Encoding"), strings.TrimSuffix(e, "-raw")})
		}
		r.Did("encoded " + quote(e))
	case 6:
		e := d.One("utf-16", "utf-16le", "utf-16be", "utf-32", "utf-7", "latin1")
		r.Body = differential.Transcode(e, string(r.Body))
		if d.Chance(60) {
			r.Set("Content-Type", "application/json; charset="+e)
		}
		r.Did("in " + e)
	case 7:
		r.Body = append([]byte(d.One("\ufeff", "\xff\xfe", "\xfe\xff")), r.Body...)
		r.Did("BOM")
	case 8, 9:
		r.Framing = differential.Framing(d.IntN(int(differential.None) + 1))
		if r.Framing >= differential.Both && d.Chance(75) { // those mostly lead to a wait for the time-out
			r.Framing = differential.ManyChunks
		}
		r.Did(fmt.Sprintf("framing %d", r.Framing))
	case 10:
		r.Method = d.One("GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "QUERY", "post", "get", "POST", "TRACE", "PROPFIND")
		r.Did(r.Method)
	case 11:
		name := d.One("X-HTTP-Method-Override", "X-Http-Method", "X-Method-Override", "X_HTTP_Method_Override")
		r.Set(name, d.One("POST", "GET", "PUT", "post"))
		if d.Chance(50) {
			r.Method = d.One("GET", "HEAD", "OPTIONS")
		}
		r.Did(name)
	case 12, 13:
		path, query, has := strings.Cut(r.Target, "?")
		path = d.One(path, "/graphql/", "/GraphQL", "//graphql", "/./graphql", "/x/../graphql", "/%67raphql", "/graphql;x=1", "/graphql/x", "/graphql%2f", `\graphql`, `/x\..\graphql`,
			"/graphql%3f", "/graphql%00", "/graphql.", "/graphql%20", "/%2567raphql", "/graphql/../graphql", "http://app.test/graphql", "http://other.test/graphql", "/graphql/batch", "/graphql/.", "*", "/")
		r.Target = path
		if has {
			r.Target += "?" + query
		}
		r.Did("path " + path)
	case 14:
		sep := "?"
		if strings.Contains(r.Target, "?") {
			sep = d.One("&", "?", ";", "&&", "#")
		}
		p := d.One("x=1", "query=", "query="+url.QueryEscape(m), "Query="+url.QueryEscape(m), "query[]="+url.QueryEscape(m), "%71uery="+url.QueryEscape(m), "query="+url.QueryEscape(q), "operationName=M",
			"_method=POST", "_method=GET", "variables={}", "extensions="+url.QueryEscape(`{"persistedQuery":{"version":1,"sha256Hash":"`+sha256Hex(m)+`"}}`), "doc_id=1", "raw")
		r.Target += sep + p
		r.Did("parameter " + p)
	case 15:
		r.Set("Accept", d.One("text/event-stream", "application/graphql-response+json", "multipart/mixed; deferSpec=20220824, application/json", "text/html", "*/*", "", "application/json;q=0"))
		r.Did("Accept")
	case 16:
		name := d.One("Upgrade", "Expect", "Transfer-Encoding", "TE", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "Content-Transfer-Encoding", "Content-Disposition", "Range", "Content-Length", "Cookie", "X-Apollo-Operation-Name", "Apollo-Require-Preflight")
		value := map[string]string{"Upgrade": d.One("h2c", "websocket", "foo"), "Expect": "100-continue", "Transfer-Encoding": d.One("gzip, chunked", "identity", "Chunked", "chunked, identity"),
			"X-Original-URL": "/graphql", "X-Rewrite-URL": "/graphql", "Content-Length": d.One("0", "5", "+10", "1, 2"), "Content-Transfer-Encoding": "base64"}[name]
		r.Headers = append(r.Headers, [2]string{name, value})
		r.Did(name + ": " + value)
	case 17:
		if d.Chance(30) {
			r.After = post("", "application/json", object(`"query"`, quote(m))).Bytes()
			r.Did("pipelined")
		}
	case 18:
		if d.Chance(40) {
			r.Version = "HTTP/1.0"
			r.Did(r.Version)
		}
	case 19:
		if len(r.Body) > 0 && r.Method == "POST" && d.Chance(30) {
			// Padding that only the transport sees: JSON takes white space.
			pad := d.IntN(70_000)
			if d.Chance(10) { // about the limit of a body, and of Envoy's buffer
				pad = 1<<20 - 512 + d.IntN(1024)
			}
			r.Body = append(bytes.Repeat([]byte(" "), pad), r.Body...)
			r.Did(fmt.Sprintf("padded by %d", pad))
		}
	}
}

// Encodings.

func sha256Hex(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func multipart(fields ...string) string {
	var b strings.Builder
	for i := 0; i < len(fields); i += 2 {
		file := ""
		if fields[i] == "0" {
			file = "; filename=\"f\"\r\nContent-Type: text/plain"
		}
		fmt.Fprintf(&b, "--x\r\nContent-Disposition: form-data; name=%q%s\r\n\r\n%s\r\n", fields[i], file, fields[i+1])
	}
	return b.String() + "--x--\r\n"
}

// websocket asks for an upgrade and sends, without waiting for it, what starts an operation.
func websocket(protocol, doc string) *differential.Request {
	start := map[string]string{"graphql-transport-ws": "subscribe", "graphql-ws": "start"}[protocol]
	r := &differential.Request{Method: "GET", Target: "/graphql", Trail: []string{"WebSocket " + protocol}, Headers: [][2]string{
		{"Connection", "Upgrade"}, {"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}, {"Sec-WebSocket-Key", "ZHJ5ZG9ja2RyeWRvY2tkcg=="}, {"Sec-WebSocket-Protocol", protocol},
	}}
	for _, message := range []string{`{"type":"connection_init","payload":{}}`, `{"id":"1","type":"` + start + `","payload":{"query":` + quote(doc) + `}}`} {
		// One text frame, final, masked by zeros (RFC 6455 section 5.2).
		r.After = append(r.After, 0x81, 0x80|126)
		r.After = binary.BigEndian.AppendUint16(r.After, uint16(len(message)))
		r.After = append(append(r.After, 0, 0, 0, 0), message...)
	}
	return r
}
