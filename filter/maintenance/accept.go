package maintenance

import (
	"slices"
	"strconv"
	"strings"
)

// This file reads the headers in which a client says what reply it wants: Accept for the format,
// and Accept-Language for the language. Each is a list whose members may have a weight q, from 0
// (not acceptable) to 1, as in "text/html;q=0.8" (RFC 9110 section 12.4.2).

// replyFormat is the format of a maintenance reply.
type replyFormat uint8

const (
	replyText replyFormat = iota
	replyHTML
	replyJSON
)

// mediaRange is one member of an Accept header. For "text/*;q=0.5" the kind is "text", the subtype
// is "*" and q is 0.5.
type mediaRange struct {
	kind, subtype string // in lower case
	q             float64
}

// acceptHeader is a parsed Accept header (RFC 9110 section 12.5.1).
type acceptHeader []mediaRange

// eachWeighted reads header values, which together are one comma-separated list, and calls each
// with the name of every member, in lower case, and its weight.
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

// weight returns the weight in the parameters of a member, which are what follows its first
// semicolon. A missing weight is 1. An invalid weight is 0, so that the member is never chosen.
func weight(params string) float64 {
	q := 1.0
	for param := range strings.SplitSeq(params, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if !strings.EqualFold(key, "q") {
			continue
		}

		var err error
		q, err = strconv.ParseFloat(value, 64)
		isWeight := q >= 0 && q <= 1 // false for NaN
		if err != nil || !isWeight {
			q = 0
		}
	}

	return q
}

// parseAccept parses the values of all Accept headers. It skips members that are not media ranges.
func parseAccept(values []string) (a acceptHeader) {
	eachWeighted(values, func(member string, q float64) {
		if kind, subtype, ok := strings.Cut(member, "/"); ok {
			a = append(a, mediaRange{kind, subtype, q})
		}
	})
	return a
}

// listsExactly reports whether the client accepts exactly this media type, and not only by a
// wildcard.
func (a acceptHeader) listsExactly(mediaType string) bool {
	return slices.ContainsFunc(a, func(m mediaRange) bool { return m.kind+"/"+m.subtype == mediaType && m.q > 0 })
}

// How specifically a media range matches a format. A more specific range takes precedence (RFC 9110
// section 12.5.1).
const (
	matchesNothing  = iota - 1
	matchesAnything // */*
	matchesKind     // text/*
	matchesExactly  // text/html
)

// weightOf returns the weight of the most specific range that matches a format, and how specific
// that range is. Of several such ranges the highest weight counts. exact reports whether a range
// names the format, and kind is the first part of the format's media type.
func (a acceptHeader) weightOf(exact func(mediaRange) bool, kind string) (q float64, specificity int) {
	specificity = matchesNothing
	for _, m := range a {
		found := matchesNothing
		switch {
		case exact(m):
			found = matchesExactly
		case m.kind == kind && m.subtype == "*":
			found = matchesKind
		case m.kind == "*" && m.subtype == "*":
			found = matchesAnything
		}

		if found > specificity || found != matchesNothing && found == specificity && m.q > q {
			q, specificity = m.q, found
		}
	}

	return q, specificity
}

// preferredFormat returns the format that the client prefers: the one with the highest weight;
// among equal weights the one that the header names most specifically; and among those the first
// one in the list below. The range */* favours no format. A client that prefers it (curl), or sends
// no Accept at all, gets JSON if it sent JSON, and otherwise plain text.
func (a acceptHeader) preferredFormat(sentJSON bool) replyFormat {
	fallback := replyText
	if sentJSON {
		fallback = replyJSON
	}

	best, bestQ, bestSpecificity := fallback, 0.0, matchesAnything
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
		if specificity > matchesAnything && (q > bestQ || q == bestQ && q > 0 && specificity > bestSpecificity) {
			best, bestQ, bestSpecificity = offer.form, q, specificity
		}
	}

	// With no exact range and no kind, only */* is left to match.
	anything, _ := a.weightOf(func(mediaRange) bool { return false }, "")
	if anything > bestQ {
		return fallback
	}

	return best
}

// bestLanguage returns the tag that Accept-Language prefers, or "" if it accepts none of them. The
// values are those of the header, and the tags are the languages of the pages. A tag is found by
// lookup (RFC 4647 section 3.4): a range such as de-CH-1996 is shortened to de-CH, and then to de,
// until it is one of the tags. Of equal weights the first wins.
func bestLanguage(values, tags []string) (best string) {
	bestQ := 0.0
	eachWeighted(values, func(want string, q float64) {
		if q <= bestQ { // bestQ begins at 0, so a weight of 0 is never chosen
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
