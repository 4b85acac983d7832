package graphql

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// This file makes the documents of generated requests: those of the corpus (corpus.go), joined, cut
// and changed where the lexers and parsers of GraphQL servers disagree. Each function of dice makes
// random choices.

// ignorable are texts that the specification of GraphQL lets a lexer skip.
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

// document returns a document and the steps that led to it, for the trail of its request.
func (d *dice) document() (doc string, trail []string) {
	doc = d.operation()
	trail = append(trail, fmt.Sprintf("document %.60q", doc))

	for d.Chance(45) {
		var step string
		doc, step = d.change(doc)
		if step != "" {
			trail = append(trail, step)
		}
	}
	return doc, trail
}

// operation returns a document to begin with.
func (d *dice) operation() string {
	switch n := d.IntN(100); { // the bounds add up the shares, in percent
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

// change changes one thing about a document. It returns the result and a description of the step,
// or the document and "" if the change does not apply to it.
func (d *dice) change(doc string) (result, step string) {
	t := tokens(doc)
	i := d.IntN(len(t) + 1)

	switch kind := d.IntN(15); kind {
	case 0, 1, 2, 3, 5, 6, 7, 11, 12:
		return d.addTo(doc, t, i, kind)
	default:
		return d.alter(doc, t, i, kind)
	}
}

// addTo makes the changes of these kinds that add something to a document: in front of token i of
// its tokens t, at its start or at its end.
func (d *dice) addTo(doc string, t []string, i, kind int) (result, step string) {
	withInserted := func(s string) string { return strings.Join(t[:i], "") + s + strings.Join(t[i:], "") }
	switch kind {
	case 0, 1, 2:
		s := d.One(ignorable...)
		doc = withInserted(s)
		step = fmt.Sprintf("insert %q", s)
	case 3:
		s := d.One(strange...)
		doc = withInserted(s)
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
		doc = withInserted(s)
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

// alter makes the changes of the other kinds. They replace, delete or repeat what is in a document,
// some of them token i of its tokens t.
func (d *dice) alter(doc string, t []string, i, kind int) (result, step string) {
	withInserted := func(s string) string { return strings.Join(t[:i], "") + s + strings.Join(t[i:], "") }
	switch kind {
	case 4: // replaces the first string, if there is one
		s := d.One(texts...)
		if j := slices.IndexFunc(t, func(s string) bool { return s[0] == '"' }); j >= 0 {
			t[j] = s
			doc = strings.Join(t, "")
		} else {
			doc = withInserted(s)
		}
		step = fmt.Sprintf("string %q", s)

	case 8:
		if i < len(t) {
			step = fmt.Sprintf("delete %.20q", t[i])
			doc = strings.Join(slices.Delete(t, i, i+1), "")
		}
	case 9:
		if i < len(t) {
			doc = withInserted(t[i])
			step = fmt.Sprintf("double %.20q", t[i])
		}

	case 10: // writes the first keyword in another way
		for j, s := range t {
			if s == "mutation" || s == "subscription" || s == "query" {
				t[j] = d.One("MUTATION", "Mutation", "mutat\u0131on", "mut\u0430tion", `\u006dutation`, "muta\u00adtion", "mutation_", "mutation\u200d", "ｍutation")
				step = fmt.Sprintf("keyword %q", t[j])
				break
			}
		}
		doc = strings.Join(t, "")

	case 13: // puts characters of several bytes into comments and strings, for lexers that count bytes
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

// tokens splits a document roughly as the specification of GraphQL does: into block strings,
// strings, comments, names, and single characters. No token is empty, and the tokens joined are
// always the document.
func tokens(doc string) (t []string) {
	for doc != "" {
		n := 1 // the length of the next token
		switch c := doc[0]; {
		case strings.HasPrefix(doc, `"""`): // a block string, or an unfinished one
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

// soup returns a text that is a document only for some lexer. It begins as a query with a string,
// goes on with marks that may end strings and comments, and mostly ends with a mutation, which is
// one only where the lexer finds no string and no comment around it.
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
