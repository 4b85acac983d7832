package maintenance

import (
	"slices"
	"strconv"
	"strings"
)

// form is the format of a maintenance reply.
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

// weighted calls each for the members of a list with weights, in lower case. A missing weight is 1,
// and an invalid one is 0.
func weighted(values []string, each func(member string, q float64)) {
	for _, value := range values {
		for member := range strings.SplitSeq(value, ",") {
			name, params, _ := strings.Cut(member, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			if name != "" {
				each(name, weight(params))
			}
		}
	}
}

// weight returns the q among the parameters of a list's member.
func weight(params string) float64 {
	q := 1.0
	for param := range strings.SplitSeq(params, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if !strings.EqualFold(key, "q") {
			continue
		}

		var err error
		if q, err = strconv.ParseFloat(value, 64); err != nil || !(q >= 0 && q <= 1) {
			q = 0
		}
	}

	return q
}

func parseAccept(values []string) (a accept) {
	weighted(values, func(member string, q float64) {
		if kind, subtype, ok := strings.Cut(member, "/"); ok {
			a = append(a, mediaRange{kind, subtype, q})
		}
	})
	return a
}

// names reports whether a accepts exactly this media type, and not only by a wildcard.
func (a accept) names(mediaType string) bool {
	return slices.ContainsFunc(a, func(m mediaRange) bool { return m.kind+"/"+m.subtype == mediaType && m.q > 0 })
}

// best returns the weight of the most specific range that matches, and how specific it is: 2 for an
// exact one, 1 for kind/*, 0 for */*, and -1 if none matches.
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

// prefer returns the form that the client prefers. A client without Accept, or with */* (curl),
// gets JSON if it sent JSON, and otherwise plain text.
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

// bestLanguage returns the tag that Accept-Language prefers, by lookup (RFC 4647 section 3.4: a
// range is shortened until it matches). Of equal weights the first wins. Without a match it returns
// "".
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
