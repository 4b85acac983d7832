package maintenance

import "slices"

// A grantRule lets requests pass: an exemption, or a write that goes through in
// read-only. It holds only for what every server reads as the request that the operator
// wrote, so it asks the readings that are sure.
type grantRule struct {
	PathRule
	upgrades, overrides, bodies bool
}

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

// grants answers whether the rule lets a request pass. At most maxBody bytes of a body
// are read.
func (rule *grantRule) grants(r *Request, maxBody int) answer {
	if !rule.matches(r) || r.read().upgrade && !rule.upgrades {
		return answerNo
	}

	var body, override answer
	if !rule.bodies {
		body = r.unexpectedBody()
	}
	if !rule.overrides {
		if method := r.override(); method != "" && !rule.speaksOf(method) {
			return answerNo
		}
		override = r.bodyOverride(maxBody)
	}

	return max(body, override).not()
}

// matches reports whether the rule is about the path and the method of a request. What
// passes from a script passes after its preflight (Fetch standard, "CORS-preflight
// fetch"), so OPTIONS passes wherever another method does.
func (rule *grantRule) matches(r *Request) bool {
	ways := r.read()
	return (rule.speaksOf(r.Method) || r.Method == "OPTIONS") && (rule.Path == "" || ways.surelyIs(rule.Path)) && (rule.Prefix == "" || ways.surelyUnder(rule.Prefix))
}

// grantedBy answers whether any of the rules lets a request pass.
func grantedBy(rules []grantRule, r *Request, maxBody int) (best answer) {
	for i := 0; i < len(rules) && best != answerYes; i++ {
		best = max(best, rules[i].grants(r, maxBody))
	}
	return best
}

// A refusalRule refuses requests. It holds for what some server may read as the request
// that the operator wrote. Its paths are folded.
type refusalRule struct{ PathRule }

func compileRefusals(rules []PathRule) (refusals []refusalRule) {
	for _, rule := range rules {
		rule.Path, rule.Prefix = fold(rule.Path), fold(rule.Prefix)
		refusals = append(refusals, refusalRule{rule})
	}
	return refusals
}

// refuses reports whether the rule refuses a request.
func (rule *refusalRule) refuses(r *Request) bool {
	ways := r.read()
	return rule.speaksOf(r.Method) && (rule.Prefix != "" && ways.mayReach(rule.Prefix) || rule.Path != "" && ways.mayBe(rule.Path))
}

// speaksOf reports whether a rule is about a method.
func (rule *PathRule) speaksOf(method string) bool {
	return len(rule.Methods) == 0 || slices.Contains(rule.Methods, method) ||
		method == "HEAD" && slices.Contains(rule.Methods, "GET")
}

// answer is the answer to a question about a request that may depend on its body.
type answer uint8

const (
	answerNo answer = iota
	answerNeedsBody
	answerYes
)

func (a answer) not() answer { return answerYes - a }
