package maintenance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// FieldError is bad input. Field is the JSON path of what is wrong, such as
// "apps[2].bypass.ips[0]"; Problem says what to write instead.
type FieldError struct {
	Field   string
	Problem string
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Problem
	}
	return e.Field + ": " + e.Problem
}

// ErrJSON is input that is no JSON at all.
var ErrJSON = errors.New("not valid JSON")

// decode runs read over the one value in data and returns the first error.
func decode(data []byte, read func(value)) error {
	if len(data) > MaxDocumentBytes {
		return &FieldError{Problem: fmt.Sprintf("%d bytes are more than the %d that a document may have", len(data), MaxDocumentBytes)}
	}
	in := &input{json: jsontext.NewDecoder(bytes.NewBuffer(data))}
	read(value{in: in})
	if in.err == nil {
		if _, err := in.json.ReadToken(); err == nil {
			return fmt.Errorf("%w: there is more after its end", ErrJSON)
		} else if err != io.EOF {
			return syntaxError(err)
		}
	}
	return in.err
}

// input is a document as it is read. The first error stays, and from then on nothing
// more is read: a reader of this shape would else test an error after every field, and
// forget one.
type input struct {
	json *jsontext.Decoder // strict: RFC 8259, UTF-8, no name twice
	err  error
}

// more tells whether another entry comes before the end of the list or object.
func (in *input) more(end jsontext.Kind) bool {
	return in.err == nil && in.json.PeekKind() != end
}

// value is the value that comes next in the input, and where it stands there.
type value struct {
	in     *input
	parent *value // nil for the document
	key    string
	index  int // in a list; -1 in an object
}

func (v *value) field() string {
	switch {
	case v.parent == nil:
		return ""
	case v.index >= 0:
		return v.parent.field() + "[" + strconv.Itoa(v.index) + "]"
	}
	return join(v.parent.field(), v.key)
}

func join(field, key string) string {
	switch {
	case key == "":
		return field + `[""]`
	case field == "":
		return key
	}
	return field + "." + key
}

func (v *value) fail(format string, args ...any) {
	if v.in.err == nil {
		v.in.err = &FieldError{Field: v.field(), Problem: fmt.Sprintf(format, args...)}
	}
}

// next reads a token, of the kind 0 once there was an error.
func (v *value) next() jsontext.Token {
	if v.in.err != nil {
		return jsontext.Token{}
	}
	token, err := v.in.json.ReadToken()
	if err == nil {
		return token
	}
	if at := (*jsontext.SyntacticError)(nil); errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &at) {
		twice := value{in: v.in, parent: v, key: at.JSONPointer.LastToken(), index: -1}
		twice.fail("given twice")
	} else {
		v.in.err = syntaxError(err)
	}
	return jsontext.Token{}
}

func syntaxError(err error) error {
	var at *jsontext.SyntacticError
	switch {
	case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends too early", ErrJSON)
	case errors.As(err, &at):
		return fmt.Errorf("%w: %w, at byte %d", ErrJSON, at.Err, at.ByteOffset)
	}
	return fmt.Errorf("%w: %w", ErrJSON, err)
}

// must complains unless the token is of one of the kinds.
func (v *value) must(be string, token jsontext.Token, kinds ...jsontext.Kind) bool {
	if slices.Contains(kinds, token.Kind()) {
		return true
	}
	is := token.Kind().String()
	switch token.Kind() {
	case '{':
		is = "an object"
	case '[':
		is = "a list"
	case '"':
		is = "a string"
	case '0':
		is = "a number"
	}
	v.fail("must be %s, not %s", be, is)
	return false
}

// object calls each with every field; each returns false for one it does not know.
func (v value) object(each func(key string, v value) bool) {
	if !v.must("an object", v.next(), '{') {
		return
	}
	for v.in.more('}') {
		sub := value{in: v.in, parent: &v, key: v.next().String(), index: -1}
		if len(sub.key) > MaxMessageBytes {
			v.fail("has a field whose name is %d bytes long", len(sub.key))
		}
		if v.in.err == nil && !each(sub.key, sub) {
			sub.fail("unknown field")
		}
	}
	v.next()
}

// array calls each with every entry, and tells whether there was a list: null, which
// is how Go writes a nil slice, is no error.
func (v value) array(limit int, each func(value)) bool {
	token := v.next()
	if token.Kind() == 'n' || !v.must("a list", token, '[') {
		return false
	}
	for i := 0; v.in.more(']'); i++ {
		if i == limit {
			v.fail("more than %d entries", limit)
			return false
		}
		each(value{in: v.in, parent: &v, index: i})
	}
	v.next()
	return true
}

func (v value) str() string {
	token := v.next()
	if !v.must("a string", token, '"') {
		return ""
	}
	s := token.String()
	if len(s) > MaxMessageBytes {
		v.fail("%d bytes are more than %d", len(s), MaxMessageBytes)
	}
	return s
}

// name is a string that says something.
func (v value) name() string {
	s := v.str()
	if s == "" {
		v.fail("must not be empty")
	}
	return s
}

func (v value) strs(limit int) (list []string) {
	v.array(limit, func(v value) { list = append(list, v.str()) })
	return list
}

func (v value) uint() uint64 {
	token := v.next()
	if !v.must("a whole number of 0 or more", token, '0') {
		return 0
	}
	n, err := strconv.ParseUint(token.String(), 10, 64)
	if err != nil {
		v.fail("must be a whole number of 0 or more")
	}
	return n
}

func (v value) int() int {
	n := v.uint()
	if n > math.MaxInt32 {
		v.fail("must be at most %d", math.MaxInt32)
	}
	return int(n)
}

func (v value) float() float64 {
	token := v.next()
	if !v.must("a number", token, '0') {
		return 0
	}
	f, err := strconv.ParseFloat(token.String(), 64)
	if err != nil {
		v.fail("is too large a number")
	}
	return f
}

func (v value) bool() bool {
	token := v.next()
	return v.must("true or false", token, 't', 'f') && token.Bool()
}

// scalar is a string, a float64 or a bool.
func (v value) scalar() any {
	switch v.in.json.PeekKind() {
	case '"':
		return v.str()
	case '0':
		return v.float()
	}
	token := v.next()
	return v.must("a string, a number or a boolean", token, 't', 'f') && token.Bool()
}

func (v value) time() time.Time {
	s := v.str()
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		v.fail("%q is no RFC 3339 time; write like 2026-11-21T22:00:00Z", s)
	}
	return t
}
