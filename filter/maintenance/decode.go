package maintenance

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
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

// maxDepth bounds nesting before gjson.Valid, which recurses: a megabyte of "[" must
// not exhaust the stack of a 32-bit VM.
const maxDepth = 32

// Parse reads and compiles a document. Unknown and duplicate fields are errors: a
// rule that nobody reads must not look as if it protected something. An error is a
// [*FieldError] or wraps [ErrJSON].
func Parse(data []byte) (*State, error) {
	var doc Document
	err := decode(data, func(v value) {
		v.object(func(key string, v value) bool {
			switch key {
			case "epoch":
				doc.Epoch = v.uint()
			case "revision":
				doc.Revision = v.uint()
			case "apps":
				v.array(MaxApps, func(v value) { doc.Apps = append(doc.Apps, v.app()) })
			default:
				return false
			}
			return true
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading the state: %w", err)
	}
	return Compile(doc)
}

// ParseSpec reads what an operator writes about one app and checks it by itself.
// Errors are those of [Parse], with fields relative to the app.
func ParseSpec(data []byte) (Spec, error) {
	var app App
	err := decode(data, func(v value) {
		v.object(func(key string, v value) bool { return v.spec(key, &app.Spec) })
	})
	if err != nil {
		return Spec{}, err
	}
	if _, err := compileApp(&app, ""); err != nil {
		return Spec{}, err
	}
	return app.Spec, nil
}

// decode runs read over data and returns the first error that it met.
func decode(data []byte, read func(value)) (err error) {
	if len(data) > MaxDocumentBytes {
		return &FieldError{Problem: fmt.Sprintf("%d bytes are more than the %d that a document may have", len(data), MaxDocumentBytes)}
	}
	if !shallow(data) {
		return &FieldError{Problem: fmt.Sprintf("nested deeper than %d", maxDepth)}
	}
	if !gjson.ValidBytes(data) {
		return ErrJSON
	}
	// The one use of panic: a reader of this shape would else test an error after
	// every field, and forget one.
	defer func() {
		if r := recover(); r != nil {
			fe, ok := r.(*FieldError)
			if !ok {
				panic(r)
			}
			err = fe
		}
	}()
	read(value{json: gjson.ParseBytes(data)})
	return nil
}

func shallow(data []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '[' || c == '{':
			if depth++; depth > maxDepth {
				return false
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return true
}

// value is a piece of JSON that knows where it stands.
type value struct {
	json   gjson.Result
	parent *value
	key    string // "" for the root
	index  int    // in an array, where key is "[]"
}

func (v *value) field() string {
	if v == nil || v.key == "" {
		return ""
	}
	parent := v.parent.field()
	if v.key == "[]" {
		return parent + "[" + strconv.Itoa(v.index) + "]"
	}
	return join(parent, v.key)
}

func join(field, key string) string {
	if field == "" {
		return key
	}
	return field + "." + key
}

func (v *value) fail(format string, args ...any) {
	panic(&FieldError{Field: v.field(), Problem: fmt.Sprintf(format, args...)})
}

// object calls each with every field; each returns false for one it does not know.
func (v value) object(each func(key string, v value) bool) {
	if !v.json.IsObject() {
		v.fail("must be an object, not %s", kind(v.json))
	}
	seen := make(map[string]bool, 8)
	v.json.ForEach(func(k, j gjson.Result) bool {
		key := k.String()
		sub := value{json: j, parent: &v, key: key}
		if seen[key] {
			sub.fail("given twice")
		}
		seen[key] = true
		if !each(key, sub) {
			sub.fail("unknown field")
		}
		return true
	})
}

func (v value) array(limit int, each func(value)) {
	if v.json.Type == gjson.Null {
		return // how Go writes a list that has nothing in it
	}
	if !v.json.IsArray() {
		v.fail("must be a list, not %s", kind(v.json))
	}
	i := 0
	v.json.ForEach(func(_, j gjson.Result) bool {
		if i == limit {
			v.fail("more than %d entries", limit)
		}
		each(value{json: j, parent: &v, key: "[]", index: i})
		i++
		return true
	})
}

func (v value) str() string {
	if v.json.Type != gjson.String {
		v.fail("must be a string, not %s", kind(v.json))
	}
	return v.json.Str
}

func (v value) strs(limit int) []string {
	list := []string{}
	v.array(limit, func(v value) { list = append(list, v.str()) })
	return list
}

func (v value) uint() uint64 {
	n, err := strconv.ParseUint(v.json.Raw, 10, 64)
	if v.json.Type != gjson.Number || err != nil {
		v.fail("must be a whole number of 0 or more, not %s", kind(v.json))
	}
	return n
}

func (v value) int() int {
	n := v.uint()
	if n > 1<<31-1 {
		v.fail("must be at most %d", 1<<31-1)
	}
	return int(n)
}

func (v value) bool() bool {
	if !v.json.IsBool() {
		v.fail("must be true or false, not %s", kind(v.json))
	}
	return v.json.Bool()
}

func (v value) time() time.Time {
	t, err := time.Parse(time.RFC3339, v.str())
	if err != nil {
		v.fail("%q is no RFC 3339 time; write like 2026-11-21T22:00:00Z", v.json.Str)
	}
	return t
}

func kind(j gjson.Result) string {
	switch {
	case j.IsObject():
		return "an object"
	case j.IsArray():
		return "a list"
	case j.Type == gjson.String:
		return "a string"
	case j.Type == gjson.Number:
		return "the number " + j.Raw
	case j.Type == gjson.Null:
		return "null"
	}
	return j.Raw
}

func (v value) app() (app App) {
	v.object(func(key string, v value) bool {
		if key == "activations" {
			v.array(1000, func(v value) { app.Activations = append(app.Activations, v.activation()) })
			return true
		}
		return v.spec(key, &app.Spec)
	})
	return app
}

func (v value) spec(key string, s *Spec) bool {
	switch key {
	case "name":
		s.Name = v.str()
	case "match":
		v.object(func(key string, v value) bool {
			switch key {
			case "hosts":
				s.Match.Hosts = v.strs(10000)
			case "paths":
				s.Match.Paths = v.strs(10000)
			case "routes":
				s.Match.Routes = v.strs(10000)
			case "clusters":
				s.Match.Clusters = v.strs(10000)
			default:
				return false
			}
			return true
		})
	case "bypass":
		v.object(func(key string, v value) bool {
			switch key {
			case "ips":
				s.Bypass.IPs = v.strs(MaxCIDRs)
			case "claims":
				v.array(1000, func(v value) { s.Bypass.Claims = append(s.Bypass.Claims, v.claimRule()) })
			case "principals":
				s.Bypass.Principals = v.strs(10000)
			default:
				return false
			}
			return true
		})
	case "exempt":
		s.Exempt = v.pathRules()
	case "graphql":
		s.GraphQL = v.graphQL()
	case "read_only":
		v.object(func(key string, v value) bool {
			switch key {
			case "safe_rpcs":
				s.ReadOnly.SafeRPCs = v.strs(10000)
			case "write_through":
				s.ReadOnly.WriteThrough = v.pathRules()
			case "get_writes":
				s.ReadOnly.GetWrites = v.pathRules()
			case "upgrades":
				s.ReadOnly.Upgrades = Policy(v.str())
			case "event_streams":
				s.ReadOnly.EventStreams = Policy(v.str())
			default:
				return false
			}
			return true
		})
	case "windows":
		v.array(1000, func(v value) { s.Windows = append(s.Windows, v.window()) })
	case "retry_after":
		s.RetryAfter = v.int()
	case "pages":
		s.Pages = make(map[string]string)
		v.object(func(key string, v value) bool {
			s.Pages[key] = v.str()
			return true
		})
	case "cors":
		v.object(func(key string, v value) bool {
			if key == "origins" {
				s.CORS.Origins = v.strs(1000)
				return true
			}
			return false
		})
	default:
		return false
	}
	return true
}

func (v value) pathRules() (rules []PathRule) {
	v.array(10000, func(v value) {
		var r PathRule
		v.object(func(key string, v value) bool {
			switch key {
			case "methods":
				r.Methods = v.strs(100)
			case "path":
				r.Path = v.str()
			case "prefix":
				r.Prefix = v.str()
			default:
				return false
			}
			return true
		})
		rules = append(rules, r)
	})
	return rules
}

func (v value) claimRule() (r ClaimRule) {
	v.object(func(key string, v value) bool {
		switch key {
		case "issuer":
			r.Issuer = v.str()
		case "audience":
			r.Audience = v.str()
		case "claim":
			r.Claim = v.strs(16)
		case "values":
			v.array(1000, func(v value) {
				switch v.json.Type {
				case gjson.String, gjson.Number, gjson.True, gjson.False:
					r.Values = append(r.Values, v.json.Value())
				default:
					v.fail("must be a string, a number or a boolean, not %s", kind(v.json))
				}
			})
		default:
			return false
		}
		return true
	})
	return r
}

func (v value) graphQL() *GraphQL {
	g := new(GraphQL)
	v.object(func(key string, v value) bool {
		switch key {
		case "paths":
			g.Paths = v.strs(1000)
		case "batching":
			b := v.bool()
			g.Batching = &b
		case "extra_keys":
			g.ExtraKeys = v.strs(100)
		case "persisted":
			g.Persisted = v.strs(100000)
		case "max_body":
			g.MaxBody = v.int()
		case "max_tokens":
			g.MaxTokens = v.int()
		case "max_depth":
			g.MaxDepth = v.int()
		case "max_batch":
			g.MaxBatch = v.int()
		case "upgrades":
			g.Upgrades = Policy(v.str())
		default:
			return false
		}
		return true
	})
	return g
}

func (v value) activation() (a Activation) {
	v.object(func(key string, v value) bool {
		switch key {
		case "id":
			a.ID = v.str()
		case "source":
			a.Source = Source(v.str())
		case "mode":
			a.Mode = Mode(v.str())
		case "message":
			a.Message = v.str()
		case "since":
			a.Since = v.time()
		case "until":
			a.Until = v.time()
		default:
			return false
		}
		return true
	})
	return a
}

func (v value) window() (w Window) {
	v.object(func(key string, v value) bool {
		switch key {
		case "id":
			w.ID = v.str()
		case "mode":
			w.Mode = Mode(v.str())
		case "message":
			w.Message = v.str()
		case "announce":
			w.Announce = v.int()
		case "occurrences":
			v.array(MaxOccurrences, func(v value) {
				var o Occurrence
				v.object(func(key string, v value) bool {
					switch key {
					case "start":
						o.Start = v.time()
					case "end":
						o.End = v.time()
					default:
						return false
					}
					return true
				})
				w.Occurrences = append(w.Occurrences, o)
			})
		default:
			return false
		}
		return true
	})
	return w
}
