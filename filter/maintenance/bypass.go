package maintenance

import (
	"fmt"
	"slices"
	"strings"
)

func (a *app) compileBypass(c *checker) {
	a.networks = make(networks)
	for i, ip := range a.spec.Bypass.IPs {
		if problem := a.networks.add(ip); problem != "" {
			c.bad(fmt.Sprintf("bypass.ips[%d]", i), "%q %s", ip, problem)
		}
	}
	a.compileClaims(c)
	for i, p := range a.spec.Bypass.Principals {
		if field := fmt.Sprintf("bypass.principals[%d]", i); strings.Trim(p, "*") == "" {
			c.bad(field, "%q would let every peer pass; name an identity such as spiffe://cluster.local/ns/ops/sa/admin", p)
		} else if strings.Contains(p[:len(p)-1], "*") {
			c.bad(field, "%q may have a * at its end only", p)
		}
	}
}

func (a *app) bypass(r *Request) Rule {
	if len(a.networks) > 0 && a.networks.contain(r.Attributes.SourceAddress()) {
		return RuleBypassIP
	}
	if len(a.spec.Bypass.Principals) > 0 {
		if p := r.Attributes.Principal(); p != "" && slices.ContainsFunc(a.spec.Bypass.Principals, func(rule string) bool {
			prefix, wild := strings.CutSuffix(rule, "*")
			return p == rule || wild && strings.HasPrefix(p, prefix)
		}) {
			return RuleBypassPrincipal
		}
	}
	if a.grantsClaims(r) {
		return RuleBypassClaim
	}
	return ""
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
