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

// This file reads JSON strictly: no unknown field, no field twice, no value of another type. Other
// files read their types by means of it. A method of value such as str or array reads the next JSON
// value. If the value is not as it must be, the method records an error with the JSON path of the
// value, and returns the zero value of its type. Its callers go on, and decode returns the error.

// FieldError is the error for an invalid field. Field is its JSON path, such as
// "apps[2].bypass.ips[0]", or empty for the whole document. Problem says what the field must be.
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

// ErrJSON is wrapped by the errors for input that is not valid JSON.
var ErrJSON = errors.New("not valid JSON")

// decode reads data, which must be one JSON value. It calls read with this value, and returns the
// first error: that of read, or one about what follows the value.
func decode(data []byte, read func(value)) error {
	if len(data) > MaxDocumentBytes {
		return &FieldError{Problem: fmt.Sprintf("%d bytes, but a document may have at most %d", len(data), MaxDocumentBytes)}
	}

	in := &input{json: jsontext.NewDecoder(bytes.NewBuffer(data))}
	read(value{in: in})
	if in.err != nil {
		return in.err
	}

	_, err := in.json.ReadToken()
	switch {
	case err == nil:
		return fmt.Errorf("%w: there is more after its end", ErrJSON)
	case err != io.EOF:
		return syntaxError(err)
	}

	return nil
}

// input is JSON text that is being read. It keeps the first error, after which nothing more is
// read. Otherwise every field would need an error check of its own, and one would be forgotten.
type input struct {
	json *jsontext.Decoder // strict: RFC 8259, UTF-8, no name twice
	err  error
}

// more reports whether another entry comes before the end of the list or object. end is the kind of
// the token that ends it. more returns false after an error, so that loops end.
func (in *input) more(end jsontext.Kind) bool {
	return in.err == nil && in.json.PeekKind() != end
}

// value is the next value in the input, and its place there. It must be read exactly once.
type value struct {
	in     *input
	parent *value // the list or object that contains the value; nil for the outermost value
	key    string // of the field, in an object
	index  int    // in a list; -1 in an object
}

// jsonPath returns the JSON path of the value.
func (v *value) jsonPath() string {
	switch {
	case v.parent == nil:
		return ""
	case v.index >= 0:
		return v.parent.jsonPath() + "[" + strconv.Itoa(v.index) + "]"
	}
	return join(v.parent.jsonPath(), v.key)
}

// join appends a key to a JSON path.
func join(field, key string) string {
	switch {
	case key == "":
		return field + `[""]`
	case field == "":
		return key
	}
	return field + "." + key
}

// fail records an error about the value, unless there is one already.
func (v *value) fail(format string, args ...any) {
	if v.in.err == nil {
		v.in.err = &FieldError{Field: v.jsonPath(), Problem: fmt.Sprintf(format, args...)}
	}
}

// next reads the next token, which is a scalar or a bracket. If that fails, and after any error, it
// returns a token of kind 0, which is of none of the kinds that callers expect.
func (v *value) next() jsontext.Token {
	if v.in.err != nil {
		return jsontext.Token{}
	}

	token, err := v.in.json.ReadToken()
	if err == nil {
		return token
	}

	var at *jsontext.SyntacticError
	if errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &at) {
		duplicate := value{in: v.in, parent: v, key: at.JSONPointer.LastToken(), index: -1}
		duplicate.fail("given twice")
	} else {
		v.in.err = syntaxError(err)
	}

	return jsontext.Token{}
}

// syntaxError returns the error of the JSON decoder as an [ErrJSON].
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

// expect reports whether the token is of one of the kinds. If it is not, expect records that the
// value must be what want says. The kinds are the first characters of JSON values: '{', '[', '"',
// '0' for a number, 't', 'f' and 'n'.
func (v *value) expect(want string, token jsontext.Token, kinds ...jsontext.Kind) bool {
	if slices.Contains(kinds, token.Kind()) {
		return true
	}

	got := token.Kind().String()
	switch token.Kind() {
	case '{':
		got = "an object"
	case '[':
		got = "a list"
	case '"':
		got = "a string"
	case '0':
		got = "a number"
	}

	v.fail("must be %s, not %s", want, got)
	return false
}

// object reads an object. It calls each for every field, with the name and the value of the field.
// A field for which each returns false is unknown, which is an error.
func (v value) object(each func(key string, v value) bool) {
	if !v.expect("an object", v.next(), '{') {
		return
	}

	for v.in.more('}') {
		// The name of a field is a token of its own, before the value.
		sub := value{in: v.in, parent: &v, key: v.next().String(), index: -1}
		if len(sub.key) > MaxMessageBytes {
			v.fail("has a field with a name of %d bytes, more than %d", len(sub.key), MaxMessageBytes)
		}

		if v.in.err == nil && !each(sub.key, sub) {
			sub.fail("unknown field")
		}
	}

	v.next() // the closing bracket
}

// array reads a list of at most limit entries, and calls each for every entry. It reports whether
// there was a list. There is none after an error, nor if the value is null, which is not an error
// because encoding/json writes a nil slice as null.
func (v value) array(limit int, each func(value)) bool {
	token := v.next()
	if token.Kind() == 'n' || !v.expect("a list", token, '[') {
		return false
	}

	for i := 0; v.in.more(']'); i++ {
		if i == limit {
			v.fail("must have at most %d entries", limit)
			return false
		}

		each(value{in: v.in, parent: &v, index: i})
	}

	v.next() // the closing bracket
	return true
}

// str reads a string of at most MaxMessageBytes.
func (v value) str() string {
	token := v.next()
	if !v.expect("a string", token, '"') {
		return ""
	}

	s := token.String()
	if len(s) > MaxMessageBytes {
		v.fail("must have at most %d bytes, not %d", MaxMessageBytes, len(s))
	}

	return s
}

// name reads a string that must not be empty.
func (v value) name() string {
	s := v.str()
	if s == "" {
		v.fail("must not be empty")
	}
	return s
}

// strs reads a list of at most limit strings.
func (v value) strs(limit int) (list []string) {
	v.array(limit, func(v value) { list = append(list, v.str()) })
	return list
}

// uint reads a whole number of 0 or more, written without a fraction and an exponent.
func (v value) uint() uint64 {
	token := v.next()
	if !v.expect("a whole number of 0 or more", token, '0') {
		return 0
	}

	n, err := strconv.ParseUint(token.String(), 10, 64)
	if err != nil {
		v.fail("must be a whole number of 0 or more")
	}

	return n
}

// int reads a whole number from 0 to math.MaxInt32.
func (v value) int() int {
	n := v.uint()
	if n > math.MaxInt32 {
		v.fail("must be at most %d", math.MaxInt32)
	}
	return int(n)
}

// float reads a number.
func (v value) float() float64 {
	token := v.next()
	if !v.expect("a number", token, '0') {
		return 0
	}

	f, err := strconv.ParseFloat(token.String(), 64)
	if err != nil {
		v.fail("is too large")
	}

	return f
}

// bool reads true or false.
func (v value) bool() bool {
	token := v.next()
	return v.expect("true or false", token, 't', 'f') && token.Bool()
}

// scalar reads a string, a number (as float64) or a boolean.
func (v value) scalar() any {
	switch v.in.json.PeekKind() {
	case '"':
		return v.str()
	case '0':
		return v.float()
	}

	token := v.next()
	return v.expect("a string, a number or a boolean", token, 't', 'f') && token.Bool()
}

// time reads a time, which is a string as in RFC 3339.
func (v value) time() time.Time {
	s := v.str()
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		v.fail("%q must be an RFC 3339 time, such as 2026-11-21T22:00:00Z", s)
	}
	return t
}
