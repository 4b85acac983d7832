package maintenance

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// This file makes the HTML pages that browsers show instead of a refused page. An operator may
// upload pages for an app, one for each language. The state only contains the hashes of the pages,
// and the filter fetches a page when it is first needed. Without a page of the app the built-in
// page.html is shown.

// Pages returns an HTML page by its SHA-256 in hex, or nil if the page is missing. It is called
// only for a page that is to be shown. The built-in page is then shown instead of a missing one. A
// nil Pages has no page.
type Pages func(sha string) (html []byte)

// expectedBack has the words before the time at which the mode ends, by language: one entry for
// each of builtinLanguages (mode.go).
var expectedBack = map[string]string{
	"de": "Voraussichtlich zurück:",
	"en": "Expected back:",
	"es": "Vuelta prevista:",
	"fr": "Retour prévu :",
	"it": "Ritorno previsto:",
	"zh": "预计恢复时间：",
}

//go:embed page.html
var builtinPage []byte

// page returns the page for a refused request, and its language: the app's own page in the language
// that the client prefers, or the built-in one. lang is "" for an own page that is for clients of
// any language.
func (d *Decision) page(r *Request, pages Pages) (lang string, html []byte) {
	ranges := r.headerValues("accept-language")
	if own := d.app.spec.Pages; len(own) > 0 {
		lang = bestLanguage(ranges, d.app.languages)
		if sha := own[lang]; sha != "" && pages != nil {
			if html := pages(sha); html != nil {
				return lang, d.fill(html, lang, "en") // the fallback texts are in English
			}
		}
	}

	if lang = bestLanguage(ranges, builtinLanguages); lang == "" {
		lang = "en"
	}

	return lang, d.fill(builtinPage, lang, lang)
}

// fill replaces placeholders such as {{title}} in a page by HTML-escaped text. lang is the language
// of the page. Texts that the operator did not write are in the language builtin, which must be one
// of builtinLanguages.
func (d *Decision) fill(html []byte, lang, builtin string) []byte {
	words := d.Mode.text(builtin)
	values := placeholders{title: words.title, message: d.message(words.message), lang: lang, app: d.App, mode: string(d.Mode)}
	if !d.Until.IsZero() {
		values.until, values.untilText = d.Until.UTC().Format(time.RFC3339), expectedBack[builtin]
	}

	var out bytes.Buffer
	out.Grow(len(html) + len(values.message) + 64) // an estimate: a message, and some short texts
	for {
		before, rest, ok := bytes.Cut(html, []byte("{{"))
		out.Write(before)
		if !ok {
			return out.Bytes()
		}

		// A page may also have such braces in its scripts, and then its end is not searched for
		// "}}".
		name, _, closed := bytes.Cut(rest[:min(len(rest), longestPlaceholder)], []byte("}}"))
		value, known := values.text(string(bytes.TrimSpace(name)))
		if !closed || !known {
			out.WriteString("{{")
			html = rest
			continue
		}

		// A message may be much longer than its placeholder, and a page may repeat the placeholder.
		// So placeholders are left empty from this size on.
		if out.Len() <= 2*MaxPageBytes {
			out.WriteString(escapeHTML.Replace(value))
		}
		html = rest[len(name)+len("}}"):]
	}
}

// longestPlaceholder is more than the longest name of a placeholder with blanks and braces, in
// bytes.
const longestPlaceholder = 32

// placeholders has the texts of all placeholders. until and untilText are "" if no end is known.
type placeholders struct{ title, message, lang, app, mode, until, untilText string }

// text returns the text of a placeholder, and reports whether there is a placeholder of this name.
func (p *placeholders) text(name string) (value string, known bool) {
	switch name {
	case "title":
		return p.title, true
	case "message":
		return p.message, true
	case "lang":
		return p.lang, true
	case "app":
		return p.app, true
	case "mode":
		return p.mode, true
	case "until":
		return p.until, true
	case "until_text":
		return p.untilText, true
	}

	return "", false
}

var escapeHTML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")

// PageHashes returns the SHA-256 of each page that an app of the state has, in hex, sorted, and
// each once.
func (s *State) PageHashes() (hashes []string) {
	for _, a := range s.apps {
		for _, sha := range a.spec.Pages {
			if !slices.Contains(hashes, sha) {
				hashes = append(hashes, sha)
			}
		}
	}

	slices.Sort(hashes)
	return hashes
}

// PageHash returns the SHA-256 of a page in lower-case hex. A state refers to the page by it.
func PageHash(html []byte) string {
	sum := sha256.Sum256(html)
	return hex.EncodeToString(sum[:])
}
