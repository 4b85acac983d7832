package maintenance

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// Verdict is what is to be done with a request.
type Verdict uint8

const (
	// Pass: let it go on.
	Pass Verdict = iota
	// NeedBody: hold it, and decide again with Request.Body.
	NeedBody
	// Refuse: answer it with [State.Reply].
	Refuse
)

func (v Verdict) String() string { return [...]string{"pass", "need-body", "refuse"}[v] }

// Rule names what decided. The strings are stable: they are in replies, access logs
// and metrics. Those that begin with "graphql." are [graphql.Rule]s.
type Rule string

const (
	RuleOff             Rule = "off"
	RuleExempt          Rule = "exempt"
	RuleBypassIP        Rule = "bypass.ip"
	RuleBypassPrincipal Rule = "bypass.principal"
	RuleBypassClaim     Rule = "bypass.claim"
	RuleNoAccess        Rule = "no-access"

	RuleSafeMethod     Rule = "read-only.safe-method"
	RuleSafeRPC        Rule = "read-only.safe-rpc"
	RuleWriteThrough   Rule = "read-only.write-through"
	RuleMethod         Rule = "read-only.method"
	RuleMethodOverride Rule = "read-only.method-override"
	RuleGetWrites      Rule = "read-only.get-writes"
	RuleUpgrade        Rule = "read-only.upgrade"
	RuleEventStream    Rule = "read-only.event-stream"

	RuleBodyTimeout Rule = "read-only.body-timeout"

	RuleGraphQLQuery Rule = "graphql.query"
)

var explanations = map[Rule]string{
	RuleOff:             "The app is not in maintenance.",
	RuleExempt:          "The path is exempt from maintenance.",
	RuleBypassIP:        "The client's address is on the allowlist.",
	RuleBypassPrincipal: "The peer's mesh identity is allowed.",
	RuleBypassClaim:     "A claim of the verified token is allowed.",
	RuleNoAccess:        "The app is closed for maintenance.",
	RuleSafeMethod:      "The method only reads.",
	RuleSafeRPC:         "The operator lists this RPC as one that only reads.",
	RuleWriteThrough:    "The operator lets this write through.",
	RuleMethod:          "The method may write, and the app is read-only.",
	RuleMethodOverride:  "A method override could turn the request into a write; send it without one.",
	RuleGetWrites:       "The operator lists this path as one whose GET writes.",
	RuleUpgrade:         "The connection could carry writes after its upgrade.",
	RuleEventStream:     "Event streams are closed while the app is read-only.",
	RuleBodyTimeout:     "The body, without which the request cannot be judged, did not come in time.",
	RuleGraphQLQuery:    "Every operation is a query.",
}

// Explain is the rule in one sentence.
func (r Rule) Explain() string {
	if text, ok := explanations[r]; ok {
		return text
	}
	return graphql.Rule(r).Explain()
}

// Bypass is "ip", "principal" or "claim" for a request that the rule let through
// although its app is in maintenance, else "".
func (r Rule) Bypass() string {
	kind, _ := strings.CutPrefix(string(r), "bypass.")
	if kind == string(r) {
		return ""
	}
	return kind
}

// Decision is the verdict on a request and why.
type Decision struct {
	Verdict Verdict
	Rule    Rule
	App     string
	Mode    Mode
	// Held is what holds the app in its mode; nil when it is off.
	Held *Activation
	// Until is when the mode ends, zero where that is not known.
	Until time.Time
	// MaxBody is how many bytes of body will be looked at, with NeedBody. A longer one
	// is to be refused with 413.
	MaxBody int

	app     *app
	graphql bool // the path speaks GraphQL
}

// Decide judges one request.
//
// Where servers may read the path differently, the request may belong to several
// apps: the strictest verdict counts, and no exemption holds.
func (s *State) Decide(r *Request, now time.Time) Decision {
	v := s.at(now)
	path := read(r.Path)
	var strictest Decision
	for i, a := range s.match(r, &path) {
		st := &v.apps[a.index]
		d := Decision{App: a.spec.Name, Mode: Off, Rule: RuleOff, app: a}
		if st.held != nil {
			d.Mode, d.Held, d.Until = st.held.Mode, st.held, st.until
			a.decide(r, &path, &d)
		}
		if i == 0 || d.Verdict > strictest.Verdict || d.Verdict == strictest.Verdict && d.Mode.strictness() > strictest.Mode.strictness() {
			strictest = d
		}
	}
	return strictest
}

func (a *app) decide(r *Request, path *reading, d *Decision) {
	d.graphql = slices.ContainsFunc(a.graphql, path.reaches)
	if slices.ContainsFunc(a.spec.Exempt, func(e PathRule) bool { return e.grants(r, path) }) {
		d.Rule = RuleExempt
		return
	}
	if rule := a.bypass(r.Attributes); rule != "" {
		d.Rule = rule
		return
	}
	if d.Mode == NoAccess {
		d.Verdict, d.Rule = Refuse, RuleNoAccess
		return
	}
	a.readOnly(r, path, d)
}

func (a *app) bypass(attrs Attributes) Rule {
	if len(a.networks) > 0 && a.networks.contain(attrs.SourceAddress()) {
		return RuleBypassIP
	}
	if len(a.spec.Bypass.Principals) > 0 {
		if p := attrs.Principal(); p != "" && slices.ContainsFunc(a.spec.Bypass.Principals, func(rule string) bool {
			prefix, wild := strings.CutSuffix(rule, "*")
			return p == rule || wild && strings.HasPrefix(p, prefix)
		}) {
			return RuleBypassPrincipal
		}
	}
	if slices.ContainsFunc(a.claims, func(c claimRule) bool { return c.holds(attrs) }) {
		return RuleBypassClaim
	}
	return ""
}

// readOnly judges a request to an app in read-only. Everything that is not known to
// read is refused.
func (a *app) readOnly(r *Request, path *reading, d *Decision) {
	rules := &a.spec.ReadOnly
	refuse := func(rule Rule) { d.Verdict, d.Rule = Refuse, rule }
	upgrade := r.Header("upgrade") != "" || r.Header(":protocol") != "" || r.Method == "CONNECT"

	if slices.ContainsFunc(rules.WriteThrough, func(w PathRule) bool { return w.grants(r, path) }) && (!upgrade || rules.Upgrades == PolicyAllow) {
		d.Rule = RuleWriteThrough
		return
	}
	if slices.ContainsFunc(a.getWrites, func(w PathRule) bool { return w.catches(r, path) }) {
		refuse(RuleGetWrites)
		return
	}
	if d.graphql {
		if rule := a.graphQL(r, path, upgrade, d); rule != "" {
			refuse(Rule(rule))
		}
		return
	}
	switch {
	case upgrade && rules.Upgrades != PolicyAllow:
		refuse(RuleUpgrade)
	case overridden(r, path):
		refuse(RuleMethodOverride)
	case rules.EventStreams == PolicyRefuse && slices.ContainsFunc(r.headers("accept"), func(v string) bool { return strings.Contains(strings.ToLower(v), "text/event-stream") }):
		refuse(RuleEventStream)
	case safe(r.Method) || r.Method == "CONNECT": // over HTTP/2 an upgrade (RFC 8441), allowed above
		d.Rule = RuleSafeMethod
	case r.Method == "POST" && path.certain && slices.Contains(rules.SafeRPCs, path.paths[0]) && strings.HasPrefix(r.Header("content-type"), "application/grpc"):
		d.Rule = RuleSafeRPC
	default:
		refuse(RuleMethod)
	}
}

// safe is RFC 9110 section 9.2.1.
func safe(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE"
}

// graphQL judges a request to a GraphQL path. It looks at the URL and the body
// whatever the method: servers read both whatever the method.
func (a *app) graphQL(r *Request, path *reading, upgrade bool, d *Decision) graphql.Rule {
	d.Rule = RuleGraphQLQuery
	switch {
	case upgrade:
		if a.spec.GraphQL == nil || a.spec.GraphQL.Upgrades != PolicyAllow {
			return graphql.RuleUpgrade
		}
		d.Rule = RuleSafeMethod
		return ""
	case overridden(r, path):
		return graphql.RuleMethodOverride
	case safe(r.Method):
		if !r.EndStream && r.Header("content-length") != "0" {
			return graphql.RuleGetBody
		}
		if graphql.HasParameter(path.query) {
			return graphql.Query(path.query, &a.options)
		}
		d.Rule = RuleSafeMethod
		return ""
	case r.Method != "POST":
		return graphql.RuleMethod
	case graphql.HasParameter(path.query):
		return graphql.RuleURLParameter
	case r.Header("content-encoding") != "":
		return graphql.RuleContentEncoding
	}
	if rule := graphql.ContentType(r.headers("content-type")); rule != "" {
		return rule
	}
	if !r.BodyRead && !r.EndStream {
		d.Verdict, d.MaxBody = NeedBody, a.maxBody
		return ""
	}
	return graphql.JSON(r.Body, &a.options)
}

// catches is the opposite of grants: any reading, in any letter case.
func (rule *PathRule) catches(r *Request, path *reading) bool {
	if !rule.allows(r.Method) {
		return false
	}
	if rule.Prefix != "" || path.anything() {
		return path.reaches(rule.Prefix)
	}
	return slices.ContainsFunc(path.paths, func(p string) bool {
		return strings.TrimSuffix(strings.ToLower(p), "/") == strings.TrimSuffix(rule.Path, "/")
	})
}

// The headers and parameters by which frameworks let a request name another method
// than its own: Rails, Laravel, Symfony, Express method-override, ASP.NET, Google APIs.
var overrideHeaders = [...]string{"x-http-method-override", "x-http-method", "x-method-override", "x-method"}

// overrideOf is the method that a request names beside its own, "" without one and
// "?" where there are several.
func overrideOf(r *Request, path *reading) (method string) {
	for i := range r.Headers {
		if slices.Contains(overrideHeaders[:], r.Headers[i][0]) {
			if method != "" {
				return "?"
			}
			if method = strings.ToUpper(strings.TrimSpace(r.Headers[i][1])); method == "" {
				method = "?"
			}
		}
	}
	if path.query == "" {
		return method
	}
	for part := range strings.FieldsFuncSeq(path.query, func(c rune) bool { return c == '&' || c == ';' }) {
		name, val, _ := strings.Cut(part, "=")
		name = strings.ToLower(decoded(decoded(name)))
		if name == "_method" || name == "x-http-method-override" || name == "$method" || strings.HasPrefix(name, "_method[") {
			if method != "" {
				return "?"
			}
			if method = strings.ToUpper(decoded(val)); method == "" {
				method = "?"
			}
		}
	}
	return method
}

// overridden tells whether an override names anything but the request's own method:
// also POST that says GET, which some servers believe and some do not.
func overridden(r *Request, path *reading) bool {
	named := overrideOf(r, path)
	return named != "" && named != r.Method
}

// claimRule is a ClaimRule with its values as properties.
type claimRule struct {
	ClaimRule
	properties []string
}

func compileClaim(r ClaimRule) (claimRule, error) {
	c := claimRule{ClaimRule: r}
	for _, v := range r.Values {
		p, err := Property(v)
		if err != nil {
			return c, err
		}
		c.properties = append(c.properties, p)
	}
	return c, nil
}

var (
	issuerPath   = []string{"iss"}
	audiencePath = []string{"aud"}
)

func (c *claimRule) holds(attrs Attributes) bool {
	if iss, ok := attrs.Claim(issuerPath); !ok || string(iss) != c.Issuer {
		return false
	}
	if c.Audience != "" {
		if aud, ok := attrs.Claim(audiencePath); !ok || !propertyHas(aud, c.Audience) {
			return false
		}
	}
	if len(c.Claim) == 0 {
		return true
	}
	claim, ok := attrs.Claim(c.Claim)
	if !ok {
		return false
	}
	return len(c.properties) == 0 || slices.ContainsFunc(c.properties, func(p string) bool { return propertyHas(claim, p) })
}

// Property is a JSON value as proxy-wasm serialises it. Lists hold scalars only.
func Property(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		if v {
			return "\x01", nil
		}
		return "\x00", nil
	case int:
		return Property(float64(v))
	case float64:
		return string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v))), nil
	case []any:
		pairs := make([][2]string, len(v))
		for i, item := range v {
			var err error
			if pairs[i][0], err = Property(item); err != nil {
				return "", err
			}
		}
		return string(appendPairs(nil, pairs)), nil
	}
	return "", fmt.Errorf("%v must be a string, a number or a boolean", v)
}

// propertyHas tells whether a property is a scalar, or is a list that holds it.
func propertyHas(property []byte, scalar string) bool {
	if string(property) == scalar {
		return true
	}
	if len(property) < 4 {
		return false
	}
	n := int(binary.LittleEndian.Uint32(property))
	if n > (len(property)-4)/8 {
		return false
	}
	sizes, data := property[4:4+8*n], property[4+8*n:]
	found := false
	for ; len(sizes) > 0; sizes = sizes[8:] {
		k, v := int(binary.LittleEndian.Uint32(sizes)), int(binary.LittleEndian.Uint32(sizes[4:]))
		if k < 0 || v != 0 || k+2 > len(data) || data[k] != 0 || data[k+1] != 0 {
			return false
		}
		found = found || string(data[:k]) == scalar
		data = data[k+2:]
	}
	// All of it or nothing: a text that merely begins like a list is none.
	return found && len(data) == 0
}
