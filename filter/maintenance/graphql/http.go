package graphql

import (
	"strings"
	"unicode/utf8"
)

// Query judges the query string of a GET's URL, without its question mark: one document in the parameter "query", and
// nothing beside it but what [JSON] allows.
func Query(rawQuery string, opt *Options) Rule {
	if opt == nil {
		opt = &defaults
	}
	if len(rawQuery) > opt.maxBody() {
		return RuleLimitBody
	}
	var q request
	r := reader{opt: opt}
	r.scratch()
	defer r.release()
	for rawQuery != "" {
		var pair string
		pair, rawQuery, _ = strings.Cut(rawQuery, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		key, ok := r.unescapeURL(name)
		if !ok {
			return RuleURLEncoding
		}
		p, rule := q.given.add(key, opt)
		if rule != "" {
			return rule
		}
		v, ok := r.unescapeURL(value)
		if !ok {
			return RuleURLEncoding
		}
		switch p {
		case paramForeign: // it may be a page's, or a stored document's
			return RuleUnknownKey
		case paramQuery:
			q.doc = v
		case paramVariables, paramExtensions:
			rule = judgeJSONParameter(p, v, &q, opt)
		}
		// Behind some gateways a value is decoded twice.
		if rule == "" && (p == paramQuery || p == paramExtensions) && percentEscaped(v) {
			rule = RuleURLEncoding
		}
		if rule != "" {
			return rule
		}
	}
	return q.judge(opt)
}

// judgeJSONParameter reads variables or extensions from a URL: empty, or JSON. What is not JSON some servers leave out, and
// run the document all the same (graphql-go's handler does).
func judgeJSONParameter(p int, src []byte, q *request, opt *Options) (rule Rule) {
	if len(src) == 0 {
		return ""
	}

	r := reader{src: src, opt: opt}
	defer r.release()

	if r.skipSpace() == '{' && p == paramExtensions {
		rule = r.extensions(q)
	} else if rule = r.value(); rule == "" && p == paramExtensions && !hasNoBrace(src) {
		rule = RulePersistedForm
	}
	if r.skipSpace(); rule == RuleJSON || rule == "" && r.pos < len(src) {
		return RuleJSONAmbiguous
	}
	return rule
}

// unescapeURL decodes one name or value of a query string into decoded. Parsers differ on semicolons and on malformed
// escapes, so both are refused, as are characters that a URL cannot hold.
func (r *reader) unescapeURL(s string) ([]byte, bool) {
	mark := len(r.decoded)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%':
			escaped, ok := percentAt(s, i)
			if !ok {
				return nil, false
			}
			c = escaped
			i += 2
		case c == '+':
			c = ' '
		case c <= ' ' || c >= 0x7F || c == ';' || c == '#':
			return nil, false
		}
		r.decoded = append(r.decoded, c)
	}
	v := r.decoded[mark:]
	return v, utf8.Valid(v)
}

func percentEscaped(b []byte) bool {
	for i := range b {
		if _, ok := percentAt(b, i); ok {
			return true
		}
	}
	return false
}

// HasParameter reports whether a URL's query string, without its question mark, may carry a GraphQL parameter for some
// server: one of a request's four, or one that names a stored document, under any encoding, folding or nesting
// (query[], [query]). A name that cannot be read with certainty counts.
func HasParameter(rawQuery string) bool {
	for rawQuery != "" {
		pair := rawQuery
		if i := strings.IndexAny(rawQuery, "&;"); i >= 0 {
			pair, rawQuery = rawQuery[:i], rawQuery[i+1:]
		} else {
			rawQuery = ""
		}
		name, _, _ := strings.Cut(pair, "=")
		if namesParameter(name) {
			return true
		}
	}
	return false
}

func namesParameter(name string) bool {
	var buf [64]byte
	word := buf[:0]
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '%' {
			escaped, ok := percentAt(name, i)
			if !ok || escaped == '%' {
				return true
			}
			c = escaped
			i += 2
		}
		switch {
		case c < ' ' || c >= 0x7F:
			return true
		case class[c]&(nameStart|digit) == 0 && c != '-': // a name within the name ends, as in query[0]
			if isParameterWord(word) {
				return true
			}
			word = buf[:0]
		case c != '_' && c != '-' && len(word) < len(buf):
			word = append(word, lower(c))
		}
	}
	return isParameterWord(word)
}

func isParameterWord(word []byte) bool {
	switch string(word) {
	case "query", "operationname", "variables", "extensions", "mutation", "subscription", "operations", "map":
		return true
	}
	return isStoredWord(word)
}

// ContentType judges the values of a POST's Content-Type header: exactly one, application/json, with no parameter but a
// charset of UTF-8.
func ContentType(values []string) Rule {
	if len(values) == 0 {
		return RuleNoContentType
	}
	if len(values) > 1 {
		return RuleContentType
	}

	media, param, more := strings.Cut(values[0], ";")
	switch media = strings.Trim(media, " \t"); {
	case media == "" || equalASCII(media, "text/plain"):
		return RuleNoContentType
	case !equalASCII(media, "application/json"):
		return RuleContentType
	}
	if !more {
		return ""
	}
	switch param = strings.Trim(param, " \t"); {
	case equalASCII(param, "charset=utf-8"), equalASCII(param, `charset="utf-8"`):
		return ""
	}
	return RuleCharset
}

// ContentEncoding judges the values of a POST's Content-Encoding header: none.
func ContentEncoding(values []string) Rule {
	if len(values) > 0 {
		return RuleContentEncoding
	}
	return ""
}
