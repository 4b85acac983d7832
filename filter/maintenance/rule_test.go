package maintenance_test

import (
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// A Rule is the name of what decided on a request. People whose request was refused read its
// explanation, so each rule must have one, in a sentence.
func TestEveryRuleIsExplained(t *testing.T) {
	rules := maintenance.Rules()
	for _, r := range graphql.Rules() {
		rules = append(rules, maintenance.Rule(r))
	}

	for _, r := range rules {
		if text := r.Explain(); !strings.HasSuffix(text, ".") || strings.ToUpper(text[:1]) != text[:1] {
			t.Errorf("%s: %q", r, text)
		}
	}

	if text := maintenance.Rule("no-such").Explain(); text != "" {
		t.Errorf("an unknown rule says %q", text)
	}

}

func TestVerdictsHaveNames(t *testing.T) {
	for verdict, want := range map[maintenance.Verdict]string{
		maintenance.Pass: "pass", maintenance.NeedBody: "need-body", maintenance.Refuse: "refuse",
	} {
		if got := verdict.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Rule.Bypass returns the kind of bypass, or "" for a rule that is not a bypass.
func TestRuleNamesItsKindOfBypass(t *testing.T) {
	for rule, want := range map[maintenance.Rule]string{
		maintenance.RuleBypassIP: "ip", maintenance.RuleBypassClaim: "claim", maintenance.RuleBypassPrincipal: "principal",
		maintenance.RuleExempt: "", maintenance.RuleOff: "", maintenance.RuleGraphQLQuery: "",
	} {
		if got := rule.Bypass(); got != want {
			t.Errorf("%s: %q", rule, got)
		}
	}
}
