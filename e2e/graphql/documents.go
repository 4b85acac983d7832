package graphql

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The documents that the generator makes: operations of the corpus, put together, cut and disguised
// where lexers and parsers disagree.

// ignorable are what the specification lets a lexer skip.
var ignorable = []string{
	",", " ", "\t", "\n", "\r", "\r\n", "#\n", "# mutation M{b}\n", "# \" \"\"\" {\n", "\ufeff", "#x\r", "#é\n", "#éé mutation M{b}\n", "#\u2028\n",
}

// strange are characters and marks that some lexer skips, or takes for the end of a line or a
// comment.
var strange = []string{
	"\x00", "\v", "\f", "\x1b", "\x7f", "\u0085", "\u00a0", "\u1680", "\u2000", "\u200b", "\u2028", "\u2029", "\u3000", "\ufffe", "\U000e0020",
	"#x\u2028", "#x\u2029", "#x\u0085", "#x\v", "#x\f", "#x\x00", ";", "\\", "'", "`", "%", "&", "..", "...", "$", "-", "0", "1.e", "/", "//x\n", "/*", "<!--",
}

// texts are string values, some of which end earlier or later for some lexer.
var texts = []string{
	`""`, `"x"`, `"mutation M{b}"`, `"\""`, `"\\"`, `"\\\""`, `"\u0022"`, `"\u{22}"`, `"{"`, `"}"`, `"#"`, `"é"`, `"\`, `"`, `"x\`,
	`""""""`, `"""x"""`, `"""mutation M{b}"""`, `"""\""""""`, `"""\"""`, `""" " """`, `""" "" """`, `""""x"""`, `"""x""""`, `"""\\"""`, `"""\\\""""""`, `"""`,
	"\"\"\"\n#\n\"\"\"", "\"\"\"\r\"\"\"", "\"\"\"é\u2028\"\"\"", `"""\"""" """`, `"""\u0022""" """`,
}

// document returns a document and the steps that led to it.
func (d *dice) document() (doc string, trail []string) {
	doc = d.operation()
	trail = append(trail, fmt.Sprintf("document %.60q", doc))

	for d.Chance(45) {
		var step string
		doc, step = d.changed(doc)
		if step != "" {
			trail = append(trail, step)
		}
	}
	return doc, trail
}

// operation returns a document to begin with.
func (d *dice) operation() string {
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

// changed changes one thing about a document. It returns the result and a description of the step,
// or "" if nothing changed.
func (d *dice) changed(doc string) (result, step string) {
	t := tokens(doc)
	i := d.IntN(len(t) + 1)

	switch n := d.IntN(15); n {
	case 0, 1, 2, 3, 5, 6, 7, 11, 12:
		return d.extended(doc, t, i, n)
	default:
		return d.altered(doc, t, i, n)
	}
}

// extended adds something to a document, most often before its i-th token.
func (d *dice) extended(doc string, t []string, i, n int) (result, step string) {
	at := func(s string) string { return strings.Join(t[:i], "") + s + strings.Join(t[i:], "") }
	switch n {
	case 0, 1, 2:
		s := d.One(ignorable...)
		doc = at(s)
		step = fmt.Sprintf("insert %q", s)
	case 3:
		s := d.One(strange...)
		doc = at(s)
		step = fmt.Sprintf("insert %q", s)

	case 5:
		s := d.One(texts...)
		doc = s + d.One("", " ", "\n", ",") + doc
		step = fmt.Sprintf("description %q", s)
	case 6, 7:
		s := d.operation()
		sep := d.One("", " ", "\n", ",", "#\n", "#", "#\r", "\ufeff", "}")
		if d.Chance(50) {
			doc = doc + sep + s
		} else {
			doc = s + sep + doc
		}
		step = fmt.Sprintf("join %.60q", s)

	case 11:
		s := d.One(" @include(if: true)", "@skip(if:false)", "@mutation", ` @x(y: "mutation{b}")`, "@x(y:{z:[1,2.5e3,$v,E]})", "()", "($v:Int=1)", "($v:[Int!]!=[1]@d)")
		doc = at(s)
		step = fmt.Sprintf("insert %q", s)
	case 12:
		s := d.One("type T{a:Int}", "extend type Query{c:Int}", "schema{query:Query}", "directive @d on FIELD", "scalar mutation", "fragment G on Query{a}", `"d" fragment H($x:Int) on Query{a}`)
		if d.Chance(50) {
			doc = s + " " + doc
		} else {
			doc += " " + s
		}
		step = fmt.Sprintf("join %q", s)
	}

	return doc, step
}

// altered changes what is in a document, most often its i-th token.
func (d *dice) altered(doc string, t []string, i, n int) (result, step string) {
	at := func(s string) string { return strings.Join(t[:i], "") + s + strings.Join(t[i:], "") }
	switch n {
	case 4:
		s := d.One(texts...)
		if j := slices.IndexFunc(t, func(s string) bool { return s[0] == '"' }); j >= 0 {
			t[j] = s
			doc = strings.Join(t, "")
		} else {
			doc = at(s)
		}
		step = fmt.Sprintf("string %q", s)

	case 8:
		if i < len(t) {
			step = fmt.Sprintf("delete %.20q", t[i])
			doc = strings.Join(slices.Delete(t, i, i+1), "")
		}
	case 9:
		if i < len(t) {
			doc = at(t[i])
			step = fmt.Sprintf("double %.20q", t[i])
		}

	case 10:
		for j, s := range t {
			if s == "mutation" || s == "subscription" || s == "query" {
				t[j] = d.One("MUTATION", "Mutation", "mutat\u0131on", "mut\u0430tion", `\u006dutation`, "muta\u00adtion", "mutation_", "mutation\u200d", "ｍutation")
				step = fmt.Sprintf("keyword %q", t[j])
				break
			}
		}
		doc = strings.Join(t, "")

	case 13:
		s := d.One("é", "ééééé", "\U0001f6f3", "e\u0301")
		for j := range t {
			if t[j][0] == '#' || t[j][0] == '"' && len(t[j]) > 1 {
				t[j] = t[j][:1] + s + t[j][1:]
			}
		}
		doc = strings.Join(t, "")

		if d.Chance(50) {
			doc = "#" + strings.Repeat(s, 1+d.IntN(9)) + d.One("\n", " "+plainMutation+"\n", "\r", "") + doc
		}
		step = fmt.Sprintf("wide text %q", s)

	case 14:
		doc = strings.ReplaceAll(doc, d.One("\n", " ", "{", "b"), d.One("\r", "\r\n", "\t", ",", "{ ", "b#\n", "{#x\r"))
		step = "replace"
	}
	return doc, step
}

// tokens splits a document roughly as the specification does. The tokens joined are always the
// document.
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

// soup returns a text of what lexers disagree about: where strings and comments end.
func (d *dice) soup() string {
	var b strings.Builder

	b.WriteString(d.One(`{echo(x:`, `query A{echo(x:`, `query A($x:String=`, `query A@include(if:`, ``, `{a(x:[`))
	for range 1 + d.IntN(9) {
		b.WriteString(d.One(`"`, `"""`, `\"""`, `\"`, `\\`, `\`, ` `, "\n", "\r", `#`, `mutation M{b}`, `)}`, `}`, `{`, `x`, `""`, `\u0022`, "é", "\u2028", "\ufeff"))
	}

	if d.Chance(70) {
		b.WriteString(d.One(`")}`, `""")}`, `)}`, `"`, `"""`) + d.One("", " ", "\n", "#") + d.One(plainMutation, "mutation{b}", "subscription{bump}"))
	}
	if d.Chance(50) {
		b.WriteString(d.One(`#`, "\n#") + d.One(`")}`, `""")}`, `"""`, `"`, "\r"+plainMutation))
	}
	return b.String()
}
