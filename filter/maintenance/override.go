package maintenance

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// This file finds method overrides. Frameworks let a request name another method than its own, so
// that a POST is handled as a DELETE: in a header (Rails, Laravel, Symfony, Express, ASP.NET,
// Google's APIs), in a parameter of the URL, of a form or of a JSON body, or in a cookie if cookies
// count as parameters (PHP's $_REQUEST). docs/read-only.md lists which framework reads what.
// Anything that some framework may take for an override counts as one.

// severalMethods stands for the method if a request names several methods, or an empty one. No rule
// lists it, so such a request can only be refused.
const severalMethods = "?"

// overrideMethod returns the method that the headers, the URL or the cookies of a request name, ""
// if they name none, or severalMethods.
func (r *Request) overrideMethod() string {
	rs := r.interpret()
	if rs.overrideRead {
		return rs.overrideMethod
	}

	method := "" // what the headers up to this one name
	for i := range r.Headers {
		name, value := r.Headers[i][0], r.Headers[i][1]
		switch {
		case strings.HasPrefix(name, ":"): // a pseudo-header, such as :method itself
		case namesOverride(name, false) || mayMean(name, "x-method"):
			method = combineMethods(method, value)
		case mayMean(name, "cookie"):
			method = overrideIn(value, method)
		}
	}

	rs.overrideMethod, rs.overrideRead = overrideIn(rs.query, method), true
	return rs.overrideMethod
}

// isOverridden reports whether a request names another method than its own. A POST that names GET
// counts, because some servers would handle the request as a GET and others as a POST.
func (r *Request) isOverridden() bool {
	method := r.overrideMethod()
	return method != "" && method != r.Method
}

// overrideIn looks for overrides in parameters, as URLs, forms and cookies have them. It returns
// the method that they name together with method, the one found before.
func overrideIn(params, method string) string {
	for begin := 0; begin < len(params) && method != severalMethods; {
		end, equals := begin, -1
		for end < len(params) && params[end] != '&' && params[end] != ';' {
			if params[end] == '=' && equals < 0 {
				equals = end
			}
			end++
		}

		name, value := params[begin:end], ""
		if equals >= 0 {
			name, value = params[begin:equals], params[equals+1:end]
		}
		if len(name) >= len("_method") && namesOverride(name, true) {
			method = combineMethods(method, percentDecode(value))
		}

		begin = end + 1
	}

	return method
}

// combineMethods returns the method that a request names, given the one that was found before, or
// "", and the value of one more override. Even if two overrides name the same method, the result is
// severalMethods, because no honest client sends two.
func combineMethods(before, named string) string {
	named = strings.ToUpper(strings.TrimSpace(named))
	if before != "" || named == "" {
		return severalMethods
	}
	return named
}

// longestOverride bounds the letters and digits in the name of an override. A longer name is none:
// the names that frameworks use have at most 20.
const longestOverride = 32

// namesOverride reports whether some server reads the method from a header or a parameter of this
// name. Only the letters and digits of the name count: servers treat dots, blanks, brackets and
// more like underscores, drop them at the beginning (PHP, Rack), and end a name at a NUL or a
// bracket. A parameter may be percent-encoded twice, a header is not.
func namesOverride(name string, encoded bool) bool {
	var buf [longestOverride]byte
	word := buf[:0] // the letters and digits of the name, in lower case
	lead := false   // whether another character than a blank comes before them
	for i := 0; i < len(name); i++ {
		c := name[i]
		if encoded && c == '%' {
			c, i = unescapeTwice(name, i)
		}

		switch {
		case isAlphanumeric(c):
			if len(word) == len(buf) {
				return false
			}
			word = append(word, c|0x20) // in lower case; a digit stays the same
		case len(word) == 0:
			lead = lead || strings.IndexByte(" +\t", c) < 0 // in a URL, + is a blank
		case c == 0, c == '[', c != '_' && c != '-' && lead && string(word) == "method":
			return isOverrideWord(word, lead)
		}
	}

	return isOverrideWord(word, lead)
}

// isOverrideWord reports whether a name with these letters and digits is that of an override. lead
// means that another character than a blank comes before them, as in "_method": parameters that are
// just "method" or "httpMethod" are common, and not overrides.
func isOverrideWord(word []byte, lead bool) bool {
	return lead && (string(word) == "method" || string(word) == "httpmethod") ||
		bytes.Contains(word, []byte("methodoverride")) ||
		bytes.Contains(word, []byte("overridemethod")) ||
		bytes.Contains(word, []byte("tunneledmethod")) ||
		bytes.Contains(word, []byte("xhttpmethod"))
}

// unescapeTwice decodes the percent escape at name[i], and the escape that it may itself encode. It
// returns the byte, and the index of the last character of the escape.
func unescapeTwice(name string, i int) (c byte, last int) {
	c, size := escape(name[i:])
	if size == 0 {
		return name[i], i
	}

	last = i + size - 1
	if c == '%' {
		if inner, ok := graphql.HexByte(name[last+1:]); ok {
			return inner, last + 2
		}
	}

	return c, last
}

// bodyMayOverride returns whether the body of a request names, or may name, another method. It
// reads at most maxBody bytes of it.
//
// Frameworks look for a method in the body of a POST, and CakePHP also of PUT, PATCH and DELETE.
// Only a body that every server reads alike can be known to name none: JSON or a URL-encoded form,
// in UTF-8, not compressed. Any other body may name one: Rack reads multipart/mixed, and a body
// without a type, as a form; Express decompresses; Tomcat decodes RFC 5987 names.
func (r *Request) bodyMayOverride(maxBody int) answer {
	if !overridable(r.Method) || r.EndStream || hasGRPCMessages(r) {
		return answerNo
	}

	kind := bodyFormatOf(r)
	switch { // the cases that need no body come first
	case r.BodyRead && len(r.Body) == 0:
		return answerNo
	case kind == opaqueBody && r.hasInAnySpelling("content-type"), r.announcedBytes() > maxBody:
		return answerYes
	case !r.BodyRead:
		return answerNeedsBody
	case kind == opaqueBody:
		return answerYes
	case len(r.Body) > maxBody || r.bodyNamesMethod(kind):
		return answerYes
	}

	return answerNo
}

// overridable reports whether some framework looks for another method in the body of this one.
func overridable(method string) bool {
	return method == "POST" || method == "PUT" || method == "PATCH" || method == "DELETE"
}

// bodyNamesMethod reports whether the body, which must have been read as a whole, names a method or
// is not what its type says. The result is kept, because several rules may ask.
func (r *Request) bodyNamesMethod(kind bodyFormat) bool {
	rs := r.interpret()
	if !rs.bodyRead {
		rs.bodyRead = true
		// Clients that set no type send JSON as a form, and some servers recognise it.
		text := bytes.TrimLeft(r.Body, " \t\r\n")
		isJSON := kind == jsonBody || len(text) > 0 && (text[0] == '{' || text[0] == '[')
		rs.bodyNamesMethod = kind == formBody && overrideIn(string(r.Body), "") != "" || isJSON && !isPlainJSON(r.Body)
	}

	return rs.bodyNamesMethod
}

// bodyFormat is the format in which every server reads a body.
type bodyFormat uint8

const (
	opaqueBody bodyFormat = iota // none that is known: servers may read the body in different ways
	jsonBody
	formBody // URL-encoded
)

// bodyFormatOf returns the format of a body by its headers. Content-Type must be there once, in one
// spelling, and the body must not be compressed.
func bodyFormatOf(r *Request) bodyFormat {
	kind, ok := r.soleValue("content-type")
	if !ok || r.hasInAnySpelling("content-encoding") {
		return opaqueBody
	}

	media, params, _ := strings.Cut(strings.ToLower(kind), ";")
	switch media = strings.Trim(media, " \t"); {
	case media == "application/x-www-form-urlencoded" && isUTF8Charset(params):
		return formBody
	case strings.Contains(media, "form") || strings.Contains(media, "multipart"):
		// Undertow reads whatever begins like the type of a form as a form.
	case media == "application/json", strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json") && isToken(media[len("application/"):]):
		if areJSONParameters(params) {
			return jsonBody
		}
	}

	return opaqueBody
}

// isUTF8Charset reports whether the parameters of a media type, in lower case, say no more than
// that the text is UTF-8.
func isUTF8Charset(params string) bool {
	params = strings.Trim(params, " \t")
	return params == "" || params == "charset=utf-8" || params == `charset="utf-8"`
}

// areJSONParameters reports whether a JSON type with these parameters, in lower case, is JSON in
// UTF-8 for every server. Clients of Elasticsearch send compatible-with=8, those of OData
// odata.metadata, those of ActivityPub and JSON:API a profile. Laravel looks for "json" anywhere in
// the value, and Slim for the type of a form, so a parameter must not look like another type.
func areJSONParameters(params string) bool {
	if strings.Contains(params, ",") || strings.Contains(params, "form") || strings.Contains(params, "multipart") {
		return false
	}

	for params != "" {
		var param string
		param, params, _ = strings.Cut(params, ";")
		if strings.Contains(param, "charset") && !isUTF8Charset(param) {
			return false
		}
	}

	return true
}

// isPlainJSON reports whether a body is strict JSON (RFC 8259), and no key at its top level names a
// method. Frameworks do not look below the top level.
func isPlainJSON(body []byte) bool {
	in := jsontext.NewDecoder(bytes.NewBuffer(body))
	switch in.PeekKind() {
	case '{':
		if !readPlainObject(in) {
			return false
		}
	case '[':
		if in.SkipValue() != nil {
			return false
		}
	default: // a server that ignores the type may read a string as a form
		if overrideIn(string(body), "") != "" || in.SkipValue() != nil {
			return false
		}
	}

	return len(bytes.Trim(body[in.InputOffset():], " \t\r\n")) == 0
}

// readPlainObject reads an object, and reports whether it is strict JSON and none of its keys names
// a method.
func readPlainObject(in *jsontext.Decoder) bool {
	if _, err := in.ReadToken(); err != nil {
		return false
	}

	for in.PeekKind() == '"' {
		key, err := in.ReadToken()
		if err != nil || namesOverride(key.String(), false) || in.SkipValue() != nil {
			return false
		}
	}

	end, err := in.ReadToken()
	return err == nil && end.Kind() == '}'
}
