package graphql

import (
	"bytes"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// This file is the reader of JSON, on which request.go builds. class and numeral are in bytes.go.

// A reader reads strict JSON (RFC 8259) from src, which must be valid UTF-8. JSON parsers differ in
// what they tolerate beyond that and in which of two equal keys they keep. The reader therefore
// tolerates nothing, and its callers refuse a second value of a key that matters.
//
// A method that reads something begins at pos and leaves pos after it. It returns "", or the rule
// that refuses the request, after which the reader must not be used. http.go uses decoded alone,
// for the parameters of a URL.
type reader struct {
	src     []byte
	pos     int
	opt     *Options
	decoded []byte  // the values of strings that had escapes, one after the other
	pooled  *[]byte // where the memory of decoded belongs in buffers; nil until decoded is needed
}

// eof is what skipSpace returns at the end. A NUL byte returns the same, and is as wrong there.
const eof = 0

// buffers holds memory for reader.decoded, so that a warm reader allocates nothing.
var buffers = sync.Pool{New: func() any {
	const firstSize = 4096 // bytes: enough for most documents
	b := make([]byte, 0, firstSize)
	return &b
}}

// scratch makes sure that decoded has a pooled buffer.
func (r *reader) scratch() {
	if r.pooled == nil {
		r.pooled = buffers.Get().(*[]byte)
		r.decoded = (*r.pooled)[:0]
	}
}

// release returns the memory of decoded to the pool, unless a large MaxBody let it grow so much
// that keeping it would waste memory.
func (r *reader) release() {
	if r.pooled == nil {
		return
	}

	if cap(r.decoded) <= 2*DefaultMaxBody {
		*r.pooled = r.decoded
		buffers.Put(r.pooled)
	}

	r.pooled, r.decoded = nil, nil
}

// unexpected returns the rule for the byte at pos, which JSON does not allow there.
//
// No dialect of JSON accepts a text that is cut short, nor a quote, a colon or an opening bracket
// that is out of place. Any other byte is accepted by some parser: comments, NaN, names without
// quotes, an extra comma, 01, a raw line feed in a string (Jackson's JsonReadFeature lists most of
// them, and Json.NET accepts many by default).
func (r *reader) unexpected() Rule {
	if r.pos >= len(r.src) {
		return RuleJSON
	}

	switch r.src[r.pos] {
	case '"', ':', '{', '[':
		return RuleJSON
	}

	return RuleJSONAmbiguous
}

// object reads the object at pos. For each member it calls value, which must read the member's
// value at pos.
func (r *reader) object(value func(key []byte) Rule) Rule {
	r.pos++
	if r.skipSpace() == '}' {
		r.pos++
		return ""
	}

	for {
		mark := len(r.decoded)
		key, rule := r.key()
		if rule != "" {
			return rule
		}

		// The decoded key is dropped before the call and not after it, since value may keep what it
		// decodes itself. That overwrites a key that had escapes.
		r.decoded = r.decoded[:mark]
		if rule := value(key); rule != "" {
			return rule
		}

		switch r.skipSpace() {
		case ',':
			r.pos++
		case '}':
			r.pos++
			return ""
		default:
			return r.unexpected()
		}
	}
}

// key reads the name of a member and the colon after it. A name that reaches JavaScript's
// prototypes, or that ends early for a parser written in C, is refused at any depth.
func (r *reader) key() ([]byte, Rule) {
	if r.skipSpace() != '"' {
		return nil, r.unexpected()
	}

	key, rule := r.string()
	switch {
	case rule != "":
		return nil, rule
	case string(key) == "__proto__" || bytes.IndexByte(key, 0) >= 0:
		return nil, RuleJSONAmbiguous
	case r.skipSpace() != ':':
		return nil, r.unexpected()
	}

	r.pos++
	return key, ""
}

// value reads any value and discards it. It does not recurse, so that no input can exhaust the
// goroutine's stack.
func (r *reader) value() Rule {
	mark := len(r.decoded)
	var objects [MaxNesting / 64]uint64 // one bit per level: an object (1) or an array (0)
	depth := 0

	// Each turn of the loop begins at a value. Of nested objects and arrays, it reads the
	// beginning, and the loop at its end reads the ends of those that the value completes.
	for {
		c := r.skipSpace()
		switch {
		case c == '{' || c == '[':
			if depth == r.opt.maxDepth() {
				return RuleLimitDepth
			}
			word, bit := &objects[depth/64], uint64(1)<<(depth%64)
			*word &^= bit // an earlier object may have set it
			r.pos++

			closing := c + 2 // in ASCII: '{' and '}', '[' and ']'
			if r.skipSpace() == closing {
				r.pos++
				break
			}

			depth++
			if c == '{' {
				*word |= bit
				if _, rule := r.key(); rule != "" {
					return rule
				}
				r.decoded = r.decoded[:mark]
			}
			continue
		case c == '"':
			if rule := r.skipString(); rule != "" {
				return rule
			}
		case !r.scalar():
			return r.unexpected()
		}

		// The value has ended, and with it perhaps the objects and arrays that contain it.
		for {
			if depth == 0 {
				return ""
			}

			inObject := objects[(depth-1)/64]>>((depth-1)%64)&1 != 0
			c := r.skipSpace()
			if inObject && c == '}' || !inObject && c == ']' {
				r.pos++
				depth--
				continue
			}

			if c != ',' {
				return r.unexpected()
			}
			r.pos++
			if inObject {
				if _, rule := r.key(); rule != "" {
					return rule
				}
				r.decoded = r.decoded[:mark]
			}
			break
		}
	}
}

// skipSpace skips white space and returns the next byte without reading it.
func (r *reader) skipSpace() byte {
	for ; r.pos < len(r.src); r.pos++ {
		switch c := r.src[r.pos]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}

	return eof
}

// scalar reads a number, true, false or null, and reports whether there is one.
func (r *reader) scalar() bool {
	src := r.src[r.pos:]
	for _, word := range [...]string{"true", "false", "null"} {
		if len(src) >= len(word) && string(src[:len(word)]) == word {
			r.pos += len(word)
			return true
		}
	}

	n := numeral(src)
	r.pos += n
	return n > 0
}

// string reads the string at pos and returns its value, which lies in src or in decoded.
func (r *reader) string() ([]byte, Rule) {
	start := r.pos + 1
	i := plainEnd(r.src, start)
	if i < len(r.src) && r.src[i] == '"' {
		r.pos = i + 1
		return r.src[start:i:i], ""
	}

	r.scratch()
	mark := len(r.decoded)
	for {
		r.decoded = append(r.decoded, r.src[start:i]...)
		if i == len(r.src) {
			return nil, RuleJSON
		}

		switch r.src[i] {
		case '"':
			r.pos = i + 1
			return r.decoded[mark:], ""
		case '\\':
			c, n := unescape(r.src[i:])
			if n == 0 {
				return nil, RuleJSONAmbiguous
			}
			r.decoded = utf8.AppendRune(r.decoded, c)
			start = i + n
			i = plainEnd(r.src, start)
		default:
			return nil, RuleJSONAmbiguous
		}
	}
}

// skipString reads the string at pos without decoding it.
func (r *reader) skipString() Rule {
	for i := plainEnd(r.src, r.pos+1); i < len(r.src); {
		switch r.src[i] {
		case '"':
			r.pos = i + 1
			return ""
		case '\\':
			_, n := unescape(r.src[i:])
			if n == 0 {
				return RuleJSONAmbiguous
			}
			i = plainEnd(r.src, i+n)
		default:
			return RuleJSONAmbiguous
		}
	}

	return RuleJSON
}

// plainEnd returns the index of the first byte from i on that is not plain text in a string, or
// len(src).
func plainEnd(src []byte, i int) int {
	for i < len(src) && class[src[i]]&special == 0 {
		i++
	}
	return i
}

// unescape decodes the escape sequence that s begins with. n is its length in bytes, or 0 if it is
// wrong. A surrogate must have its pair, because parsers differ in what they make of a lone one.
func unescape(s []byte) (c rune, n int) {
	if len(s) < 2 {
		return 0, 0
	}

	switch s[1] {
	case '"', '\\', '/':
		return rune(s[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		const size = len(`\uXXXX`)
		first := codeUnit(s)
		switch {
		case first < 0:
			return 0, 0
		case !utf16.IsSurrogate(first):
			return first, size
		}

		pair := utf16.DecodeRune(first, codeUnit(s[size:]))
		if pair != utf8.RuneError { // it is not returned for any pair
			return pair, 2 * size
		}
	}
	return 0, 0
}

// codeUnit decodes \uXXXX at the beginning of s, which is a code unit of UTF-16. It returns -1 if s
// does not begin with such an escape.
func codeUnit(s []byte) (unit rune) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return -1
	}

	for _, c := range s[2:6] {
		if class[c]&hexDigit == 0 {
			return -1
		}
		unit = unit<<4 | rune(hexValue(c))
	}

	return unit
}
