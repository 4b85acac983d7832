package maintenance

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// This file says what is wrong with a document, or with the plugin configuration of the filter,
// that is well-formed JSON. compile.go calls the checks while it compiles an app, and config.go
// while it compiles a configuration. People read the messages, so each says what the field must be.

// checker collects what is wrong with an app or with a configuration. A check does not return an
// error but calls reject, so that a caller runs one check after the other and looks at err in the
// end. err is the first error.
type checker struct {
	at  string // the JSON path of the app, such as "apps[2]", or "" if fields have no parent
	err error  // a *FieldError, or nil
}

// reject records that a field is invalid. field is its JSON path below c.at, and the message says
// what the field must be.
func (c *checker) reject(field, format string, args ...any) {
	if c.err != nil {
		return
	}

	if c.at != "" {
		field = c.at + "." + field
	}

	c.err = &FieldError{field, fmt.Sprintf(format, args...)}
}

// maxNameBytes bounds a DNS label (RFC 1035 section 2.3.4).
const maxNameBytes = 63

// name checks the name of an app.
func (c *checker) name(name string) {
	if !validName(name) {
		c.reject("name", "%q must be 1 to 63 of a-z, 0-9 and -, and must not begin or end with -", name)
	}
}

// validName reports whether name is a DNS label in lower case. Names of apps, windows and filters
// must be labels, because they become parts of file names and keys.
func validName(name string) bool {
	if name == "" || len(name) > maxNameBytes || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}

	for i := range len(name) {
		if c := name[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}

	return true
}

// match checks the match of a spec. The default app gets what no other app matches, so it must not
// have one. Any other app must, because without a match it would get every request.
func (c *checker) match(s *Spec) {
	m := &s.Match
	total := len(m.Hosts) + len(m.Paths) + len(m.Routes) + len(m.Clusters)
	switch {
	case s.Name == DefaultApp && total > 0:
		c.reject("match", "must be empty: the default app gets what no other app matches; use another name")
	case s.Name != DefaultApp && total == 0:
		c.reject("match", "must not be empty: give hosts, paths, routes or clusters, or use the app named default")
	}

	for i, h := range m.Hosts {
		if problem := hostProblem(h); problem != "" {
			c.reject(fmt.Sprintf("match.hosts[%d]", i), "%q %s", h, problem)
		}
	}

	c.paths("match.paths", m.Paths)
	c.nonEmpty("match.routes", m.Routes)
	c.nonEmpty("match.clusters", m.Clusters)
}

// hostProblem returns what is wrong with a host in a match, as the rest of a sentence that begins
// with the host, or "" if the host is valid.
func hostProblem(host string) string {
	name := strings.TrimPrefix(host, "*.")
	switch {
	case name == "" || name == "*":
		return "must be a host name or *.name; leave hosts out to match every host"
	case strings.IndexFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0:
		return "must be written as browsers send it, which is xn--… for letters beyond ASCII"
	case strings.ContainsAny(name, `*/\?#@, `) || !isPrintable(name) || canonicalHost(name) == "":
		return "must be a host name or *.name, without scheme and path"
	case canonicalHost(name) != strings.ToLower(strings.TrimSuffix(name, ".")): // it removed a port
		return "must not have a port: hosts match on every port"
	}

	return ""
}

// nonEmpty checks that no name in the list is empty.
func (c *checker) nonEmpty(field string, names []string) {
	for i, n := range names {
		if n == "" {
			c.reject(fmt.Sprintf("%s[%d]", field, i), "must not be empty")
		}
	}
}

func (c *checker) paths(field string, paths []string) {
	for i, p := range paths {
		c.path(fmt.Sprintf("%s[%d]", field, i), p)
	}
}

// path checks the path of a rule or of a match. Every server must read the path in the same way.
func (c *checker) path(field, path string) {
	if !isPlainPath(path) || strings.IndexByte(path, '?') >= 0 {
		c.reject(field, "%q must begin with / and have only visible ASCII characters, none of ? %% ; \\ #, and no // or dot segments", path)
	}
}

// rpcs checks the paths of gRPC methods. The path "/package.Service/Method" has three parts, of
// which the first is empty.
func (c *checker) rpcs(field string, rpcs []string) {
	for i, rpc := range rpcs {
		parts := strings.Split(rpc, "/")
		if len(parts) != 3 || parts[0] != "" || parts[1] == "" || parts[2] == "" || !isPlainPath(rpc) {
			c.reject(fmt.Sprintf("%s[%d]", field, i), "%q must be /package.Service/Method", rpc)
		}
	}
}

// rules checks the paths and methods of rules.
func (c *checker) rules(field string, rules []PathRule) {
	for i, r := range rules {
		at := fmt.Sprintf("%s[%d]", field, i)
		if (r.Path == "") == (r.Prefix == "") {
			c.reject(at, "must have either path or prefix")
		} else {
			c.path(at, r.Path+r.Prefix)
		}

		for j, m := range r.Methods {
			if strings.ToUpper(m) != m || !isToken(m) {
				c.reject(fmt.Sprintf("%s.methods[%d]", at, j), "%q must be a method in upper case, such as POST", m)
			}
		}
	}
}

// grants checks rules that let requests pass: what rules checks, and the allowances, which only
// such rules have.
func (c *checker) grants(field string, rules []PathRule) {
	c.rules(field, rules)
	for i, rule := range rules {
		for j, allowed := range rule.Allow {
			switch allowed {
			case AllowUpgrades, AllowOverrides, AllowBodies:
			default:
				c.reject(fmt.Sprintf("%s[%d].allow[%d]", field, i, j), "%q must be upgrades, overrides or bodies", allowed)
			}
		}
	}
}

// withoutBodies rejects rules that let a request pass only after its body was read. The exemptions
// of the plugin configuration must not be such rules, because they apply before there is a state,
// and so before it is known how much of a body may be read.
func (c *checker) withoutBodies(field string, rules []PathRule) {
	for i, rule := range rules {
		// Without methods a rule covers all of them, so no body can name one that it does not
		// cover.
		named := slices.IndexFunc(rule.Methods, overridable)
		if named >= 0 && !slices.Contains(rule.Allow, AllowOverrides) {
			c.reject(fmt.Sprintf("%s[%d].allow", field, i),
				`must have "overrides" if the methods have %s: bodies are not read for these rules, and one could name another method`, rule.Methods[named])
		}
	}
}

// policy checks a policy. An absent one is "".
func (c *checker) policy(field string, p Policy) {
	if p != "" && p != PolicyRefuse && p != PolicyAllow {
		c.reject(field, "%q must be refuse or allow", p)
	}
}

// graphQL checks the settings for GraphQL, except for the hashes of persisted documents, which
// compileGraphQL checks while it decodes them. A number that is 0 stands for its default.
func (c *checker) graphQL(g *GraphQL) {
	c.paths("graphql.paths", g.Paths)
	for _, bound := range []struct {
		field  string
		n, max int
	}{
		{"max_body", g.MaxBody, MaxBodyBytes},
		{"max_tokens", g.MaxTokens, math.MaxInt32},
		{"max_depth", g.MaxDepth, graphql.MaxNesting},
		{"max_batch", g.MaxBatch, math.MaxInt32},
	} {
		if bound.n < 0 || bound.n > bound.max {
			c.reject("graphql."+bound.field, "must be 0 (the default) to %d", bound.max)
		}
	}

	if len(g.ExtraKeys) > maxExtraKeys {
		c.reject("graphql.extra_keys", "must have at most %d entries, not %d", maxExtraKeys, len(g.ExtraKeys))
	}

	c.policy("graphql.below", g.Below)
	c.policy("graphql.upgrades", g.Upgrades)
}

// retryAfter checks a number of seconds. 0 stands for DefaultRetryAfter.
func (c *checker) retryAfter(seconds int) {
	if seconds < 0 || seconds > math.MaxInt32 {
		c.reject("retry_after", "must be seconds, 0 (the default) to %d", math.MaxInt32)
	}
}

// pages checks the pages of an app, whose languages are given in a fixed order so that the first
// error is always the same.
func (c *checker) pages(pages map[string]string, languages []string) {
	if len(pages) > maxPages {
		c.reject("pages", "must have at most %d entries, not %d", maxPages, len(pages))
	}

	for _, lang := range languages {
		field, sha := join("pages", lang), pages[lang]
		if !validLanguage(lang) {
			c.reject(field, "%q must be a language tag, such as en or pt-BR", lang)
		}
		if len(sha) != 2*sha256.Size || strings.Trim(sha, "0123456789abcdef") != "" {
			c.reject(field, "must be the SHA-256 of the page as 64 lower-case hex digits; upload the page first")
		}
	}
}

// validLanguage reports whether tag is "" or has the form of a language tag (RFC 5646 section 2.1).
func validLanguage(tag string) bool {
	if tag == "" {
		return true
	}

	for part := range strings.SplitSeq(tag, "-") {
		if part == "" || len(part) > 8 {
			return false
		}

		for i := range len(part) {
			if !isAlphanumeric(part[i]) {
				return false
			}
		}
	}

	return true
}

func (c *checker) origins(origins []string) {
	for i, o := range origins {
		if !validOrigin(o) {
			c.reject(fmt.Sprintf("cors.origins[%d]", i), "%q must be an origin as browsers send it, such as https://app.example.com (lower case, no path, no *, no default port)", o)
		}
	}
}

// validOrigin reports whether a browser may send the origin in the header Origin (RFC 6454 section
// 6.2). Origins are compared as strings, so an origin in any other form would never match.
func validOrigin(origin string) bool {
	scheme, host, _ := strings.Cut(origin, "://")
	defaultPort := map[string]string{"http": ":80", "https": ":443"}[scheme] // "" for other schemes
	return defaultPort != "" && host != "" && !strings.HasSuffix(host, defaultPort) &&
		!strings.ContainsAny(host, `/\?#@*, `) && isPrintable(origin) && strings.ToLower(origin) == origin
}

// activations checks the activations of an app.
func (c *checker) activations(list []Activation) {
	ids := map[string]bool{}
	for i, a := range list {
		at := fmt.Sprintf("activations[%d]", i)
		switch a.Source {
		case SourceManual, SourceWindow, SourceFile, SourceResource:
		default:
			c.reject(at+".source", "%q must be manual, window, file or resource", a.Source)
		}

		if a.ID == "" || ids[a.ID] {
			c.reject(at+".id", "%q must be present and unique in its app", a.ID)
		}
		ids[a.ID] = true

		c.mode(at+".mode", a.Mode)
		c.message(at+".message", a.Message)

		if a.Since.IsZero() {
			c.reject(at+".since", "is required")
		}
		if !a.Until.IsZero() && !a.Until.After(a.Since) {
			c.reject(at+".until", "%s must be after since, %s", a.Until.Format(time.RFC3339), a.Since.Format(time.RFC3339))
		}
	}
}

// maxAnnounce is a leap year, in seconds.
const maxAnnounce = 366 * 24 * 3600

// windows checks the windows of an app.
func (c *checker) windows(list []Window) {
	ids := map[string]bool{}
	for i, w := range list {
		at := fmt.Sprintf("windows[%d]", i)
		if !validName(w.ID) || ids[w.ID] {
			c.reject(at+".id", "%q must be a name of a-z, 0-9 and -, unique in its app", w.ID)
		}
		ids[w.ID] = true

		c.mode(at+".mode", w.Mode)
		c.message(at+".message", w.Message)
		if w.Announce < 0 || w.Announce > maxAnnounce {
			c.reject(at+".announce", "must be seconds, 0 to a year")
		}

		if len(w.Occurrences) > MaxOccurrences {
			c.reject(at+".occurrences", "must have at most %d entries, not %d", MaxOccurrences, len(w.Occurrences))
		}

		for j, o := range w.Occurrences {
			if o.Start.IsZero() {
				c.reject(fmt.Sprintf("%s.occurrences[%d].start", at, j), "is required")
			}
			if !o.End.After(o.Start) {
				c.reject(fmt.Sprintf("%s.occurrences[%d].end", at, j), "must be after start")
			}
		}
	}
}

func (c *checker) mode(field string, m Mode) {
	if !m.Valid() {
		c.reject(field, "%q must be %s", m, ModeList())
	}
}

// message checks a message that people read.
func (c *checker) message(field, message string) {
	switch {
	case len(message) > MaxMessageBytes:
		c.reject(field, "must have at most %d bytes, not %d", MaxMessageBytes, len(message))
	case !isPrintable(message):
		c.reject(field, "must be UTF-8 text without control characters")
	}
}

// isPrintable reports whether s is UTF-8 text that has no control characters, except for tabs and
// line feeds.
func isPrintable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) < 0
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isAlphanumeric reports whether c is a letter or a digit in ASCII.
func isAlphanumeric(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}
