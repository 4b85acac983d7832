package maintenance

import "slices"

// This file compares requests with the rules that an operator writes about methods and paths. There
// are two kinds, because servers may read one request in different ways (readings.go): a rule that
// lets requests pass applies only if it applies in every reading, and a rule that refuses them
// applies if it applies in some reading.

// A grantRule lets requests pass: it is an exemption or a write-through rule. It applies only if
// every server reads a request as one that the operator listed.
type grantRule struct {
	PathRule
	upgrades, overrides, bodies bool // whether the rule extends to them; see Allowance
}

// compileGrants compiles rules that let requests pass. A rule without methods covers every method,
// so it extends to overrides.
func compileGrants(rules []PathRule) (grants []grantRule) {
	for _, rule := range rules {
		grants = append(grants, grantRule{
			PathRule:  rule,
			upgrades:  slices.Contains(rule.Allow, AllowUpgrades),
			overrides: slices.Contains(rule.Allow, AllowOverrides) || len(rule.Methods) == 0,
			bodies:    slices.Contains(rule.Allow, AllowBodies),
		})
	}

	return grants
}

// grants returns whether the rule lets a request pass. It reads at most maxBody bytes of a body,
// and a longer body does not pass.
func (rule *grantRule) grants(r *Request, maxBody int) answer {
	if !rule.matches(r) || r.interpret().upgrade && !rule.upgrades {
		return answerNo
	}

	// What would keep the request from passing.
	body, override := answerNo, answerNo
	if !rule.bodies {
		body = r.hasUnexpectedBody()
	}
	if !rule.overrides {
		if method := r.overrideMethod(); method != "" && !rule.coversMethod(method) {
			return answerNo
		}
		override = r.bodyMayOverride(maxBody)
	}

	return max(body, override).negated()
}

// matches reports whether the rule covers the path and the method of a request. Before the request
// of a script a browser sends a preflight (Fetch standard, "CORS-preflight fetch"), so OPTIONS
// matches wherever another method does.
func (rule *grantRule) matches(r *Request) bool {
	rs := r.interpret()
	return (rule.coversMethod(r.Method) || r.Method == "OPTIONS") &&
		(rule.Path == "" || rs.surelyIs(rule.Path)) &&
		(rule.Prefix == "" || rs.surelyUnder(rule.Prefix))
}

// grantedBy returns whether any of the rules lets a request pass. It needs the body if one of them
// does and no other lets the request pass without it.
func grantedBy(rules []grantRule, r *Request, maxBody int) (best answer) {
	for i := 0; i < len(rules) && best != answerYes; i++ {
		best = max(best, rules[i].grants(r, maxBody))
	}
	return best
}

// A refusalRule refuses requests. It applies if some server may read a request as one that the
// operator listed. Its paths are in lower case, as mayBe and mayReach need them.
type refusalRule struct{ PathRule }

// compileRefusals compiles rules that refuse requests.
func compileRefusals(rules []PathRule) (refusals []refusalRule) {
	for _, rule := range rules {
		rule.Path, rule.Prefix = fold(rule.Path), fold(rule.Prefix)
		refusals = append(refusals, refusalRule{rule})
	}
	return refusals
}

// refuses reports whether the rule refuses a request.
func (rule *refusalRule) refuses(r *Request) bool {
	rs := r.interpret()
	return rule.coversMethod(r.Method) &&
		(rule.Prefix != "" && rs.mayReach(rule.Prefix) || rule.Path != "" && rs.mayBe(rule.Path))
}

// coversMethod reports whether a rule covers a method. A rule without methods covers all of them,
// and GET includes HEAD (RFC 9110 section 9.3.2).
func (rule *PathRule) coversMethod(method string) bool {
	return len(rule.Methods) == 0 || slices.Contains(rule.Methods, method) ||
		method == "HEAD" && slices.Contains(rule.Methods, "GET")
}

// answer is the answer to a question about a request that may need the body. The order of the
// answers matters: max is the answer to "one or the other", of which a yes needs no body.
type answer uint8

const (
	answerNo answer = iota
	answerNeedsBody
	answerYes
)

// negated turns yes into no and no into yes. If the body is needed, it still is.
func (a answer) negated() answer { return answerYes - a }
