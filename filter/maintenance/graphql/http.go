package graphql

import (
	"strings"
	"unicode/utf8"
)

// This file judges the parts of an HTTP request other than a JSON body: two headers and the query
// string of the URL. The parameters in a query string of a GET are those of a JSON body, so that
// request.go judges them (request, paramSet) after this file has decoded them.

// ContentType judges the values of a POST's Content-Type header. There must be exactly one,
// application/json, with no parameter other than a charset of UTF-8.
func ContentType(values []string) Rule {
	if len(values) == 0 {
		return RuleNoContentType
	}
	if len(values) > 1 {
		return RuleContentType
	}

	media, param, hasParam := strings.Cut(values[0], ";")
	media, param = strings.Trim(media, " \t"), strings.Trim(param, " \t")
	switch {
	case media == "" || equalASCII(media, "text/plain"):
		return RuleNoContentType
	case !equalASCII(media, "application/json"):
		return RuleContentType
	}

	if hasParam && !equalASCII(param, "charset=utf-8") && !equalASCII(param, `charset="utf-8"`) {
		return RuleCharset
	}
	return ""
}

// ContentEncoding judges the values of a POST's Content-Encoding header. There must be none.
func ContentEncoding(values []string) Rule {
	if len(values) > 0 {
		return RuleContentEncoding
	}
	return ""
}

// Query judges the query string of a GET's URL, without its question mark. It must have one
// document, in the parameter "query", and besides it only parameters that [JSON] allows.
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
		if rule := r.urlParameter(&q, pair); rule != "" {
			return rule
		}
	}
	return q.judge(opt)
}

// urlParameter reads one parameter of a query string, name=value, into q. It returns the rule that
// refuses the request because of it, or "".
func (r *reader) urlParameter(q *request, pair string) Rule {
	name, value, _ := strings.Cut(pair, "=")
	key, ok := r.unescapeURL(name)
	if !ok {
		return RuleURLEncoding
	}

	p, rule := q.given.add(key, r.opt)
	if rule != "" {
		return rule
	}

	v, ok := r.unescapeURL(value)
	if !ok {
		return RuleURLEncoding
	}

	switch p {
	case paramForeign: // it may belong to a page, or name a stored document
		return RuleUnknownKey
	case paramQuery:
		q.doc = v
	case paramVariables, paramExtensions:
		rule = judgeJSONParameter(p, v, q, r.opt)
	}

	// Some gateways decode a value before the server decodes it again.
	if rule == "" && (p == paramQuery || p == paramExtensions) && percentEscaped(v) {
		rule = RuleURLEncoding
	}
	return rule
}

// judgeJSONParameter reads variables or extensions from a URL. They must be empty or JSON: some
// servers ignore what is not JSON and run the document anyway (graphql-go's handler does).
func judgeJSONParameter(p int, src []byte, q *request, opt *Options) (rule Rule) {
	if len(src) == 0 {
		return ""
	}

	r := reader{src: src, opt: opt}
	defer r.release()

	isObject := r.skipSpace() == '{'
	switch {
	case p == paramExtensions && isObject:
		rule = r.extensions(q)
	default:
		rule = r.value()
		if rule == "" && p == paramExtensions && !hasNoBrace(src) {
			rule = RulePersistedForm
		}
	}

	r.skipSpace()
	hasMore := rule == "" && r.pos < len(src)
	if hasMore || rule == RuleJSON {
		return RuleJSONAmbiguous
	}
	return rule
}

// unescapeURL decodes one name or value of a query string, appends it to decoded and returns it; ok
// reports whether every server decodes it so, to valid UTF-8. Parsers differ
// on semicolons and on malformed escapes, so both are refused, and so are characters that a URL
// cannot contain.
func (r *reader) unescapeURL(s string) (value []byte, ok bool) {
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
			i += 2 // the digits
		case c == '+':
			c = ' '
		case c <= ' ' || c >= 0x7F || c == ';' || c == '#':
			return nil, false
		}
		r.decoded = append(r.decoded, c)
	}

	value = r.decoded[mark:]
	return value, utf8.Valid(value)
}

// percentEscaped reports whether b contains a percent escape.
func percentEscaped(b []byte) bool {
	for i := range b {
		if _, ok := percentAt(b, i); ok {
			return true
		}
	}
	return false
}

// HasParameter reports whether some server may find a GraphQL parameter in a URL's query string,
// which is given without its question mark: one of the four parameters of a request, or one that
// names a stored document, under any encoding, folding or nesting (query[], [query]). A name that
// cannot be read with certainty counts as one.
func HasParameter(rawQuery string) bool {
	for rawQuery != "" {
		pair, rest := rawQuery, ""
		if i := strings.IndexAny(rawQuery, "&;"); i >= 0 { // some servers separate pairs by semicolons
			pair, rest = rawQuery[:i], rawQuery[i+1:]
		}
		rawQuery = rest

		name, _, _ := strings.Cut(pair, "=")
		if namesParameter(name) {
			return true
		}
	}

	return false
}

// namesParameter reports whether name, or a name nested in it as in query[0], may be that of a
// GraphQL parameter. A name that cannot be read with certainty may be one.
func namesParameter(name string) bool {
	var buf [64]byte // longer than every name of isParameterWord
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
		case class[c]&(nameStart|digit) == 0 && c != '-': // a nested name ends here
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

// isParameterWord reports whether word is a parameter's name, folded to lower case and without
// underscores and hyphens.
func isParameterWord(word []byte) bool {
	switch string(word) {
	case "query", "operationname", "variables", "extensions", "mutation", "subscription", "operations", "map":
		return true
	}
	return isStoredWord(word)
}
