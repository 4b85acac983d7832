package maintenance_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests that a request cannot reach an app in maintenance by a path or a host in
// disguise. Servers read paths in different ways, so a request must be refused if some server would
// read it as one to an app that is closed. A reading is what a server makes of the path; a way,
// such as percent decoding, leads from one reading to the next.

// The book of readings in docs/read-only.md must have a row for every way that is followed.
func TestBookOfReadings(t *testing.T) {
	page, err := os.ReadFile("../../docs/read-only.md")
	if err != nil {
		t.Fatal(err)
	}

	_, book, found := strings.Cut(string(page), "## The book of readings")
	if !found {
		t.Fatal("docs/read-only.md has no book of readings")
	}

	for name := range maintenance.PathWays() {
		if !strings.Contains(book, "\n| "+name+" | ") {
			t.Errorf("docs/read-only.md: the book has no row for the path's way %q", name)
		}
	}

	for _, name := range maintenance.ReadHeaders() {
		if !strings.Contains(book, "`"+name+"`") {
			t.Errorf("docs/read-only.md: the book does not name the header %s", name)
		}
	}
}

// gatedDocument is a document that closes /gated, except for two exemptions. All other paths are
// open.
const gatedDocument = `{"apps":[
	{"name":"gated","match":{"paths":["/gated"]},"exempt":[{"path":"/gated/healthz"},{"prefix":"/gated/hooks/"}],"activations":[{"id":"a","source":"manual","mode":"no-access","since":"2026-11-21T11:00:00Z"}]},
	{"name":"default","exempt":[{"path":"/login"}]}
]}`

// If servers may read a path differently, the strictest app that any reading reaches decides, and
// no exemption applies.
func TestReadings(t *testing.T) {
	s := mustParse(t, gatedDocument)
	for _, c := range []struct {
		name, target string
		want         maintenance.Verdict
	}{
		{"the path itself", "/gated", maintenance.Refuse},
		{"below the path", "/gated/x?y", maintenance.Refuse},
		{"an open path", "/open", maintenance.Pass},
		{"not at a segment boundary", "/gatedx", maintenance.Pass},
		{"an open path with the closed path as its query", "/open?/gated", maintenance.Pass},

		{"letter case", "/GATED", maintenance.Refuse},
		{"mixed case", "/gAtEd/x", maintenance.Refuse},
		{"Kelvin sign and long s", "/ga\u017fted/..%2fgated", maintenance.Refuse},
		{"encoded letter", "/%67ated", maintenance.Refuse},
		{"encoded letter in lower hex", "/g%61t%65d", maintenance.Refuse},
		{"encoded twice", "/%2567ated", maintenance.Refuse},
		{"encoded three times", "/%252567ated", maintenance.Refuse},
		{"encoded as IIS does", "/%u0067ated", maintenance.Refuse},
		{"encoded slash", "/open/..%2fgated", maintenance.Refuse},
		{"encoded slash in upper hex", "/open/..%2Fgated", maintenance.Refuse},
		{"slash encoded twice", "/open/..%252fgated", maintenance.Refuse},
		{"slash as IIS encodes it", "/open/..%u002fgated", maintenance.Refuse},
		{"only encoded slashes", "/open%2f..%2fgated", maintenance.Refuse},
		{"encoded slash that stays data", "/a%2fb/../gated", maintenance.Refuse},
		{"encoded slash that stays data, encoded dots", "/a%2fb/%2e%2e/gated", maintenance.Refuse},
		{"encoded slash that stays data, all encoded", "/a%2fb/%2e%2e/%67ated", maintenance.Refuse},
		{"leading double slash", "//gated", maintenance.Refuse},
		{"three slashes", "///gated", maintenance.Refuse},
		{"network-path reference", "//open.example.com/gated", maintenance.Refuse},
		{"inner double slash", "/open//../../gated", maintenance.Refuse},
		{"double slash that counts as a segment", "/gated//../x", maintenance.Refuse},
		{"dot segment", "/./gated", maintenance.Refuse},
		{"double dot segment", "/open/../gated", maintenance.Refuse},
		{"dots past the root", "/../../gated", maintenance.Refuse},
		{"encoded dots", "/open/%2e%2e/gated", maintenance.Refuse},
		{"one encoded dot", "/open/.%2e/gated", maintenance.Refuse},
		{"dots encoded twice", "/open/%252e%252e/gated", maintenance.Refuse},
		{"last dots", "/gated/x/..", maintenance.Refuse},
		{"out of the app and back", "/gated/../gated", maintenance.Refuse},
		{"out of the app, unless a server does not resolve dot segments", "/gated/../open", maintenance.Refuse},
		{"parameter", "/gated;v=1", maintenance.Refuse},
		{"parameter of a parent", "/open;v=1/../gated", maintenance.Refuse},
		{"parameter on dots", "/open/..;/gated", maintenance.Refuse},
		{"parameter with dots", "/open/..;x=y/gated", maintenance.Refuse},
		{"empty parameter", "/;/gated", maintenance.Refuse},
		{"encoded semicolon", "/gated%3bx", maintenance.Refuse},
		{"parameters to the end", "/gated;/../../open", maintenance.Refuse},
		{"backslash", `/open\..\gated`, maintenance.Refuse},
		{"backslash first", `/\gated`, maintenance.Refuse},
		{"encoded backslash", "/open/..%5cgated", maintenance.Refuse},
		{"backslash encoded twice", "/open/..%255cgated", maintenance.Refuse},
		{"overlong slash", "/open/..%c0%afgated", maintenance.Refuse},
		{"overlong slash in three bytes", "/open/..%e0%80%afgated", maintenance.Refuse},
		{"overlong slash in four bytes", "/open/..%f0%80%80%afgated", maintenance.Refuse},
		{"overlong dots", "/open/%c0%ae%c0%ae/gated", maintenance.Refuse},
		{"overlong backslash", "/open/..%c1%9cgated", maintenance.Refuse},
		{"overlong slash, raw", "/open/..\xc0\xafgated", maintenance.Refuse},
		{"NUL", "/gated%00.html", maintenance.Refuse},
		{"NUL encoded twice", "/gated%2500.html", maintenance.Refuse},
		{"fragment", "/gated#/open", maintenance.Refuse},
		{"encoded fragment", "/gated%23/open", maintenance.Refuse},
		{"encoded question mark", "/gated%3f/open", maintenance.Refuse},
		{"question mark after a fragment that stays data", "/open%23/../gated%3fx", maintenance.Refuse},
		{"several disguises at once", `/a%2fb\%2e%2e/.;x//..%5c%67ATED%00#`, maintenance.Refuse},
		{"more disguises than are followed", "/%" + strings.Repeat("25", 70) + "41", maintenance.Refuse},
		{"longer than is followed", "/" + strings.Repeat("%41", maintenance.MaxReadPath), maintenance.Refuse},
		{"format suffix", "/gated.json", maintenance.Refuse},
		{"two format suffixes", "/gated.tar.gz", maintenance.Refuse},
		{"format suffix and a slash", "/gated.json/", maintenance.Refuse},
		{"format suffix in other letter case", "/Gated.JSON", maintenance.Refuse},
		{"encoded format suffix", "/gated%2ejson", maintenance.Refuse},
		{"last dot", "/gated.", maintenance.Refuse},
		{"last blank", "/gated%20", maintenance.Refuse},
		{"last line feed", "/gated%0a", maintenance.Refuse},
		{"last control character", "/gated%01", maintenance.Refuse},
		{"blanks at a segment's edges", "/%20gated%20/x", maintenance.Refuse},
		{"path info", "/index.php/gated", maintenance.Refuse},
		{"path info without a slash", "/index.phpgated/x", maintenance.Refuse},
		{"path info without a slash, encoded", "/index.ph%70gated", maintenance.Refuse},
		{"path info behind another path", "/open/index.php/gated", maintenance.Refuse},
		{"suffix after a blank", "/gated%20.json", maintenance.Refuse},
		{"suffix of a line feed", "/gated.%0a", maintenance.Refuse},
		{"path info in a folder", "/app/index.php/gated/x", maintenance.Refuse},
		{"folder of a script", "/gated/../gated/index.php/x", maintenance.Refuse},
		{"script within the path", "/ga.php/ted/../gated", maintenance.Refuse},
		{"path info of a script in other letter case", "/INDEX.PHP7/gated", maintenance.Refuse},
		{"tab within", "/ga%09ted", maintenance.Refuse},
		{"line end within dots", "/open/.%0a./gated", maintenance.Refuse},
		{"path info of a CGI program", "/cgi-bin/app.fcgi/gated", maintenance.Refuse},
		{"absolute-form", "http://open.example.com/open", maintenance.Refuse},
		{"no slash at the beginning", "gated", maintenance.Refuse},
		{"not a path at all", "?", maintenance.Pass},
		{"asterisk", "*", maintenance.Pass},
		{"an empty target", "", maintenance.Pass},

		// Disguised, but without a reading in the closed app.
		{"encoded blank", "/open/a%20b", maintenance.Pass},
		{"encoded letters beyond ASCII", "/caf%C3%A9", maintenance.Pass},
		{"session parameter", "/open;jsessionid=1/x", maintenance.Pass},
		{"encoded slash elsewhere", "/open/a%2fb", maintenance.Pass},
		{"a name that begins alike", "/gatedness.json", maintenance.Pass},
		{"a format suffix on a parent", "/gated.v2/x", maintenance.Pass},
		{"a version in a path", "/v1.2/open", maintenance.Pass},
		{"an asset", "/static/app.3f2c1.min.js", maintenance.Pass},
		{"a broken escape", "/open/100%", maintenance.Pass},
		{"everything that an honest title may hold", "/wiki/What%3F%20C%23%3B%20or%20AC%2FDC%3A%2025%25", maintenance.Pass},

		// Exemptions apply only to the path as it is written.
		{"exempt", "/gated/healthz", maintenance.Pass},
		{"exempt with a query", "/gated/healthz?x", maintenance.Pass},
		{"exempt in other letter case", "/gated/Healthz", maintenance.Refuse},
		{"exempt with a slash more", "/gated/healthz/", maintenance.Refuse},
		{"below the exempt path", "/gated/healthz/x", maintenance.Refuse},
		{"exempt prefix", "/gated/hooks/stripe", maintenance.Pass},
		{"exempt prefix itself", "/gated/hooks", maintenance.Pass},
		{"exempt prefix, not at a boundary", "/gated/hookshop", maintenance.Refuse},
		{"exempt, double slash", "/gated//healthz", maintenance.Refuse},
		{"exempt, encoded", "/gated/%68ealthz", maintenance.Refuse},
		{"exempt, parameter", "/gated/healthz;x", maintenance.Refuse},
		{"exempt, then out of it", "/gated/hooks/../x", maintenance.Refuse},
		{"exempt, then out of it, encoded", "/gated/hooks/..%2fx", maintenance.Refuse},
		{"exempt, then out of it, by parameter", "/gated/hooks/..;/x", maintenance.Refuse},
		{"exempt, then out of it, by backslash", `/gated/hooks/..\x`, maintenance.Refuse},
		{"exempt, a blank", "/gated/hooks/a%20b", maintenance.Pass},
		{"exempt, encoded letters", "/gated/hooks/caf%C3%A9", maintenance.Pass},
		{"exempt, an encoded name that begins with @", "/gated/hooks/%40angular/core.js", maintenance.Pass},
		{"exempt, an encoded slash", "/gated/hooks/a%2fb", maintenance.Pass},
		{"exempt, then out of it by a script", "/gated/hooks/x.php/gated/orders", maintenance.Refuse},
		{"exempt in another app", "/gated/../login", maintenance.Refuse},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := get("example.com", c.target)
			if d := s.Decide(r, noon); d.Verdict != c.want {
				paths, _ := maintenance.Readings(r)
				t.Errorf("%s: %v by %s of %s; read as %q", c.target, d.Verdict, d.Rule, d.App, paths)
			}
		})
	}
}

// Some servers take the host or the path from other headers than :authority and :path. The apps
// shop (a host) and gated (a path) are closed.
func TestHeadersMayNameHostAndPath(t *testing.T) {
	s := mustParse(t, `{"apps":[
		{"name":"shop","match":{"hosts":["shop.example.com"]},`+activationJSON(maintenance.NoAccess)+`},
		{"name":"gated","match":{"paths":["/gated"]},`+activationJSON(maintenance.NoAccess)+`},
		{"name":"default","exempt":[{"path":"/login"}]}
	]}`)

	for _, c := range []struct {
		name string
		r    *maintenance.Request
		want maintenance.Verdict
	}{
		{"user information", get("me@shop.example.com", "/"), maintenance.Refuse},
		{"user information that looks like the host", get("shop.example.com:x@open.example.com", "/"), maintenance.Refuse},
		{"list of hosts", get("open.example.com,shop.example.com", "/"), maintenance.Refuse},
		{"absolute-form of another host", get("open.example.com", "http://shop.example.com/"), maintenance.Refuse},
		{"CONNECT", request("CONNECT", "shop.example.com:443", ""), maintenance.Refuse},
		{"OPTIONS *", request("OPTIONS", "shop.example.com", "*"), maintenance.Refuse},

		{"script name", get("open.example.com", "/x/gated", "script_name", "/x"), maintenance.Refuse},
		{"script name, with hyphens", get("open.example.com", "/x/gated", "script-name", "/x"), maintenance.Refuse},
		{"script name in a disguised path", get("open.example.com", "/%78/gated", "script_name", "/x"), maintenance.Refuse},
		{"script name, encoded", get("open.example.com", "/x/gated", "script_name", "/%78/"), maintenance.Refuse},
		{"script name after dot segments", get("open.example.com", "/y/../x/gated", "script_name", "/x"), maintenance.Refuse},
		{"script name anywhere in the path", get("open.example.com", "/x/zz/gated", "script_name", "zz"), maintenance.Refuse},
		{"script name in two headers that a gateway joins", get("open.example.com", "/x/a,b/gated", "x-script-name", "/x/a", "x-script-name", "b"), maintenance.Refuse},
		{"two script names", get("open.example.com", "/x/y/gated", "script_name", "/x", "x-script-name", "/y"), maintenance.Refuse},
		{"Flask's prefix", get("open.example.com", "/x/gated", "x-script-name", "/x"), maintenance.Refuse},
		{"forwarded prefix", get("open.example.com", "/x/gated", "x-forwarded-prefix", "/x"), maintenance.Refuse},
		{"script name that is not there", get("open.example.com", "/gated-not", "script_name", "/x"), maintenance.Pass},

		{"host header beside another authority", get("open.example.com", "/", "host", "shop.example.com"), maintenance.Refuse},
		{"host header that is the authority", get("open.example.com", "/", "host", "open.example.com"), maintenance.Pass},
		{"forwarded host", get("open.example.com", "/", "x-forwarded-host", "shop.example.com"), maintenance.Refuse},
		{"forwarded host among others", get("open.example.com", "/", "x-forwarded-host", "open.example.com, SHOP.example.com:443"), maintenance.Refuse},
		{"forwarded host as CGI spells it", get("open.example.com", "/", "x_forwarded.host", "shop.example.com"), maintenance.Refuse},
		{"forwarded host by RFC 7239", get("open.example.com", "/", "forwarded", `for=192.0.2.1;Host="shop.example.com:443";proto=https`), maintenance.Refuse},
		{"forwarded host that is open", get("open.example.com", "/", "x-forwarded-host", "open.example.com"), maintenance.Pass},
		{"host in the path", get("open.example.com", "//shop.example.com/cart"), maintenance.Refuse},
		{"host in the path, behind a backslash", get("open.example.com", `/\shop.example.com/cart`), maintenance.Refuse},
		{"host in the path, encoded", get("open.example.com", "//%73hop.example.com/cart"), maintenance.Refuse},
		{"host in the path that is open", get("open.example.com", "//open.example.com/cart"), maintenance.Pass},
		{"encoded host", get("%73hop.example.com", "/"), maintenance.Refuse},
		{"host with a blank", get("open.example.com shop.example.com", "/"), maintenance.Refuse},
		{"address without its end", get("[2001:db8::1", "/"), maintenance.Refuse},
		{"a host longer than names are", get(strings.Repeat("a.", 200)+"example.com", "/"), maintenance.Refuse},

		{"rewritten path", get("open.example.com", "/", "x-original-url", "/gated"), maintenance.Refuse},
		{"rewritten path, other header", get("open.example.com", "/", "x-rewrite-url", "/gated/x?y=z"), maintenance.Refuse},
		{"rewritten path, as CGI spells it", get("open.example.com", "/", "x_rewrite_url", "/gated"), maintenance.Refuse},
		{"rewritten path, disguised", get("open.example.com", "/", "x-original-url", "/open/..%2fgated"), maintenance.Refuse},
		{"rewritten URL", get("open.example.com", "/", "x-original-url", "https://open.example.com/gated"), maintenance.Refuse},
		{"rewritten path, second header", get("open.example.com", "/", "x-original-url", "/", "x-original-url", "/gated"), maintenance.Refuse},
		{"rewritten path that holds a URL", get("open.example.com", "/", "x-original-url", "/gated/https://open.example.com/x"), maintenance.Refuse},
		{"rewritten path without a slash", get("open.example.com", "/", "x-original-url", "gated"), maintenance.Refuse},
		{"rewritten to nothing", get("open.example.com", "/", "x-original-url", ""), maintenance.Pass},
		{"rewritten more often than is followed", get("open.example.com", "/", manyRewrites()...), maintenance.Refuse},
		{"rewritten to the same", get("open.example.com", "/login", "x-original-url", "/login"), maintenance.Pass},
		{"rewritten elsewhere", get("open.example.com", "/", "x-original-url", "/open"), maintenance.Pass},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := s.Decide(c.r, noon); d.Verdict != c.want {
				t.Errorf("%v by %s of %s", d.Verdict, d.Rule, d.App)
			}
		})
	}

}

// An exemption applies only if no header names another path than the exempt one.
func TestExemptPathMustNotBeRewritten(t *testing.T) {
	s := noAccessState(t, `"exempt":[{"path":"/login"}]`)
	for target, want := range map[string]maintenance.Verdict{"/login": maintenance.Pass, "/admin": maintenance.Refuse} {
		if d := s.Decide(get("a.example", "/login", "x-rewrite-url", target), noon); d.Verdict != want {
			t.Errorf("/login rewritten to %s: %v", target, d.Verdict)
		}
	}
}

// manyRewrites returns more headers that name paths than there may be readings.
func manyRewrites() (headers []string) {
	for i := range 2 * maintenance.MaxReadings {
		headers = append(headers, "x-rewrite-url", fmt.Sprintf("/%d%%2f..;", i))
	}
	return headers
}

// The readings of a path are only followed up to a bound. A path beyond the bound may still name a
// host, as in "//shop.example.com/cart", and so reach an app on another host.
func TestHostsInPathsThatAreNotFollowed(t *testing.T) {
	s := mustParse(t, `{"apps":[{"name":"shop","match":{"hosts":["shop.example.com"]},`+activationJSON(maintenance.NoAccess)+`},{"name":"default"}]}`)
	long := strings.Repeat("x", 5_000)

	for _, c := range []struct {
		name string
		r    *maintenance.Request
		want maintenance.Verdict
	}{
		{"long", get("open.example.com", "//shop.example.com/cart/;"+long), maintenance.Refuse},
		{"long, encoded", get("open.example.com", "/%2f%73hop.example.com/cart/;"+long), maintenance.Refuse},
		{"long, encoded three times", get("open.example.com", "/%25252fshop.example.com/cart/;"+long), maintenance.Refuse},
		{"long, behind dot segments", get("open.example.com", "/x/..//shop.example.com/cart/"+long), maintenance.Refuse},
		{"long, by a backslash", get("open.example.com", `/\shop.example.com/cart/`+long), maintenance.Refuse},
		{"long, after a parameter", get("open.example.com", "/;/shop.example.com/cart/"+long), maintenance.Refuse},
		{"long, after an overlong slash", get("open.example.com", "/%c0%afshop.example.com/cart/"+long), maintenance.Refuse},
		{"more escapes than are decoded", get("open.example.com", "/"+strings.Repeat("%25", 1_200)+"2fshop.example.com/cart"), maintenance.Refuse},
		{"in a header, long", get("open.example.com", "/", "x-original-url", "//shop.example.com/cart/;"+long), maintenance.Refuse},
		{"beside two prefixes", get("open.example.com", "//shop.example.com/cart", "x-script-name", "/a", "script-name", "/b"), maintenance.Refuse},

		{"long, and no host", get("open.example.com", "/files/"+long), maintenance.Pass},
		{"long, of encoded letters", get("open.example.com", "/files/"+strings.Repeat("%D0%9A", 400)+".pdf"), maintenance.Pass},
		{"many escapes of a letter", get("open.example.com", "/%"+strings.Repeat("25", 70)+"41"), maintenance.Pass},
	} {
		if d := s.Decide(c.r, noon); d.Verdict != c.want {
			t.Errorf("%s: %v by %s of %s", c.name, d.Verdict, d.Rule, d.App)
		}
	}
}

// The readings of long honest paths stay within the bounds. Otherwise such a path would count as
// any path, and be refused because another app is closed.
func TestHonestPathsAreFollowed(t *testing.T) {
	s := mustParse(t, `{"apps":[{"name":"shop","match":{"paths":["/shop"]},`+activationJSON(maintenance.NoAccess)+`},{"name":"default"}]}`)
	article := url.PathEscape("Категория:Википедия:Статьи с некорректным использованием шаблонов")

	for _, target := range []string{
		"/index.php/" + article,
		"/remote.php/dav/files/alice/" + url.PathEscape(strings.Repeat("文", 30)) + ".pdf",
		"/index.php/apps/x/" + strings.Repeat("a", 220) + "%20b.pdf",
		"/v1.0/" + strings.Repeat("a", 450) + "%20b.pdf",
		"/web/20240101000000/https://www.example.com/some/path/index.php/article/1;jsessionid=0123456789",
		"/wiki/" + article + "/" + article,
	} {
		if d := s.Decide(get("h", target), noon); d.Verdict != maintenance.Pass {
			paths, anyPath := maintenance.Readings(get("h", target))
			t.Errorf("%s: refused by %s of %s; %d readings, any path: %v", target, d.Rule, d.App, len(paths), anyPath)
		}
	}
}

// FuzzPath checks that the readings of a path are bounded, begin with the path as sent, and are
// complete: every way leads from each of them to one of them.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/", "/a", "", "*", "a", "/a?b", "/a%2fb/../%2e;x", "/%", "/%u", "/%u00", "/%u0041", "//a//b", "/\xc0", "/\xe0\x80", "/\xf0\x80\x80\xaf", "/%c0%ae", `\`, "/a#b;c\x00d?e", "/A", "/K"} {
		f.Add(seed)
	}

	f.Fuzz(func(t *testing.T, target string) {
		r := get("h", target)
		paths, anyPath := maintenance.Readings(r)
		sent, query, _ := strings.Cut(target, "?")
		if sent == "" || sent == "*" {
			sent = "/"
		}
		if paths[0] != sent {
			t.Fatalf("begins with %q", paths[0])
		}
		if len(paths) > maintenance.MaxReadings {
			t.Fatalf("%d readings", len(paths))
		}
		if !strings.HasPrefix(maintenance.Query(r), query) {
			t.Fatalf("query %q", maintenance.Query(r))
		}
		if anyPath {
			return
		}

		for i, p := range paths {
			if slices.Contains(paths[:i], p) {
				t.Fatalf("%q twice", p)
			}

			for name, read := range maintenance.PathWays() {
				if next := read(p); !slices.Contains(paths, next) {
					t.Fatalf("%q leads by %s to %q, which is not among %q", p, name, next, paths)
				}
			}
		}

		if len(paths) == 1 && sent != "*" && target != "*" {
			// If there is one reading, every server that accepts the request agrees with it, apart
			// from letter case, a last slash and a format suffix.
			for name, read := range servers {
				got := strings.TrimSuffix(strings.ToLower(read(target)), "/")
				rest, found := strings.CutPrefix(strings.TrimSuffix(strings.ToLower(sent), "/"), got)
				if got != "" && (!found || rest != "" && rest[0] != '.') {
					t.Fatalf("%q has one reading, but a server that %s reads %q", target, name, got)
				}
			}
		}
	})
}

// onceDecoded returns a server that decodes the path of a target before it reads it.
func onceDecoded(read func(p string) string) func(target string) string {
	return func(t string) string {
		p, _, _ := strings.Cut(t, "?")
		p, err := url.PathUnescape(p)
		if err != nil {
			return ""
		}

		return read(p)
	}
}

// servers are models of how real servers turn a request target into the path that selects a
// handler. They share no code with the package, so that they can prove it wrong. A server that
// rejects the target returns "". The keys complete the sentence "a server that …".
var servers = map[string]func(target string) string{
	"as it comes": func(t string) string { p, _, _ := strings.Cut(t, "?"); return p },
	"Go's ServeMux": func(t string) string {
		u, err := url.ParseRequestURI(t)
		if err != nil {
			return ""
		}
		return path.Clean("/" + u.Path)
	},
	"decodes, merges and resolves (nginx)": onceDecoded(func(p string) string {
		return path.Clean("/" + p)
	}),
	"decodes after it has resolved (a file server of old)": func(t string) string {
		p, _, _ := strings.Cut(t, "?")
		p, err := url.PathUnescape(path.Clean("/" + p))
		if err != nil {
			return ""
		}
		return p
	},
	"drops parameters, decodes, resolves (servlets)": func(t string) string {
		p, _, _ := strings.Cut(t, "?")
		var segments []string
		for _, s := range strings.Split(p, "/") {
			s, _, _ = strings.Cut(s, ";")
			segments = append(segments, s)
		}
		p, err := url.PathUnescape(strings.Join(segments, "/"))
		if err != nil {
			return ""
		}
		return path.Clean("/" + p)
	},
	"takes \\ for / in any letter case (IIS)": onceDecoded(func(p string) string {
		return strings.ToLower(path.Clean("/" + strings.ReplaceAll(p, `\`, "/")))
	}),
	"decodes twice behind a gateway": func(t string) string {
		p, _, _ := strings.Cut(t, "?")
		for range 2 {
			var err error
			if p, err = url.PathUnescape(p); err != nil {
				return ""
			}
		}
		return path.Clean("/" + p)
	},
	"ends it at a NUL (CGI in C)": onceDecoded(func(p string) string {
		p, _, _ = strings.Cut(p, "\x00")
		return path.Clean("/" + p)
	}),
	"resolves encoded dots, keeps encoded slashes (WHATWG URL, RFC 3986)": func(t string) string {
		p, _, _ := strings.Cut(t, "?")
		p, _, _ = strings.Cut(p, "#")
		var out []string
		for _, s := range strings.Split(strings.TrimPrefix(p, "/"), "/") {
			switch strings.ReplaceAll(strings.ToLower(s), "%2e", ".") {
			case "..":
				out = out[:max(0, len(out)-1)]
			case ".":
			default:
				d, err := url.PathUnescape(s)
				if err != nil {
					return ""
				}
				out = append(out, strings.ReplaceAll(d, "/", "%2F"))
			}
		}
		return "/" + strings.Join(out, "/")
	},
	"drops a format suffix (Rails, Spring's suffix patterns)": onceDecoded(func(p string) string {
		p = path.Clean("/" + p)
		return strings.TrimSuffix(p, path.Ext(p))
	}),
	"hands the script the rest of the path (CGI, PHP)": onceDecoded(func(p string) string {
		p = path.Clean("/" + p)
		if _, info, found := strings.Cut(p, ".php/"); found {
			return "/" + info
		}
		return p
	}),
	"takes the end before a last line feed (Starlette's regular expressions)": onceDecoded(func(p string) string {
		return strings.TrimSuffix(p, "\n")
	}),
	"drops blanks and dots at a segment's end (Windows)": onceDecoded(func(p string) string {
		segments := strings.Split(path.Clean("/"+p), "/")
		for i := range segments {
			segments[i] = strings.TrimRight(segments[i], " .")
		}
		return path.Clean(strings.Join(segments, "/"))
	}),
	"takes the beginning for an authority (URL parsers)": func(t string) string {
		u, err := url.Parse(t)
		if err != nil {
			return ""
		}
		return path.Clean("/" + u.Path)
	},
}

// inGated reports whether a server that reads the path p serves the app gated.
func inGated(p string) bool {
	return p == "/gated" || strings.HasPrefix(p, "/gated/")
}

// FuzzDecide checks that a path does not pass if any server would map it to a closed app, and that
// in read-only only safe requests and GraphQL queries pass.
func FuzzDecide(f *testing.F) {
	s, inReadOnly := mustParse(f, gatedDocument), readOnlyState(f, "")
	exempt := []string{"/gated/healthz", "/gated/hooks"}

	for _, seed := range []string{
		"/gated", "/open", "/x/..%2fgated", "/%67ated", "//gated", "/;/gated", `/\gated`, "/a%2fb/%2e%2e/gated", "/gated%00", "/gated/hooks/..%2f",
		"/open%23/../gated%3fx", "http://h/gated", "*", "", "//h/gated", "/%252567ated", "/gated/healthz", "/GATED/x", "/open/..%c0%afgated", "/.%2e;/gated#?",
	} {
		f.Add("GET", "example.com", seed, "accept", "*/*", []byte{})
	}

	f.Add("HEAD", "SHOP.example.com.:80", "/gated", "x-rewrite-url", "/open", []byte{})
	f.Add("CONNECT", "@,[", "/", ":protocol", "websocket", []byte{})
	f.Add("POST", "h", "/graphql", "content-type", "application/json", []byte(`{"query":"{a}"}`))
	f.Add("POST", "h", "/graphql?_method=PUT", "content-type", "application/json", []byte(`{"query":"mutation{a}"}`))
	f.Add("GET", "h", "/graphql?query={a}", "x-http-method-override", "get", []byte{})
	f.Fuzz(func(t *testing.T, method, host, target, name, value string, text []byte) {
		r := request(method, host, target, name, value)
		r.Body, r.EndStream = text, len(text) == 0
		d := s.Decide(r, noon)

		if d.App == "" {
			t.Fatal("no app")
		}

		for name, read := range servers {
			p := read(target)

			// Only an exemption may let it pass, and only if every server reads the path as exempt.
			if d.Verdict == maintenance.Pass && inGated(p) && !slices.Contains(exempt, p) && !strings.HasPrefix(p, "/gated/hooks/") {
				t.Errorf("%q passes by %s of %s, but a server that %s sees %q", target, d.Rule, d.App, name, p)
			}
		}

		d = decideWithBody(t, inReadOnly, r)
		if d.Verdict != maintenance.Pass {
			if reply := d.Reply(r, nil, noon); reply.Status != 503 && reply.Status != 413 && reply.Status != 200 {
				t.Errorf("status %d", reply.Status)
			}
			return
		}

		switch d.Rule {
		case maintenance.RuleSafeMethod:
			if !slices.Contains([]string{"GET", "HEAD", "OPTIONS", "TRACE"}, method) {
				t.Errorf("%s %s passes as safe", method, target)
			}
		case maintenance.RuleGraphQLQuery:

			if method == "POST" && !strings.HasPrefix(target, "/graphql") {
				t.Errorf("%s %s passes as a query", method, target)
			}
		default:
			t.Errorf("%s %s passes by %s", method, target, d.Rule)
		}
	})
}

// TestDisguisesAtRandom checks random combinations of disguises, which a fuzzer would take long to
// find: none of them passes if any server would map it to the closed app.
func TestDisguisesAtRandom(t *testing.T) {
	s := mustParse(t, gatedDocument)
	pieces := []string{"/", "/", "/", "//", ".", "..", "%2e", "%2E.", "%2f", "%2F", "%5c", `\`, ";", ";x=y", "%3b", "#", "%23", "%3f", "?", "%00", "%25", "%252e", "%252f", "x", "open", "gated", "gated", "GATED", "%67ated", "h:80"}
	random := rand.New(rand.NewPCG(1, 2)) // a fixed seed
	reached := 0                          // how often a server mapped a target to the closed app

	for range 40_000 {
		target := "/"
		for range 1 + random.IntN(12) {
			target += pieces[random.IntN(len(pieces))]
		}

		d := s.Decide(get("h", target), noon)

		for name, read := range servers {
			if !inGated(read(target)) {
				continue
			}

			reached++
			if d.Verdict == maintenance.Pass {
				paths, _ := maintenance.Readings(get("h", target))
				t.Fatalf("%q passes, but a server that %s sees %q; read as %q", target, name, read(target), paths)
			}
		}
	}

	if reached < 10_000 {
		t.Errorf("only %d ways into the app were tried", reached)
	}
}
