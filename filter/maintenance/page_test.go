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

// TestOwnPageReplacesTheBuiltInOne checks the choice of an operator's page, and its placeholders.
// The page of the language "" is for clients that want none of the others. That of fr has not been
// fetched.
func TestOwnPageReplacesTheBuiltInOne(t *testing.T) {
	page := func(html string) (string, []byte) { return maintenance.PageHash([]byte(html)), []byte(html) }
	known := map[string][]byte{} // the pages that were fetched, by their hash
	pages := maintenance.Pages(func(sha string) []byte { return known[sha] })
	hashes := map[string]string{} // the pages of the app, by language

	for lang, html := range map[string]string{
		"":      `<title>{{title}}</title>{{ message }}|{{mode}}|{{app}}|{{lang}}|{{until}}|{{until_text}}|{{unknown}}|{{ }}|{{{message}}}|{{message}`,
		"de":    `<p title="{{message}}">Hinweis: {{message}}</p>`,
		"pt-BR": `<p>{{message`,
	} {
		sha, data := page(html)
		known[sha], hashes[lang] = data, sha
	}

	hashes["fr"] = strings.Repeat("0", 64) // not fetched yet
	spec := maintenance.App{Spec: maintenance.Spec{Name: maintenance.DefaultApp, Pages: hashes}, Activations: []maintenance.Activation{{
		ID: "a", Source: maintenance.SourceManual, Mode: maintenance.NoAccess, Message: `<script>alert("1")</script> & 'more' {{app}}`, Since: noon, Until: noon.Add(time.Hour),
	}}}
	s := mustCompile(t, spec)
	const escaped = `&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt; &amp; &#39;more&#39; {{app}}`

	for accept, want := range map[string]struct{ lang, html string }{
		"":              {"", `<title>Down for maintenance</title>` + escaped + `|no-access|default||2026-11-21T13:00:00Z|Expected back:|{{unknown}}|{{ }}|{{{message}}}|{{message}`},
		"de-AT":         {"de", `<p title="` + escaped + `">Hinweis: ` + escaped + `</p>`},
		"pt-BR":         {"pt-BR", `<p>{{message`},
		"pt":            {"", `<title>Down`},
		"tlh, de;q=0.1": {"de", `<p title=`},
	} {
		r := get("h", "/", "accept", "text/html", "accept-language", accept)
		reply := mustRefuse(t, s, r, pages, noon)
		if got := headerValues(&reply, "content-language"); got != want.lang || !strings.HasPrefix(string(reply.Body), want.html) {
			t.Errorf("%q: %s\n%s\nwant %s", accept, got, reply.Body, want.html)
		}
	}

	// The built-in page replaces a missing one.
	for _, p := range []maintenance.Pages{nil, func(string) []byte { return nil }, pages} {
		reply := mustRefuse(t, s, get("h", "/", "accept", "text/html", "accept-language", "fr"), p, noon)
		if headerValues(&reply, "content-language") != "fr" || !bytes.Contains(reply.Body, []byte("Maintenance en cours")) {
			t.Errorf("%s: %s", headerValues(&reply, "content-language"), reply.Body)
		}
	}

	want := slices.Sorted(maps.Values(hashes))
	if got := s.PageHashes(); !slices.Equal(got, want) {
		t.Errorf("PageHashes: %q, want %q", got, want)
	}

	// A page of many opening braces, and no placeholder, must not take a worker thread long to
	// fill.
	begin := time.Now()
	sha, data := page(strings.Repeat("{{", maintenance.MaxPageBytes/2))
	spec.Pages = map[string]string{"": sha}
	reply := mustRefuse(t, mustCompile(t, spec), get("h", "/", "accept", "text/html"), func(string) []byte { return data }, noon)

	if took := time.Since(begin); took > time.Second || len(reply.Body) != len(data) {
		t.Errorf("%d bytes in %v", len(reply.Body), took)
	}
}

// A page that consists of placeholders for a long message must not grow without bound.
func TestFilledPagesAreBounded(t *testing.T) {
	html := []byte(strings.Repeat("{{message}}", maintenance.MaxPageBytes/len("{{message}}")))
	spec := maintenance.App{
		Spec: maintenance.Spec{Name: maintenance.DefaultApp, Pages: map[string]string{"": maintenance.PageHash(html)}},
		Activations: []maintenance.Activation{{ID: "a", Source: maintenance.SourceManual, Mode: maintenance.NoAccess, Since: noon,
			Message: strings.Repeat("\"", maintenance.MaxMessageBytes)}},
	}
	reply := mustRefuse(t, mustCompile(t, spec), get("h", "/", "accept", "text/html"), func(string) []byte { return html }, noon)

	if n := len(reply.Body); n > 3*maintenance.MaxPageBytes {
		t.Errorf("%d bytes", n)
	}
}

// Pages in other languages are not fetched, and none is fetched if the reply is not a page.
func TestOnlyTheShownPageIsFetched(t *testing.T) {
	spec := maintenance.App{Spec: maintenance.Spec{Name: maintenance.DefaultApp, Pages: map[string]string{}}, Activations: []maintenance.Activation{{
		ID: "a", Source: maintenance.SourceManual, Mode: maintenance.NoAccess, Since: noon,
	}}}

	for i, lang := range []string{"", "de", "fr", "it"} {
		spec.Pages[lang] = strings.Repeat(strconv.Itoa(i), 64)
	}

	s := mustCompile(t, spec)

	for _, c := range []struct {
		accept, language string
		want             []string
	}{
		{"text/html", "fr", []string{spec.Pages["fr"]}},
		{"text/html", "ja", []string{spec.Pages[""]}},
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
