package maintenance_test

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests the HTML pages that an operator may upload for an app, one for each language.

// appWithPages returns the default app in no-access until one o'clock, with a message and with
// these pages: their hashes by language.
func appWithPages(message string, hashes map[string]string) maintenance.App {
	return maintenance.App{
		Spec: maintenance.Spec{Name: maintenance.DefaultApp, Pages: hashes},
		Activations: []maintenance.Activation{{
			ID: "a", Source: maintenance.SourceManual, Mode: maintenance.NoAccess, Message: message, Since: noon, Until: noon.Add(time.Hour),
		}},
	}
}

// getPage returns a request for a page in the languages that accept lists.
func getPage(accept string) *maintenance.Request {
	return get("h", "/", "accept", "text/html", "accept-language", accept)
}

// TestOwnPageReplacesTheBuiltInOne checks the choice of an operator's page, and its placeholders.
// The page of the language "" is for clients that want none of the others.
func TestOwnPageReplacesTheBuiltInOne(t *testing.T) {
	known := map[string][]byte{}  // the pages, by their hash
	hashes := map[string]string{} // the pages of the app, by language
	for lang, html := range map[string]string{
		"":      `<title>{{title}}</title>{{ message }}|{{mode}}|{{app}}|{{lang}}|{{until}}|{{until_text}}|{{unknown}}|{{ }}|{{{message}}}|{{message}`,
		"de":    `<p title="{{message}}">Hinweis: {{message}}</p>`,
		"pt-BR": `<p>{{message`,
	} {
		sha := maintenance.PageHash([]byte(html))
		known[sha], hashes[lang] = []byte(html), sha
	}

	s := mustCompile(t, appWithPages(`<script>alert("1")</script> & 'more' {{app}}`, hashes))
	const escaped = `&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt; &amp; &#39;more&#39; {{app}}`

	// By the header Accept-Language: the language of the reply, and how its HTML begins.
	for accept, want := range map[string]struct{ lang, html string }{
		"":              {"", `<title>Down for maintenance</title>` + escaped + `|no-access|default||2026-11-21T13:00:00Z|Expected back:|{{unknown}}|{{ }}|{{{message}}}|{{message}`},
		"de-AT":         {"de", `<p title="` + escaped + `">Hinweis: ` + escaped + `</p>`},
		"pt-BR":         {"pt-BR", `<p>{{message`},
		"pt":            {"", `<title>Down`},
		"tlh, de;q=0.1": {"de", `<p title=`},
	} {
		reply := mustRefuse(t, s, getPage(accept), func(sha string) []byte { return known[sha] }, noon)
		if got := headerValues(&reply, "content-language"); got != want.lang || !strings.HasPrefix(string(reply.Body), want.html) {
			t.Errorf("%q: %s\n%s\nwant %s", accept, got, reply.Body, want.html)
		}
	}
}

// While a page has not been fetched, the built-in page is shown in its place.
func TestBuiltInPageReplacesAMissingOne(t *testing.T) {
	s := mustCompile(t, appWithPages("", map[string]string{"fr": strings.Repeat("0", 64)}))
	for _, pages := range []maintenance.Pages{nil, func(string) []byte { return nil }} {
		reply := mustRefuse(t, s, getPage("fr"), pages, noon)
		if headerValues(&reply, "content-language") != "fr" || !bytes.Contains(reply.Body, []byte("Maintenance en cours")) {
			t.Errorf("%s: %s", headerValues(&reply, "content-language"), reply.Body)
		}
	}
}

func TestPageHashesAreSorted(t *testing.T) {
	hashes := map[string]string{"": strings.Repeat("2", 64), "de": strings.Repeat("0", 64), "fr": strings.Repeat("1", 64)}
	s := mustCompile(t, appWithPages("", hashes))
	want := slices.Sorted(maps.Values(hashes))
	if got := s.PageHashes(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A page of many opening braces, and no placeholder, must not take a worker thread long to fill.
func TestPageOfBracesIsFilledFast(t *testing.T) {
	html := []byte(strings.Repeat("{{", maintenance.MaxPageBytes/2))
	s := mustCompile(t, appWithPages("", map[string]string{"": maintenance.PageHash(html)}))

	begin := time.Now()
	reply := mustRefuse(t, s, getPage(""), func(string) []byte { return html }, noon)
	if took := time.Since(begin); took > time.Second || len(reply.Body) != len(html) {
		t.Errorf("%d bytes in %v", len(reply.Body), took)
	}
}

// A page that consists of placeholders for a long message must not grow without bound.
func TestFilledPagesAreBounded(t *testing.T) {
	html := []byte(strings.Repeat("{{message}}", maintenance.MaxPageBytes/len("{{message}}")))
	longest := strings.Repeat("\"", maintenance.MaxMessageBytes) // each is five bytes as HTML
	s := mustCompile(t, appWithPages(longest, map[string]string{"": maintenance.PageHash(html)}))
	reply := mustRefuse(t, s, getPage(""), func(string) []byte { return html }, noon)

	if n := len(reply.Body); n > 3*maintenance.MaxPageBytes {
		t.Errorf("%d bytes", n)
	}
}

// Pages in other languages are not fetched, and none is fetched if the reply is not a page.
func TestOnlyTheShownPageIsFetched(t *testing.T) {
	hashes := map[string]string{}
	for i, lang := range []string{"", "de", "fr", "it"} {
		hashes[lang] = strings.Repeat(strconv.Itoa(i), 64)
	}

	s := mustCompile(t, appWithPages("", hashes))

	for _, c := range []struct {
		accept, language string
		want             []string // the hashes of the pages that are fetched
	}{
		{"text/html", "fr", []string{hashes["fr"]}},
		{"text/html", "ja", []string{hashes[""]}},
		{"application/json", "fr", nil},
		{"text/plain", "fr", nil},
	} {
		var fetched []string
		mustRefuse(t, s, get("h", "/", "accept", c.accept, "accept-language", c.language), func(sha string) []byte {
			fetched = append(fetched, sha)
			return nil
		}, noon)

		if !slices.Equal(fetched, c.want) {
			t.Errorf("%s in %s: fetched %q, want %q", c.accept, c.language, fetched, c.want)
		}
	}
}
