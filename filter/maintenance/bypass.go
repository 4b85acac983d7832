package maintenance

import (
	"fmt"
	"slices"
	"strings"
)

// A bypass lets some clients use an app that is in maintenance. This file has everything about
// bypasses, except for how addresses are looked up (networks.go) and how claims are compared
// (claims.go).
//
// To add a kind of bypass, add a field to Bypass, name it in Kinds, read it in value.bypass, check
// it in compileBypass, apply it in app.bypassRule, and give it a [Rule] that begins with "bypass.".

// Bypass lists the clients whose requests pass in every mode.
type Bypass struct {
	IPs        []string    `json:"ips,omitempty" doc:"Addresses and CIDRs"`
	Claims     []ClaimRule `json:"claims,omitempty" doc:"Claims of a JWT that the proxy verified"`
	Principals []string    `json:"principals,omitempty" doc:"Mesh identities of the peer (SPIFFE ids); a trailing * matches any rest"`
}

// Bounds on the lists below, per app.
const (
	maxClaimRules = 1000
	maxPrincipals = 10000
)

// bypass reads a Bypass from the JSON value v.
// A BypassKind is what a [Bypass] lists of one kind, for people to read.
type BypassKind struct {
	Plural  string // what the entries are called, such as "addresses"
	Entries []string
}

// Kinds returns all kinds of bypass, also those without entries.
func (b *Bypass) Kinds() []BypassKind {
	var claims []string
	for _, rule := range b.Claims {
		claims = append(claims, rule.String())
	}
	return []BypassKind{{"addresses", b.IPs}, {"claims", claims}, {"principals", b.Principals}}
}

func (v value) bypass() (b Bypass) {
	v.object(func(key string, v value) bool {
		switch key {
		case "ips":
			b.IPs = v.strs(MaxCIDRs)
		case "claims":
			v.array(maxClaimRules, func(v value) { b.Claims = append(b.Claims, v.claimRule()) })
		case "principals":
			b.Principals = v.strs(maxPrincipals)
		default:
			return false
		}

		return true
	})
	return b
}

// compileBypass compiles the bypasses of the app's spec, and reports what is wrong with them to c.
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
		case strings.Contains(p[:len(p)-1], "*"): // a * anywhere but at the end
			c.reject(field, "%q may have a * only at its end", p)
		}
	}
}

// bypassRule returns the rule that lets a request bypass the maintenance of the app, or "" if it
// does not. The attributes of a request are host calls in the filter, so each is only read if the
// app has bypasses of its kind, and the cheapest is read first.
func (a *app) bypassRule(r *Request) Rule {
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

// listsPrincipal reports whether the app's list of principals contains a mesh identity, or a prefix
// of it that ends with *.
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
