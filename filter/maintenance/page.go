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

// Pages returns an HTML page by its SHA-256 in hex, or nil if the page is missing. It is called
// only for a page that is to be shown, and the built-in page is shown instead of a missing one. A
// nil Pages has no page.
type Pages func(sha string) (html []byte)

// expectedBack are the words before the time at which the mode ends, by language.
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

// page returns the app's own page in the best language, or the built-in one.
func (d *Decision) page(r *Request, pages Pages) (lang string, html []byte) {
	ranges := r.headerValues("accept-language")
	if own := d.app.spec.Pages; len(own) > 0 {
		lang = bestLanguage(ranges, d.app.languages)
		if sha := own[lang]; sha != "" && pages != nil {
			if html := pages(sha); html != nil {
				return lang, d.fill(html, lang, "en")
			}
		}
	}

	if lang = bestLanguage(ranges, builtinLanguages); lang == "" {
		lang = "en"
	}

	return lang, d.fill(builtinPage, lang, lang)
}

// fill replaces the placeholders of a page in the language lang by HTML-escaped text. What is not
// the operator's text is in the language builtin, one of builtinLanguages.
func (d *Decision) fill(html []byte, lang, builtin string) []byte {
	words := d.Mode.text(builtin)
	values := placeholders{title: words.title, message: d.message(words.message), lang: lang, app: d.App, mode: string(d.Mode)}
	if !d.Until.IsZero() {
		values.until, values.untilText = d.Until.UTC().Format(time.RFC3339), expectedBack[builtin]
	}

	var out bytes.Buffer
	out.Grow(len(html) + len(values.message) + 64)
	for {
		before, rest, ok := bytes.Cut(html, []byte("{{"))
		out.Write(before)
		if !ok {
			return out.Bytes()
		}

		// Names of placeholders are short. A page may also have such braces in its scripts.
		name, _, closed := bytes.Cut(rest[:min(len(rest), 32)], []byte("}}"))
		value, known := values.text(string(bytes.TrimSpace(name)))
		if !closed || !known {
			out.WriteString("{{")
			html = rest
			continue
		}

		if out.Len() <= 2*MaxPageBytes { // a page of placeholders alone could grow without bound
			out.WriteString(escapeHTML.Replace(value))
		}
		html = rest[len(name)+len("}}"):]
	}
}

// placeholders are the texts that a page can have filled in, such as {{title}}.
type placeholders struct{ title, message, lang, app, mode, until, untilText string }

// text returns the text of a placeholder, and reports whether there is one of this name.
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

// PageHashes returns the SHA-256 of each page in the state, in hex and sorted.
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
