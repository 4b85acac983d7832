package maintenance

import (
	"slices"
	"strconv"
	"strings"
)

// form is what a reply looks like.
type form uint8

const (
	formText form = iota
	formHTML
	formJSON
)

type mediaRange struct {
	kind, subtype string
	q             float64
}

// accept is a parsed Accept header (RFC 9110 section 12.5.1).
type accept []mediaRange

// weighted calls each for the members of a list with q weights, which is 1 where it
// is missing and 0 where it makes no sense.
func weighted(values []string, each func(member string, q float64)) {
	for _, value := range values {
		for member := range strings.SplitSeq(value, ",") {
			name, params, _ := strings.Cut(member, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			if name == "" {
				continue
			}
			q := 1.0
			for param := range strings.SplitSeq(params, ";") {
				if key, val, _ := strings.Cut(strings.TrimSpace(param), "="); strings.EqualFold(key, "q") {
					var err error
					if q, err = strconv.ParseFloat(val, 64); err != nil || !(q >= 0 && q <= 1) {
						q = 0
					}
				}
			}
			each(name, q)
		}
	}
}

func parseAccept(values []string) (a accept) {
	weighted(values, func(member string, q float64) {
		if kind, subtype, ok := strings.Cut(member, "/"); ok {
			a = append(a, mediaRange{kind, subtype, q})
		}
	})
	return a
}

func (a accept) names(mediaType string) bool {
	return slices.ContainsFunc(a, func(m mediaRange) bool { return m.kind+"/"+m.subtype == mediaType && m.q > 0 })
}

// best is the weight of the most specific range and how specific it is: 2 exact,
// 1 kind/*, 0 */*, -1 none.
func (a accept) best(exact func(mediaRange) bool, kind string) (q float64, specificity int) {
	specificity = -1
	for _, m := range a {
		s := -1
		switch {
		case exact(m):
			s = 2
		case m.kind == kind && m.subtype == "*":
			s = 1
		case m.kind == "*" && m.subtype == "*":
			s = 0
		}
		if s > specificity || s >= 0 && s == specificity && m.q > q {
			q, specificity = m.q, s
		}
	}
	return q, specificity
}

// prefer picks the form that the client likes best. Who says nothing, or takes
// anything, gets JSON if it sent JSON, and plain text else (curl).
func (a accept) prefer(sentJSON bool) form {
	fallback := formText
	if sentJSON {
		fallback = formJSON
	}
	best, bestQ, bestSpecificity := fallback, 0.0, 0
	for _, offer := range [...]struct {
		form  form
		kind  string
		exact func(mediaRange) bool
	}{
		{formJSON, "application", func(m mediaRange) bool {
			return m.kind == "application" && (m.subtype == "json" || strings.HasSuffix(m.subtype, "+json"))
		}},
		{formHTML, "text", func(m mediaRange) bool {
			return m.kind == "text" && m.subtype == "html" || m.kind == "application" && m.subtype == "xhtml+xml"
		}},
		{formText, "text", func(m mediaRange) bool { return m.kind == "text" && m.subtype == "plain" }},
	} {
		q, specificity := a.best(offer.exact, offer.kind)
		if specificity > 0 && (q > bestQ || q == bestQ && q > 0 && specificity > bestSpecificity) {
			best, bestQ, bestSpecificity = offer.form, q, specificity
		}
	}
	if anything, _ := a.best(func(mediaRange) bool { return false }, ""); anything > bestQ {
		return fallback
	}
	return best
}

// bestLanguage looks up one of the tags by Accept-Language (RFC 4647 section 3.4,
// which shortens a range until it matches): the best weight, then the first named.
// "" is the fallback.
func bestLanguage(values, tags []string) (best string) {
	bestQ := 0.0
	weighted(values, func(want string, q float64) {
		if q <= bestQ {
			return
		}
		for want != "" {
			for _, tag := range tags {
				if strings.EqualFold(tag, want) {
					best, bestQ = tag, q
					return
				}
			}
			want = want[:max(0, strings.LastIndexByte(want, '-'))]
		}
	})
	return best
}
