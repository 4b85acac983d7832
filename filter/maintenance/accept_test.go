package maintenance_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests the choice of the format and the language of a reply. Every request is refused,
// because the app is in no-access.

// TestAcceptChoosesTheForm checks the choice between a page, JSON and text (RFC 9110 section
// 12.5.1).
func TestAcceptChoosesTheForm(t *testing.T) {
	s := noAccessState(t, `"graphql":{"paths":[]}`)
	const html, problem, text = "text/html; charset=utf-8", "application/problem+json", "text/plain; charset=utf-8"

	for _, c := range []struct {
		accept []string // the values of the Accept headers
		want   string   // the content type of the reply
	}{
		{nil, text},
		{[]string{""}, text},
		{[]string{"*/*"}, text},
		{[]string{browserAccept}, html},
		{[]string{"text/html"}, html},
		{[]string{"TEXT/HTML"}, html},
		{[]string{"application/xhtml+xml"}, html},
		{[]string{"text/*"}, html},
		{[]string{"text/plain"}, text},
		{[]string{"text/plain, text/html;q=0.9"}, text},
		{[]string{"text/html;q=0.8, text/plain"}, text},
		{[]string{"text/html, */*"}, html},
		{[]string{"*/*, text/html"}, html},
		{[]string{"text/html;q=0.5, */*"}, text},
		{[]string{"text/html;q=0"}, text},
		{[]string{"text/html;q=0, */*"}, text},
		{[]string{"text/*;q=0.5, text/html;q=0, application/json;q=0.1"}, text},
		{[]string{"application/json"}, problem},
		{[]string{"application/problem+json"}, problem},
		{[]string{"application/vnd.api+json"}, problem},
		{[]string{"application/*"}, problem},
		{[]string{axiosAccept}, problem},
		{[]string{"application/json;q=0.1, text/html;q=0.2"}, html},
		{[]string{"application/json;q=0.2, text/html;q=0.1"}, problem},
		{[]string{"application/*, text/html"}, html},            // the more specific
		{[]string{"text/html", "application/json;q=0.9"}, html}, // lines are one list
		{[]string{"application/json;q=0.9", "text/html"}, html},
		{[]string{"text/html;level=1;q=0.3, application/json;q=0.4"}, problem},
		{[]string{"text/html ; q = 0.3 , application/json"}, problem},
		{[]string{"text/html;Q=0.3, application/json;q=0.4"}, problem},
		{[]string{"image/png"}, text},
		{[]string{"image/png, */*;q=0.1"}, text},
		// An invalid weight counts as 0.
		{[]string{"text/html;q=x"}, text},
		{[]string{"text/html;q=-1"}, text},
		{[]string{"text/html;q=1.001"}, text},
		{[]string{"text/html;q=NaN"}, text},
		{[]string{"text/html;q=Inf"}, text},
		{[]string{"text/html;q="}, text},
		// So does a header that is not a list of types.
		{[]string{","}, text},
		{[]string{"html"}, text},
		{[]string{"/"}, text},
		{[]string{";q=1"}, text},
		{[]string{"text/html/x"}, text},
	} {
		r := get("h", "/")
		for _, a := range c.accept {
			r.Headers = append(r.Headers, [2]string{"accept", a})
		}

		reply := mustRefuse(t, s, r, nil, noon)
		if got := headerValues(&reply, "content-type"); got != c.want {
			t.Errorf("%q: %s, want %s", c.accept, got, c.want)
		}

		// A client that sends JSON gets JSON in the place of text, unless it asks for text.
		sendsJSON := withBody(request("POST", "h", "/"), "application/json; charset=utf-8", "{}")
		sendsJSON.Headers = append(sendsJSON.Headers, r.Headers[3:]...) // behind the pseudo-headers
		accepted := strings.Join(c.accept, ",")
		asksForText := strings.Contains(accepted, "text/plain") || strings.Contains(accepted, "text/*")
		want := c.want
		if want == text && !asksForText {
			want = problem
		}

		reply = mustRefuse(t, s, sendsJSON, nil, noon)
		if got := headerValues(&reply, "content-type"); got != want {
			t.Errorf("%q, sending JSON: %s, want %s", c.accept, got, want)
		}
	}
}

// TestAcceptLanguageChoosesTheLanguage checks the lookup of RFC 4647 section 3.4, among the
// languages of the built-in page.
func TestAcceptLanguageChoosesTheLanguage(t *testing.T) {
	s := noAccessState(t, `"retry_after":1`)
	for accept, want := range map[string]string{
		"": "en", "*": "en", "de": "de", "DE": "de", "de-CH": "de", "de-CH-1996": "de", "fr-CA, en;q=0.5": "fr", "en;q=0.5, it": "it",
		"es;q=0, zh-Hant-TW": "zh", "tlh": "en", "tlh, de;q=0.1": "de", "de;q=0": "en", "de;q=0.5, fr;q=0.5": "de", "deutsch": "en", "-": "en", "de-": "de", "x,": "en",
	} {
		reply := mustRefuse(t, s, get("h", "/", "accept", browserAccept, "accept-language", accept), nil, noon)
		if got := headerValues(&reply, "content-language"); got != want || !bytes.Contains(reply.Body, []byte(`<html lang="`+want+`">`)) {
			t.Errorf("%q: %s, want %s", accept, got, want)
		}
	}

}

// Every language of the built-in page has all its texts, which differ from those of the others.
func TestBuiltInPageIsCompleteInEveryLanguage(t *testing.T) {
	for _, mode := range []maintenance.Mode{maintenance.NoAccess, maintenance.ReadOnly} {
		s := mustParse(t, `{"apps":[{"name":"default","activations":[{"id":"a","source":"manual","mode":"`+string(mode)+`","since":"2026-11-21T11:00:00Z","until":"2026-11-21T13:00:00Z"}]}]}`)
		seen := map[string]bool{}

		for _, lang := range strings.Fields(maintenance.BuiltinLanguages()) {
			reply := mustRefuse(t, s, request("POST", "h", "/", "accept", browserAccept, "accept-language", lang), nil, noon)
			page := string(reply.Body)
			hasEmptyText := strings.Contains(page, "{{") || strings.Contains(page, "<p></p>") || strings.Contains(page, `"until"> <`)
			if headerValues(&reply, "content-language") != lang || seen[page] || hasEmptyText || !strings.Contains(page, "2026-11-21T13:00:00Z") {
				t.Errorf("%s in %s: %s", lang, mode, page)
			}

			seen[page] = true
		}
	}
}

// FuzzAccept checks, for any value of three headers, that a reply has a format that the client
// accepts, if there is such a format, and a language that exists.
func FuzzAccept(f *testing.F) {
	s := noAccessState(f, `"retry_after":1`)
	languages := strings.Fields(maintenance.BuiltinLanguages())

	for _, seed := range [][3]string{
		{browserAccept, "de-CH,de;q=0.9,en;q=0.8", ""}, {axiosAccept, "*", "application/json"}, {"*/*", "", "application/grpc"}, {"text/html;q=0,*/*", "de;q=0", "application/grpc-web+proto"},
		{"application/json;q=0.0001", "zh-Hant-x-a", "application/json;"}, {"a/b;q=1;q=0,,;=/", "-;q=,", "x"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}

	f.Fuzz(func(t *testing.T, accept, language, contentType string) {
		r := request("POST", "h", "/x", "accept", accept, "accept-language", language, "content-type", contentType)
		reply := mustRefuse(t, s, r, nil, noon)
		kind, _, _ := strings.Cut(headerValues(&reply, "content-type"), ";")
		switch kind {
		case "text/html":
			if !slices.Contains(languages, headerValues(&reply, "content-language")) {
				t.Errorf("language %q", headerValues(&reply, "content-language"))
			}

			lower := strings.ToLower(accept)
			if !strings.Contains(lower, "html") && !strings.Contains(lower, "text/*") && !strings.Contains(lower, "application/*") {
				t.Errorf("a page for %q", accept)
			}
		case "application/problem+json":
			if !json.Valid(reply.Body) {
				t.Errorf("not valid: %s", reply.Body)
			}
		case "text/plain":
		case "": // gRPC, for which the proxy writes the type
			if reply.GRPCStatus != 14 { // UNAVAILABLE
				t.Errorf("no type, and gRPC status %d", reply.GRPCStatus)
			}
		default:
			if !strings.HasPrefix(kind, "application/grpc-web") || reply.Status != http.StatusOK || len(reply.Body) == 0 {
				t.Errorf("%d %s", reply.Status, kind)
			}
		}

		if strings.TrimSpace(accept) == "text/html" && kind != "text/html" && kind != "" && !strings.HasPrefix(kind, "application/grpc") {
			t.Errorf("%s for a client that accepts only pages", kind)
		}
	})
}
