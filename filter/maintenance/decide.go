package maintenance

import (
	"bytes"
	"cmp"
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
	// MaxBody is how many bytes of body are looked at, with NeedBody. Of a longer one,
	// one byte more is enough for the next decision, which refuses it.
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
	path := read(r)
	var buf [4]*app
	var strictest Decision
	for i, a := range s.match(r, &path, buf[:0]) {
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
	d.graphql = slices.ContainsFunc(a.graphql, func(p graphqlPath) bool { return path.reaches(p.folded) })
	for i := range a.spec.Exempt {
		if a.spec.Exempt[i].grants(r, path) {
			d.Rule = RuleExempt
			return
		}
	}
	if rule := a.bypass(r.Attributes); rule != "" {
		d.Rule = rule
		return
	}
	if d.Mode == NoAccess {
		d.refuse(RuleNoAccess)
		return
	}
	a.readOnly(r, path, d)
}

func (d *Decision) refuse(rule Rule) { d.Verdict, d.Rule = Refuse, rule }

func (d *Decision) needBody(rule Rule) { d.Verdict, d.Rule, d.MaxBody = NeedBody, rule, d.app.maxBody }

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
	for i := range a.claims {
		if a.claims[i].holds(attrs) {
			return RuleBypassClaim
		}
	}
	return ""
}

// readOnly judges a request to an app in read-only. Everything that is not known to
// read is refused.
func (a *app) readOnly(r *Request, path *reading, d *Decision) {
	rules := &a.spec.ReadOnly
	upgrade := r.has("upgrade") || r.has(":protocol") || r.Method == "CONNECT"
	hidden := false
	for i := range rules.WriteThrough {
		if upgrade && rules.Upgrades != PolicyAllow || !rules.WriteThrough[i].grants(r, path) {
			continue
		}
		switch a.bodyOverride(r, &rules.WriteThrough[i]) {
		case no:
			d.Rule = RuleWriteThrough
			return
		case unknown:
			d.needBody(RuleWriteThrough)
			return
		}
		hidden = true
	}
	if hidden {
		d.refuse(RuleMethodOverride)
		return
	}
	for i := range a.getWrites {
		if a.getWrites[i].catches(r, path) {
			d.refuse(RuleGetWrites)
			return
		}
	}
	// Where one server may read a GraphQL path and another may not, the request must
	// pass by both rules.
	if !d.graphql || !a.onlyGraphQL(path) {
		if a.http(r, path, upgrade, d); d.Verdict == Refuse {
			return
		}
	}
	if d.graphql {
		a.graphQL(r, path, upgrade, d)
	}
}

func (a *app) onlyGraphQL(path *reading) bool {
	return path.certain && slices.ContainsFunc(a.graphql, func(p graphqlPath) bool { return under(path.sent, p.exact) })
}

// graphQLPage tells whether a path is a GraphQL path itself, where a GET that says
// nothing gets the page on which people write queries. Below it the path may name a
// stored document.
func (a *app) graphQLPage(path *reading) bool {
	return path.certain && slices.ContainsFunc(a.graphql, func(p graphqlPath) bool {
		return strings.TrimSuffix(path.sent, "/") == strings.TrimSuffix(p.exact, "/")
	})
}

func (a *app) http(r *Request, path *reading, upgrade bool, d *Decision) {
	rules := &a.spec.ReadOnly
	switch {
	case upgrade && rules.Upgrades != PolicyAllow:
		d.refuse(RuleUpgrade)
	case overridden(r, path):
		d.refuse(RuleMethodOverride)
	case rules.EventStreams == PolicyRefuse && slices.ContainsFunc(r.headers("accept"), func(v string) bool { return strings.Contains(strings.ToLower(v), "text/event-stream") }):
		d.refuse(RuleEventStream)
	case safe(r.Method) || r.Method == "CONNECT": // over HTTP/2 an upgrade (RFC 8441), allowed above
		d.Rule = RuleSafeMethod
	case r.Method == "POST" && path.certain && slices.Contains(rules.SafeRPCs, path.sent) && grpcType(r) != "":
		d.Rule = RuleSafeRPC
	default:
		d.refuse(RuleMethod)
	}
}

// safe is RFC 9110 section 9.2.1.
func safe(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE"
}

// grpcType is the media type of a gRPC or gRPC-Web request, "" of any other.
func grpcType(r *Request) string {
	types := r.headers("content-type")
	if len(types) != 1 {
		return ""
	}
	name, _, _ := strings.Cut(types[0], ";")
	name = strings.ToLower(strings.TrimSpace(name))
	rest, ok := strings.CutPrefix(name, "application/grpc")
	if codec, web := strings.CutPrefix(rest, "-web"); web {
		rest = strings.TrimPrefix(codec, "-text")
	}
	if ok && (rest == "" || rest[0] == '+' && token(rest)) {
		return name
	}
	return ""
}

// graphQL judges a request to a GraphQL path. It looks at the URL and the body
// whatever the method: servers read both whatever the method.
func (a *app) graphQL(r *Request, path *reading, upgrade bool, d *Decision) {
	d.Rule = RuleGraphQLQuery
	var rule graphql.Rule
	switch {
	case upgrade:
		if a.spec.GraphQL == nil || a.spec.GraphQL.Upgrades != PolicyAllow {
			rule = graphql.RuleUpgrade
		}
		d.Rule = RuleSafeMethod
	case overrideOf(r, path) != "": // no GraphQL client sends one, whatever it says
		rule = graphql.RuleMethodOverride
	case safe(r.Method):
		switch {
		case !r.EndStream && r.Header("content-length") != "0":
			rule = graphql.RuleGetBody
		case path.query == "" && (r.Method == "OPTIONS" || a.graphQLPage(path)):
			d.Rule = RuleSafeMethod
		default:
			rule = graphql.Query(path.query, &a.options)
		}
	case r.Method != "POST":
		rule = graphql.RuleMethod
	case graphql.HasParameter(path.query):
		rule = graphql.RuleURLParameter
	default:
		rule = cmp.Or(graphql.ContentEncoding(r.headers("content-encoding")), graphql.ContentType(r.headers("content-type")))
		switch {
		case rule != "":
		case r.BodyRead || r.EndStream:
			rule = graphql.JSON(r.Body, &a.options)
		default:
			d.needBody(RuleGraphQLQuery)
		}
	}
	if rule != "" {
		d.refuse(Rule(rule))
	}
}

// overridden tells whether an override names anything but the request's own method:
// also POST that says GET, which some servers believe and some do not.
func overridden(r *Request, path *reading) bool {
	named := overrideOf(r, path)
	return named != "" && named != r.Method
}

type answer uint8

const (
	no answer = iota
	yes
	unknown
)

// bodyOverride tells whether the body of a POST may name another method, to frameworks
// that look for one there, than the rule lets pass.
func (a *app) bodyOverride(r *Request, rule *PathRule) answer {
	if r.Method != "POST" || len(rule.Methods) == 0 || r.EndStream {
		return no
	}
	// Rack takes a body without a type for a form.
	if types := r.headers("content-type"); len(types) == 1 {
		if t := strings.ToLower(types[0]); !strings.Contains(t, "form") && !strings.Contains(t, "json") {
			return no
		}
	}
	switch {
	case !r.BodyRead:
		return unknown
	case len(r.Body) > a.maxBody || overrideIn(string(r.Body), "") != "" || quotesMethod(r.Body):
		return yes
	}
	return no
}

// quotesMethod finds "_method" as multipart forms and JSON name it: behind a quote or
// an equals sign, in JSON also with escapes that no honest writer makes.
func quotesMethod(body []byte) bool {
	body = bytes.ToLower(body)
	for _, escaped := range [...]string{`\u005f`, `\u006`, `\u007`} {
		if bytes.Contains(body, []byte(escaped)) {
			return true
		}
	}
	for {
		before, after, ok := bytes.Cut(body, []byte("method"))
		if !ok {
			return false
		}
		if n := len(before); n >= 2 && strings.IndexByte("_.-[ +$", before[n-1]) >= 0 && strings.IndexByte(`"'=`, before[n-2]) >= 0 {
			return true
		}
		body = after
	}
}

// claimRule is a ClaimRule with its values as properties.
type claimRule struct {
	ClaimRule
	properties []string
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
	list, ok := v.([]any)
	if !ok {
		return scalarProperty(v)
	}
	pairs := make([][2]string, len(list))
	for i, item := range list {
		var err error
		if pairs[i][0], err = scalarProperty(item); err != nil {
			return "", err
		}
	}
	return string(appendPairs(nil, pairs)), nil
}

func scalarProperty(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		if v {
			return "\x01", nil
		}
		return "\x00", nil
	case int:
		return scalarProperty(float64(v))
	case float64:
		return string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v))), nil
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
