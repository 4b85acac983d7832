package maintenance

import (
	"fmt"
	"slices"
	"strings"
)

// A kind of bypass has a field in [Bypass], which parse.go reads, a check and a test in this file,
// and a [Rule] that begins with "bypass.".

// compileBypass checks and compiles the bypasses of an app.
func (a *app) compileBypass(c *checker) {
	a.networks = make(networks)
	for i, ip := range a.spec.Bypass.IPs {
		if problem := a.networks.add(ip); problem != "" {
			c.reject(fmt.Sprintf("bypass.ips[%d]", i), "%q %s", ip, problem)
		}
	}

	a.compileClaims(c)

	for i, p := range a.spec.Bypass.Principals {
		field := fmt.Sprintf("bypass.principals[%d]", i)
		switch {
		case strings.Trim(p, "*") == "":
			c.reject(field, "%q would let every peer pass; name an identity such as spiffe://cluster.local/ns/ops/sa/admin", p)
		case strings.Contains(p[:len(p)-1], "*"):
			c.reject(field, "%q may have a * only at its end", p)
		}
	}
}

// bypass returns the rule that lets a request bypass maintenance, or "".
func (a *app) bypass(r *Request) Rule {
	if len(a.networks) > 0 && a.networks.contains(r.Attributes.SourceAddress()) {
		return RuleBypassIP
	}
	if len(a.spec.Bypass.Principals) > 0 && a.listsPrincipal(r.Attributes.Principal()) {
		return RuleBypassPrincipal
	}
	if a.grantsClaims(r) {
		return RuleBypassClaim
	}

	return ""
}

// listsPrincipal reports whether a mesh identity is on the list of the app.
func (a *app) listsPrincipal(principal string) bool {
	if principal == "" {
		return false
	}

	return slices.ContainsFunc(a.spec.Bypass.Principals, func(listed string) bool {
		prefix, isPrefix := strings.CutSuffix(listed, "*")
		return principal == listed || isPrefix && strings.HasPrefix(principal, prefix)
	})
}

// Bypass returns "ip", "principal" or "claim" if the rule lets a request pass although its app is
// in maintenance, and "" otherwise.
func (r Rule) Bypass() string {
	kind, isBypass := strings.CutPrefix(string(r), "bypass.")
	if !isBypass {
		return ""
	}
	return kind
}
