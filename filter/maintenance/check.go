package maintenance

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// checker keeps the first error of an app's checks. The checks go on behind it, which
// is harmless.
type checker struct {
	at    string // the app's field
	first error
}

func (c *checker) bad(field, format string, args ...any) {
	if c.first == nil {
		if c.at != "" {
			field = c.at + "." + field
		}
		c.first = &FieldError{field, fmt.Sprintf(format, args...)}
	}
}

// Names of apps, and what else looks like one: a DNS label, because it becomes part
// of file names and keys.
func validName(name string) bool {
	if name == "" || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

func (c *checker) match(s *Spec) {
	m := &s.Match
	total := len(m.Hosts) + len(m.Paths) + len(m.Routes) + len(m.Clusters)
	switch {
	case s.Name == DefaultApp && total > 0:
		c.bad("match", "the default app matches what no other app does and takes no match; name the app otherwise")
	case s.Name != DefaultApp && total == 0:
		c.bad("match", "is empty: give hosts, paths, routes or clusters, or use the app named default")
	}
	for i, h := range m.Hosts {
		if problem := hostProblem(h); problem != "" {
			c.bad(fmt.Sprintf("match.hosts[%d]", i), "%q %s", h, problem)
		}
	}
	c.paths("match.paths", m.Paths)
	c.present("match.routes", m.Routes)
	c.present("match.clusters", m.Clusters)
}

func hostProblem(host string) string {
	name := strings.TrimPrefix(host, "*.")
	switch {
	case name == "" || name == "*":
		return "must be a host name or *.name; leave hosts out to match every host"
	case strings.IndexFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0:
		return "must be written as browsers send it, which is xn--… for letters beyond ASCII"
	case strings.ContainsAny(name, `*/\?#@, `) || !printable(name) || canonicalHost(name) == "":
		return "must be a host name or *.name, without scheme and path"
	case canonicalHost(name) != strings.ToLower(strings.TrimSuffix(name, ".")):
		return "must be without a port: ports are not looked at"
	}
	return ""
}

func (c *checker) present(field string, names []string) {
	for i, n := range names {
		if n == "" {
			c.bad(fmt.Sprintf("%s[%d]", field, i), "must not be empty")
		}
	}
}

func (c *checker) paths(field string, paths []string) {
	for i, p := range paths {
		c.path(fmt.Sprintf("%s[%d]", field, i), p)
	}
}

func (c *checker) path(field, path string) {
	if !plain(path) || strings.IndexByte(path, '?') >= 0 {
		c.bad(field, "%q must begin with / and hold only visible ASCII without ? %% ; \\ # or // or dot segments", path)
	}
}

func (c *checker) rules(field string, rules []PathRule) {
	for i, r := range rules {
		at := fmt.Sprintf("%s[%d]", field, i)
		if (r.Path == "") == (r.Prefix == "") {
			c.bad(at, "give either path or prefix")
		} else {
			c.path(at, r.Path+r.Prefix)
		}
		for j, m := range r.Methods {
			if strings.ToUpper(m) != m || !token(m) {
				c.bad(fmt.Sprintf("%s.methods[%d]", at, j), "%q must be a method in upper case, such as POST", m)
			}
		}
	}
}

// grants checks rules that let requests pass.
func (c *checker) grants(field string, rules []PathRule) {
	c.rules(field, rules)
	for i, rule := range rules {
		for j, allowed := range rule.Allow {
			switch allowed {
			case AllowUpgrades, AllowOverrides, AllowBodies:
			default:
				c.bad(fmt.Sprintf("%s[%d].allow[%d]", field, i, j), "%q must be upgrades, overrides or bodies", allowed)
			}
		}
	}
}

// readsNoBody refuses rules by which a request would pass only once its body was read.
func (c *checker) readsNoBody(field string, rules []PathRule) {
	for i, rule := range rules {
		if named := slices.IndexFunc(rule.Methods, overridable); named >= 0 && !slices.Contains(rule.Allow, AllowOverrides) {
			c.bad(fmt.Sprintf("%s[%d].allow", field, i), `must have "overrides" where the methods have %s: bodies are not read for these rules, and one could name another method`, rule.Methods[named])
		}
	}
}

func (c *checker) policy(field string, p Policy) {
	if p != "" && p != PolicyRefuse && p != PolicyAllow {
		c.bad(field, "%q must be refuse or allow", p)
	}
}

// validOrigin takes what browsers send (RFC 6454 section 6.2): anything else would
// never match.
func validOrigin(origin string) bool {
	scheme, host, _ := strings.Cut(origin, "://")
	defaultPort := map[string]string{"http": ":80", "https": ":443"}[scheme]
	return defaultPort != "" && host != "" && !strings.HasSuffix(host, defaultPort) &&
		!strings.ContainsAny(host, `/\?#@*, `) && printable(origin) && strings.ToLower(origin) == origin
}

func (c *checker) activations(list []Activation) {
	ids := map[string]bool{}
	for i, a := range list {
		at := fmt.Sprintf("activations[%d]", i)
		switch a.Source {
		case SourceManual, SourceWindow, SourceFile, SourceResource:
		default:
			c.bad(at+".source", "%q must be manual, window, file or resource", a.Source)
		}
		if a.ID == "" || ids[a.ID] {
			c.bad(at+".id", "%q must be present and unique in its app", a.ID)
		}
		ids[a.ID] = true
		c.mode(at+".mode", a.Mode)
		c.message(at+".message", a.Message)
		if a.Since.IsZero() {
			c.bad(at+".since", "is required")
		}
		if !a.Until.IsZero() && !a.Until.After(a.Since) {
			c.bad(at+".until", "%s must be after since, %s", a.Until.Format(time.RFC3339), a.Since.Format(time.RFC3339))
		}
	}
}

func (c *checker) windows(list []Window) {
	ids := map[string]bool{}
	for i, w := range list {
		at := fmt.Sprintf("windows[%d]", i)
		if !validName(w.ID) || ids[w.ID] {
			c.bad(at+".id", "%q must be a name of a-z, 0-9 and -, unique in its app", w.ID)
		}
		ids[w.ID] = true
		c.mode(at+".mode", w.Mode)
		c.message(at+".message", w.Message)
		if w.Announce < 0 || w.Announce > 366*24*3600 {
			c.bad(at+".announce", "must be 0 to a year, in seconds")
		}
		if len(w.Occurrences) > MaxOccurrences {
			c.bad(at+".occurrences", "%d are more than %d", len(w.Occurrences), MaxOccurrences)
		}
		for j, o := range w.Occurrences {
			if o.Start.IsZero() {
				c.bad(fmt.Sprintf("%s.occurrences[%d].start", at, j), "is required")
			}
			if !o.End.After(o.Start) {
				c.bad(fmt.Sprintf("%s.occurrences[%d].end", at, j), "must be after start")
			}
		}
	}
}

func (c *checker) mode(field string, m Mode) {
	if !m.Valid() {
		c.bad(field, "%q must be %s", m, ModeList())
	}
}

func (c *checker) message(field, message string) {
	switch {
	case len(message) > MaxMessageBytes:
		c.bad(field, "%d bytes are more than %d", len(message), MaxMessageBytes)
	case !printable(message):
		c.bad(field, "must be UTF-8 text without control characters")
	}
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) < 0
}

// token is RFC 9110 section 5.6.2.
func token(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

func alphanumeric(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}

// validLanguage takes "" and what has the shape of a language tag (RFC 5646 section 2.1).
func validLanguage(tag string) bool {
	if tag == "" {
		return true
	}
	for part := range strings.SplitSeq(tag, "-") {
		if part == "" || len(part) > 8 {
			return false
		}
		for i := range len(part) {
			if !alphanumeric(part[i]) {
				return false
			}
		}
	}
	return true
}
