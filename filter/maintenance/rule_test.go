package maintenance_test

import (
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// Each rule must be explained in one sentence.
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

	for v, want := range map[maintenance.Verdict]string{maintenance.Pass: "pass", maintenance.NeedBody: "need-body", maintenance.Refuse: "refuse"} {
		if v.String() != want {
			t.Errorf("%v", v)
		}
	}
}

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
