package maintenance

import (
	"slices"
	"strconv"
	"strings"
)

// replyFormat is the format of a maintenance reply.
type replyFormat uint8

const (
	replyText replyFormat = iota
	replyHTML
	replyJSON
)

type mediaRange struct {
	kind, subtype string
	q             float64
}

// acceptHeader is a parsed Accept header (RFC 9110 section 12.5.1).
type acceptHeader []mediaRange

// eachWeighted calls each for the members of a list with weights, in lower case. A missing weight
// is 1, and an invalid one is 0.
func eachWeighted(values []string, each func(member string, q float64)) {
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

func parseAccept(values []string) (a acceptHeader) {
	eachWeighted(values, func(member string, q float64) {
		if kind, subtype, ok := strings.Cut(member, "/"); ok {
			a = append(a, mediaRange{kind, subtype, q})
		}
	})
	return a
}

// listsExactly reports whether a accepts exactly this media type, and not only by a wildcard.
func (a acceptHeader) listsExactly(mediaType string) bool {
	return slices.ContainsFunc(a, func(m mediaRange) bool { return m.kind+"/"+m.subtype == mediaType && m.q > 0 })
}

// weightOf returns the weight of the most specific range that matches, and how specific it is: 2
// for an exact one, 1 for kind/*, 0 for */*, and -1 if none matches.
func (a acceptHeader) weightOf(exact func(mediaRange) bool, kind string) (q float64, specificity int) {
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

// preferredFormat returns the form that the client prefers. A client without Accept, or with */*
// (curl), gets JSON if it sent JSON, and otherwise plain text.
func (a acceptHeader) preferredFormat(sentJSON bool) replyFormat {
	fallback := replyText
	if sentJSON {
		fallback = replyJSON
	}

	best, bestQ, bestSpecificity := fallback, 0.0, 0
	for _, offer := range [...]struct {
		form  replyFormat
		kind  string
		exact func(mediaRange) bool
	}{
		{replyJSON, "application", func(m mediaRange) bool {
			return m.kind == "application" && (m.subtype == "json" || strings.HasSuffix(m.subtype, "+json"))
		}},
		{replyHTML, "text", func(m mediaRange) bool {
			return m.kind == "text" && m.subtype == "html" || m.kind == "application" && m.subtype == "xhtml+xml"
		}},
		{replyText, "text", func(m mediaRange) bool { return m.kind == "text" && m.subtype == "plain" }},
	} {
		q, specificity := a.weightOf(offer.exact, offer.kind)
		if specificity > 0 && (q > bestQ || q == bestQ && q > 0 && specificity > bestSpecificity) {
			best, bestQ, bestSpecificity = offer.form, q, specificity
		}
	}

	if anything, _ := a.weightOf(func(mediaRange) bool { return false }, ""); anything > bestQ {
		return fallback
	}

	return best
}

// bestLanguage returns the tag that Accept-Language prefers, by lookup (RFC 4647 section 3.4: a
// range is shortened until it matches). Of equal weights the first wins. Without a match it returns
// "".
func bestLanguage(values, tags []string) (best string) {
	bestQ := 0.0
	eachWeighted(values, func(want string, q float64) {
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
