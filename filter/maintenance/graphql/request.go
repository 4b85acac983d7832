package graphql

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"unicode/utf8"
)

// This file judges the parameters of a request: which there are, and whether one of them is, or may
// stand for, a document. A reader (json.go) reads the JSON; judgeDocument (document.go) judges the
// document; http.go takes the same parameters from a URL. A method of reader that reads something
// returns "" or the rule that refuses the request, and leaves pos after what it has read.

// JSON judges the body of a POST, which must be one request object or a batch of them.
func JSON(body []byte, opt *Options) Rule {
	if opt == nil {
		opt = &defaults
	}
	if len(body) > opt.maxBody() {
		return RuleLimitBody
	}

	if !utf8.Valid(body) {
		return RuleJSONAmbiguous
	}

	r := reader{src: body, opt: opt}
	defer r.release()

	if rule := r.body(); rule != "" {
		return rule
	}
	r.skipSpace()
	if r.pos < len(body) {
		return RuleJSONAmbiguous // there is text after the JSON
	}
	return ""
}

// body reads and judges the body: a request, or a batch of them.
func (r *reader) body() Rule {
	switch r.skipSpace() {
	case '{':
		return r.request()
	case '[':
		return r.batch()
	}

	return r.notRequest()
}

// batch reads and judges the array at pos, one request after the other.
func (r *reader) batch() Rule {
	if !r.opt.Batching {
		return RuleBatch
	}

	r.pos++ // the bracket
	for n := 1; ; n++ {
		switch r.skipSpace() {
		case '{':
		case ']':
			if n == 1 {
				return RuleBatchEmpty
			}
			return r.unexpected() // after a comma
		case '[':
			return RuleBatchNested
		default:
			if r.pos < len(r.src) {
				return RuleBatchElement
			}
			return RuleJSON
		}

		if n > r.opt.maxBatch() {
			return RuleLimitBatch
		}

		rule := r.request()
		switch {
		case rule == "":
		case rule.ClientError() != 0 && rule != RuleJSON:
			return RuleBatchElement // a server reports this request as wrong, but runs the others
		default:
			return rule
		}

		switch r.skipSpace() {
		case ',':
			r.pos++
		case ']':
			r.pos++
			return ""
		default:
			return r.unexpected()
		}
	}
}

// notRequest returns the rule for a body that is neither an object nor an array. Some servers look
// for a document even in such a body: as a form, as GraphQL, or after a byte order mark. None can
// find one unless the body contains a brace or an escape that could stand for one.
func (r *reader) notRequest() Rule {
	if bytes.ContainsAny(r.src[r.pos:], "{\\%\x00") {
		return RuleJSONAmbiguous
	}
	return RuleJSON
}

// A request holds what matters of the parameters of one request, from JSON or from a URL.
type request struct {
	given      paramSet          // the parameters that were read
	doc        []byte            // the document; nil if absent
	hash       [sha256.Size]byte // of a persisted document; valid if hasHash is set
	hasHash    bool
	hasForeign bool // the request has a parameter that no server is known to read
	wrongType  Rule // why the type of the parameter query is refused, or ""
}

// judge judges the request after all its parameters were read.
func (q *request) judge(opt *Options) Rule {
	switch {
	case q.wrongType != "":
		return q.wrongType
	case q.doc == nil && !q.hasHash:
		return RuleNoQuery
	case q.hasForeign:
		return RuleUnknownKey
	}

	// The hash stands for the document also if that is empty: servers in Go cannot distinguish an
	// empty document from a missing one.
	if len(q.doc) == 0 && q.hasHash {
		if _, ok := opt.Persisted[q.hash]; !ok {
			return RulePersisted
		}
		return ""
	}

	if rule := judgeDocument(q.doc, opt); rule != "" {
		return rule
	}
	if q.hasHash && sha256.Sum256(q.doc) != q.hash {
		return RulePersistedMismatch
	}
	return ""
}

// maxExtraKeys is the number of [Options.ExtraKeys] that count. With the four parameters, they fit
// into a paramSet.
const maxExtraKeys = 60

// maxKeys is the maximum number of parameters in one request: the four, as many as an operator may
// list, and 32 that no server is known to read.
const maxKeys = len(params) + maxExtraKeys + 32

// request reads and judges the object at pos.
func (r *reader) request() Rule {
	var q request
	r.decoded = r.decoded[:0]
	keys := 0

	rule := r.object(func(key []byte) Rule {
		keys++
		if keys > maxKeys {
			return RuleUnknownKey
		}

		p, rule := q.given.add(key, r.opt)
		if rule != "" {
			return rule
		}

		switch c := r.skipSpace(); {
		case p == paramQuery && c == '"':
			q.doc, rule = r.string()
			return rule
		case p == paramExtensions && c == '{':
			return r.extensions(&q)
		}

		start := r.pos
		if rule := r.value(); rule != "" {
			return rule
		}
		return q.addOther(p, r.src[start:r.pos])
	})
	if rule != "" {
		return rule
	}
	return q.judge(r.opt)
}

// addOther notes a parameter whose value is JSON of another type than the parameter should have, or
// whose value does not matter. It returns the rule that refuses the request because of it, or "".
func (q *request) addOther(param int, value []byte) Rule {
	isNull, isArray := value[0] == 'n', value[0] == '['
	switch {
	case isNull: // as if the parameter were missing
	case param == paramForeign:
		q.hasForeign = true
	case param == paramQuery && isArray && !hasNoBrace(value): // Mercurius takes the string from an array
		q.wrongType = RuleJSONAmbiguous
	case param == paramQuery:
		q.wrongType = RuleKeyType
	case param == paramExtensions && !hasNoBrace(value): // Apollo Server 2 parses a string
		return RulePersistedForm
	}
	return ""
}

// extensions reads the object at pos. Of its members, only a persistedQuery with a hash may stand
// for a document; any other that might is refused.
func (r *reader) extensions(q *request) Rule {
	given := false

	return r.object(func(key []byte) Rule {
		if string(key) != "persistedQuery" {
			if mayNameDocument(key) {
				return RulePersistedForm
			}
			return r.value()
		}

		if given {
			return RuleDuplicateKey
		}
		given = true

		switch r.skipSpace() {
		case 'n': // null, or a mistake that value finds
			return r.value()
		case '{':
			return r.persistedQuery(q)
		}
		return RulePersistedForm
	})
}

// persistedQuery reads the object at pos, {"version":1,"sha256Hash":"…"} in any order. urql adds
// "miss" when it sends a document that the server did not have.
func (r *reader) persistedQuery(q *request) Rule {
	var hasVersion, hasMiss bool
	rule := r.object(func(key []byte) Rule {
		var twice bool // the key was read before
		switch string(key) {
		case "version":
			twice, hasVersion = hasVersion, true
		case "miss":
			twice, hasMiss = hasMiss, true
		case "sha256Hash":
			twice, q.hasHash = q.hasHash, true
		default:
			return RulePersistedForm
		}
		if twice {
			return RuleDuplicateKey
		}

		if r.skipSpace() == '"' {
			hash, rule := r.string()
			if rule != "" {
				return rule
			}
			if string(key) != "sha256Hash" || !parseHash(&q.hash, hash) {
				return RulePersistedForm
			}
			return ""
		}

		start := r.pos
		if rule := r.value(); rule != "" {
			return rule
		}
		value := r.src[start:r.pos]
		isVersion := string(key) == "version" && string(value) == "1"
		isMiss := string(key) == "miss" && (string(value) == "true" || string(value) == "false")
		if !isVersion && !isMiss {
			return RulePersistedForm
		}
		return ""
	})

	if rule == "" && !q.hasHash {
		return RulePersistedForm
	}
	return rule
}

// parseHash decodes one SHA-256 in hexadecimal, which must be in lower case. It reports whether s
// is one.
func parseHash(hash *[sha256.Size]byte, s []byte) bool {
	if len(s) != 2*len(hash) {
		return false
	}

	for i, c := range s {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return false
		}
		hash[i/2] = hash[i/2]<<4 | c
	}

	return true
}

// hasNoBrace reports whether a JSON value that is not an object contains no brace and no escape (of
// JSON or of a URL), so that no server finds a document or an object in it, however often it
// decodes the value.
func hasNoBrace(value []byte) bool { return !bytes.ContainsAny(value, "{\\%") }

// The parameters of a request, in JSON or in a URL. The first four are indexes in params. All of
// the operator's ExtraKeys count as paramExtra.
const (
	paramForeign = iota - 1 // a parameter that no server is known to read
	paramQuery
	paramOperationName
	paramVariables
	paramExtensions
	paramExtra
)

var params = [...]string{"query", "operationName", "variables", "extensions"}

// A paramSet is the set of parameters that a request has: a bit for each index in params, and after
// those a bit for each of the ExtraKeys.
type paramSet uint64

// add returns the parameter that key names and adds it to the set, or returns the rule that refuses
// key. Some servers fold case (Go's encoding/json does, and takes U+017F for an s), so a key that
// differs from a known one only in case is refused.
func (s *paramSet) add(key []byte, opt *Options) (param int, _ Rule) {
	param = paramForeign
	var bit paramSet // of the parameter that key equals, or differs from only in case; 0: none
	match := func(i int, known string) {
		if string(key) == known {
			param = min(i, paramExtra)
		}
		// A name whose case is folded is at most three times as long: U+212A folds to k.
		if len(key) <= 3*len(known) && strings.EqualFold(string(key), known) {
			bit |= 1 << i
		}
	}

	for i, p := range params {
		match(i, p)
	}
	if bit == 0 {
		for i, p := range opt.ExtraKeys[:min(len(opt.ExtraKeys), maxExtraKeys)] {
			match(paramExtra+i, p)
		}
	}

	switch {
	case *s&bit != 0: // the same parameter again
		return 0, RuleDuplicateKey
	case param != paramForeign:
		*s |= bit
		return param, ""
	case namesStored(key):
		return 0, RuleDocumentID
	case bit != 0 || string(key) == "_json" || namesParameter(string(key)): // Rails puts an array in _json
		return 0, RuleUnknownKey
	}
	return paramForeign, ""
}

// namesStored reports whether some server reads the id or the hash of a stored document from key,
// with any case and with or without underscores and hyphens.
func namesStored(key []byte) bool {
	var buf [64]byte // longer than every name of isStoredWord
	word := buf[:0]

	for _, c := range key {
		if c != '_' && c != '-' && len(word) < len(buf) {
			word = append(word, lower(c))
		}
	}

	return isStoredWord(word)
}

// isStoredWord is namesStored for a name in lower case and without underscores and hyphens.
func isStoredWord(word []byte) bool {
	switch string(word) {
	case "id", "doc", "docid", "document", "documentid", "queryid", "operationid", "sha256":
		return true
	}
	return bytes.Contains(word, []byte("persist")) || bytes.Contains(word, []byte("hash"))
}

// mayNameDocument reports whether a key within extensions may name a document for a server that
// folds names.
func mayNameDocument(key []byte) bool {
	for _, c := range key {
		if c >= utf8.RuneSelf {
			return true
		}
	}
	return namesStored(key) || strings.EqualFold(string(key), "query")
}
