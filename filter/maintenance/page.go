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

// Pages returns an HTML page by its SHA-256 in hex, nil for one that is missing: the
// built-in page is shown in its place. It is called only for the page that is shown. A
// nil Pages has none.
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

// page is the app's own page in the best language, else the built-in one.
func (d *Decision) page(r *Request, pages Pages) (lang string, html []byte) {
	ranges := r.headers("accept-language")
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

// fill replaces the placeholders of a page in language lang by HTML-escaped text. Our own
// words are in one of builtinLanguages.
func (d *Decision) fill(html []byte, lang, ours string) []byte {
	words := d.Mode.text(ours)
	title, text := words.title, words.message
	switch {
	case d.Rule.passing():
		text = d.Rule.Explain()
	case d.Activation != nil && d.Activation.Message != "":
		text = d.Activation.Message
	}
	until, back := "", ""
	if !d.Until.IsZero() {
		until, back = d.Until.UTC().Format(time.RFC3339), expectedBack[ours]
	}
	var out bytes.Buffer
	out.Grow(len(html) + len(text) + 64)
	for {
		before, rest, ok := bytes.Cut(html, []byte("{{"))
		out.Write(before)
		if !ok {
			return out.Bytes()
		}
		// No name is longer; a page may hold such braces for its own scripts.
		name, _, closed := bytes.Cut(rest[:min(len(rest), 32)], []byte("}}"))
		if !closed {
			name = nil
		}
		var value string
		switch string(bytes.TrimSpace(name)) {
		case "title":
			value = title
		case "message":
			value = text
		case "lang":
			value = lang
		case "app":
			value = d.App
		case "mode":
			value = string(d.Mode)
		case "until":
			value = until
		case "until_text":
			value = back
		default:
			out.WriteString("{{")
			html = rest
			continue
		}
		if out.Len() <= 2*MaxPageBytes { // else a page of nothing but placeholders would grow without bound
			out.WriteString(escapeHTML.Replace(value))
		}
		html = rest[len(name)+len("}}"):]
	}
}

var escapeHTML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")

// PageHashes are the pages that the state names, each once.
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

// PageHash is the name of a page: its SHA-256 in lower-case hex.
func PageHash(html []byte) string {
	sum := sha256.Sum256(html)
	return hex.EncodeToString(sum[:])
}
