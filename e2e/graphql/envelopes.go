package graphql

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// This file makes envelopes: the JSON in which a GraphQL request carries its document, such as
// {"query": "{a}", "operationName": null}. They have members, and errors, that servers read
// differently. Each method of dice makes random choices.

// envelope is a JSON object in the making.
type envelope struct {
	doc     string   // the document
	query   string   // the document as a JSON string
	members []member // of the object, in order; a key may be there twice
	text    string   // the object as JSON, set once the members are complete
	trail   []string // the steps that led to the envelope
}

// member is a member of a JSON object. Key and value are JSON, or nearly so.
type member struct{ key, value string }

func (e *envelope) did(step string) { e.trail = append(e.trail, step) }

// envelope returns an envelope with a document, and the steps that led to it. A quarter of the
// envelopes have changed members, and the text of some is changed once more, so that it may be no
// valid JSON.
func (d *dice) envelope(doc string) (text string, trail []string) {
	e := d.plainEnvelope(doc)
	for d.Chance(25) {
		d.changeMembers(e)
		if len(e.members) == 0 {
			e.members = []member{{`"query"`, e.query}}
		}
	}

	var pairs []string
	for _, m := range e.members {
		pairs = append(pairs, m.key, m.value)
	}
	e.text = object(pairs...)

	for d.Chance(18) {
		d.changeText(e)
	}
	return e.text, e.trail
}

// plainEnvelope returns an envelope as clients send it, sometimes with unusual values.
func (d *dice) plainEnvelope(doc string) *envelope {
	e := &envelope{doc: doc, query: d.jsonString(doc)}
	e.members = []member{{`"query"`, e.query}}

	switch {
	case strings.Contains(e.doc, "mutation M") && d.Chance(70):
		e.members = append(e.members, member{`"operationName"`, `"M"`})
		e.did("operationName M")
	case d.Chance(20):
		e.members = append(e.members, member{`"operationName"`, d.One(`"M"`, `"A"`, `null`, `""`, `"S"`, `"X"`, `"mutation"`, `0`, `["M"]`, `true`)})
		e.did("operationName " + e.members[1].value)
	}

	if d.Chance(25) {
		e.members = append(e.members, member{`"variables"`, d.One(`{}`, `null`, `{"x":"mutation M{b}"}`, `"{}"`, `[]`, `{"query":"mutation M{b}"}`, `{"x":1e999}`, `{"a":{"b":[[[]]]}}`, `""`)})
		e.did("variables " + e.members[len(e.members)-1].value)
	}
	return e
}

// changeMembers adds, changes or removes a member. The document of an added member is mostly
// another one, because servers differ in which of two they run.
func (d *dice) changeMembers(e *envelope) {
	i := d.IntN(len(e.members) + 1)
	other := d.jsonString(d.One(plainQuery, plainMutation, "query A{a}", "", "subscription{bump}"))

	switch d.IntN(11) {
	case 0, 1:
		e.members = slices.Insert(e.members, i, member{d.key("query"), other})
		e.did("second query key " + e.members[i].key)
	case 2:
		e.members[0].key = d.key("query")
		e.did("key " + e.members[0].key)

	case 3:
		hash := sha256Hex(d.One(plainQuery, plainMutation, e.doc))
		if d.Chance(20) {
			hash = d.One("", strings.ToUpper(hash), hash[:10], " "+hash, "x")
		}
		version := d.One("1", "1", "1", `"1"`, "1.0", "2", "null")
		ext := `{"persistedQuery":{"version":` + version + `,"sha256Hash":"` + hash + `"}}`
		e.members = slices.Insert(e.members, i, member{d.One(`"extensions"`, `"extensions"`, `"Extensions"`, `"exten\u017fions"`), ext})
		e.did("persisted query")
		if d.Chance(40) {
			e.members = slices.DeleteFunc(e.members, func(m member) bool { return m.key == `"query"` })
			e.did("hash alone")
		}

	case 4:
		k := d.One("id", "documentId", "document_id", "doc_id", "docId", "queryId", "persisted", "doc", "hash", "operations", "map", "mutation", "_json", "batch", "0", "constructor")
		e.members = slices.Insert(e.members, i, member{quote(k), d.One(other, `"`+sha256Hex(plainMutation)+`"`, "true", "1", "{"+`"query":`+other+"}", "["+other+"]")})
		e.did("extra key " + k)

	case 5:
		e.members = slices.Insert(e.members, i, member{`"__proto__"`, `{"query":` + other + `}`})
		e.did("__proto__")
	case 6:
		e.members[0].value = d.One("["+e.query+"]", `{"query":`+e.query+`}`, "null", "1", e.query+" "+e.query, "'"+e.doc+"'", "NaN")
		e.did("query of another type")
	case 7:
		d.Shuffle(len(e.members), func(i, j int) { e.members[i], e.members[j] = e.members[j], e.members[i] })
		e.did("reordered")

	case 8:
		j := d.IntN(max(1, len(e.members)))
		if j < len(e.members) {
			e.members = slices.Insert(e.members, i, e.members[j])
			e.did("doubled " + e.members[i].key)
		}

	case 9:
		e.members = slices.Insert(e.members, i, member{quote(strings.Repeat("k", d.IntN(80))), d.One("1e400", "-0", "01", "1.", "0x1", "Infinity", "-", "+1", "\"\\ud800\"", "\"\\x41\"", "\"\xff\"", "tru", "nul")})
		e.did("odd value")
	case 10:
		e.members = slices.Insert(e.members, i, member{`"extensions"`, d.One(`{"query":`+other+`}`, `null`, `[]`, `{"persistedQuery":null}`, `{"persistedQuery":{"version":1,"sha256Hash":"`+sha256Hex(plainMutation)+`","sha256Hash":"`+sha256Hex(plainQuery)+`"}}`)})
		e.did("odd extensions")
	}
}

// changeText changes the text of an envelope: it makes a batch of it, adds data around it, inserts
// a character or drops a byte.
func (d *dice) changeText(e *envelope) {
	other := object(`"query"`, d.jsonString(d.One(plainQuery, plainMutation)))

	switch d.IntN(9) {
	case 0, 1, 2:
		parts := []string{e.text, other}
		d.Shuffle(2, func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		e.text = "[" + strings.Join(parts[:1+d.IntN(2)], d.One(",", ", ", ",\n")) + "]"
		e.did("batch")

	case 3:
		e.text = d.One("["+e.text+"]", "["+e.text+","+e.text+"]", `{"0":`+e.text+`,"length":1}`, `{"_json":[`+e.text+`]}`, `{"operations":`+e.text+`}`, `{"body":`+e.text+`}`)
		e.did("wrapped")
	case 4:
		e.text = e.text + d.One("", " ", "\n", ",", "\x00", "\r\n\r\n", ";", "//x", "]", "}") + d.One("", other, "x", "null")
		e.did("trailing data")
	case 5:
		e.text = d.One("\ufeff", " ", "\n\n", "\f", "\u00a0", ")]}',\n", "\x1e", "/**/", "//x\n", "null", other, "\x00") + e.text
		e.did("leading data")

	case 6:
		s := d.One(" ", "\t", "\r", "\v", "\f", "\u00a0", "\u2028", "/**/", ",", "\ufeff", "\x00")
		e.text = d.insert(e.text, s)
		e.did("insert " + quote(s))
	case 7:
		s := d.One("\xff", "\xc0\x80", "\xed\xa0\x80", "\xc1\xad", "\xf5\x80\x80\x80", "\x80", "\xe2\x80")
		e.text = d.insert(e.text, s)
		e.did(fmt.Sprintf("insert %+q", s))

	case 8:
		if len(e.text) > 2 {
			i := d.IntN(len(e.text))
			e.text = e.text[:i] + e.text[i+1:]
			e.did("byte dropped")
		}
	}
}

// jsonString returns s as a JSON string. Four of ten times it uses escapes that are not needed, or
// leaves the slash escaped.
func (d *dice) jsonString(s string) string {
	const ( // the styles with escapes; below them, as quote writes it
		escapeAll   = 6
		escapeSome  = 7
		escapeSlash = 8
	)
	style := d.IntN(10)
	if style < escapeAll {
		return quote(s)
	}

	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		mustEscape := r == '"' || r == '\\' || r < 0x20
		switch {
		case mustEscape || style == escapeAll || style == escapeSome && d.Chance(30):
			for _, u := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, d.One(`\u%04x`, `\u%04X`), u)
			}
		case style == escapeSlash && r == '/':
			b.WriteString(`\/`)
		default:
			b.WriteRune(r)
		}
	}

	b.WriteByte('"')
	return b.String()
}

// key returns the name of a member as JSON, often in a spelling that some server takes for the
// name.
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
