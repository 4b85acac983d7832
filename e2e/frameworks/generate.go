package frameworks

import (
	"bytes"
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// Generator makes requests that would write: first the corpus itself, then combinations of its
// tricks, sent in many ways.
type Generator struct {
	seed  uint64
	seeds []*differential.Request
	// hosted says that only one app is closed, by the path /orders and by the host closedHost. A
	// request for anything but /orders then names that host, and in one way only, because on
	// another host it may rightly write.
	hosted bool
	// entry is a path that only reads by POST, and that the gate lets pass by POST. Bodies are sent
	// there.
	entry string
}

// NewGenerator returns the generator of a seed. All its requests are for what is closed.
func NewGenerator(seed uint64, hosted bool, entry string) *Generator {
	g := &Generator{seed: seed, hosted: hosted, entry: entry}
	g.seeds = g.corpus()
	return g
}

// tricks are the lists of the corpus.
var tricks = struct{ header, query, cookie, body, path, prefix, rewrite, host, smuggle, upgrade []trick }{
	headerTricks(), queryTricks(), cookieTricks(), bodyTricks(), pathTricks(), prefixTricks(), rewriteTricks(), hostTricks(), smuggleTricks(), upgradeTricks(),
}

func sortTricks(all []trick) {
	slices.SortStableFunc(all, func(a, b trick) int { return cmp.Compare(a.name, b.name) })
}

// base returns a request without a trick. Its trail begins with its method and target.
func (g *Generator) base(method, target string) *differential.Request {
	r := &differential.Request{Method: method, Target: target, Trail: []string{method + " " + target}}
	if g.hosted && !strings.HasPrefix(target, "/orders") && target != "/tenant" {
		r.Host = closedHost
	}
	return r
}

// corpus returns one request for every trick.
func (g *Generator) corpus() (all []*differential.Request) {
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		all = append(all, g.base(method, "/orders"), g.base(method, "/orders/1"))
	}
	all = append(all, g.base("GET", "/logout"))

	each := func(method, target, value string, lists ...[]trick) {
		for _, t := range slices.Concat(lists...) {
			r := g.base(method, target)
			t.apply(r, value)
			g.keepHost(r)
			all = append(all, r)
		}
	}

	each("GET", "/orders/1", "DELETE", tricks.header, tricks.query, tricks.cookie)
	each("POST", g.entry, "DELETE", tricks.header[:5], tricks.query[:5], tricks.body)
	each("GET", "/orders/1", "DELETE", slices.Concat(tricks.body[:3], jsonTricks()))
	each("POST", "/orders", "/orders", tricks.path, tricks.prefix, tricks.rewrite)
	each("GET", "/logout", "/logout", tricks.path, tricks.prefix[:12], tricks.rewrite[:5])
	each("POST", "/tenant", closedHost, tricks.host)
	each("GET", "/healthz", differential.AnyHost, tricks.smuggle, tricks.upgrade)
	return all
}

// jsonTricks are the JSON bodies that every parser reads.
func jsonTricks() []trick {
	return slices.DeleteFunc(slices.Clone(tricks.body), func(t trick) bool { return t.name != `body JSON "_method"` })
}

// Request returns the i-th request. It depends only on the seed, the corpus and i.
func (g *Generator) Request(i int) *differential.Request {
	if i < len(g.seeds) {
		return g.seeds[i].Clone()
	}

	d := &dice{differential.NewDice(g.seed, i), g}
	r := d.request()
	for d.Chance(25) {
		d.transport(r)
	}
	g.keepHost(r)
	return r
}

var (
	authority = regexp.MustCompile(`(?i)^https?://[^/]*`)
	// openRoutes are the servers' routes outside /orders that write.
	openRoutes = regexp.MustCompile(`(?i)log(in|out)|search`)
)

// keepHost keeps a request on the host for which it was made, because on another host it may write.
// A target in absolute form would take precedence over Host. Tricks may also lead a request for
// /orders to a route that is open on every other host, such as /login.
func (g *Generator) keepHost(r *differential.Request) {
	if !g.hosted {
		return
	}

	path := pathOf(r)
	if decoded, err := url.PathUnescape(path); err == nil {
		path = decoded
	}
	if openRoutes.MatchString(path) {
		r.Host = closedHost
	}
	if r.Host == closedHost {
		r.Target = authority.ReplaceAllLiteralString(r.Target, "http://"+closedHost)
	}
}

// dice are the choices of the generator.
type dice struct {
	differential.Dice
	*Generator
}

func (d *dice) trick(lists ...[]trick) trick {
	l := lists[d.IntN(len(lists))]
	return l[d.IntN(len(l))]
}

func (d *dice) write() string  { return d.One("POST", "PUT", "PATCH", "DELETE") }
func (d *dice) orders() string { return d.One("/orders", "/orders", "/orders/1") }
func (d *dice) safe() string   { return d.One("GET", "GET", "GET", "HEAD", "OPTIONS") }
func (d *dice) method() string {
	return d.One("DELETE", "DELETE", "PUT", "PATCH", "POST", "delete", "Put", " DELETE", "DELETE ", "\tPATCH")
}

// request returns a base with tricks.
func (d *dice) request() *differential.Request {
	switch n := d.IntN(100); {
	case n < 8: // so that transports are tried alone
		return d.base(d.write(), d.orders())
	case n < 40:
		return d.overridden()
	case n < 72:
		return d.disguised()
	case n < 84:
		r := d.base(d.write(), d.One("/tenant", "/tenant", "/tenant", "/orders"))
		d.trick(tricks.host).apply(r, closedHost)
		if d.Chance(30) {
			d.trick(tricks.host).apply(r, d.One(closedHost, closedHost, differential.AnyHost, "x"))
		}
		return r
	case n < 93:
		r := d.base(d.safe(), d.One("/healthz", "/healthz", "/orders", "/search", exemptPrefix+"/x", "/login"))
		d.trick(tricks.smuggle).apply(r, d.One(differential.AnyHost, closedHost))
		return r
	default:
		r := d.base("GET", d.One("/healthz", "/healthz", "/orders", exemptPrefix+"/x", "/login", "/search"))
		d.trick(tricks.upgrade).apply(r, d.One(differential.AnyHost, closedHost))
		return r
	}
}

// overridden returns a request by a method that reads, which names one that writes.
func (d *dice) overridden() *differential.Request {
	r := d.base(d.safe(), d.One("/orders", "/orders/1", "/orders/1", d.entry))
	lists := [][]trick{tricks.header, tricks.header, tricks.query, tricks.query, tricks.cookie, tricks.body}
	if d.Chance(50) {
		r = d.base("POST", d.entry)
		lists = [][]trick{tricks.body, tricks.body, tricks.body, tricks.header, tricks.query, tricks.cookie}
	}

	d.trick(lists...).apply(r, d.method())
	for d.Chance(35) {
		d.trick(lists...).apply(r, d.One(d.method(), d.method(), "GET", r.Method))
	}

	if d.Chance(15) {
		d.trick(tricks.path).apply(r, pathOf(r))
	}
	return r
}

// disguised returns a request that spells a closed path in another way.
func (d *dice) disguised() *differential.Request {
	r := d.base(d.write(), d.orders())
	switch {
	case d.Chance(30):
		r = d.base("GET", "/logout")
	case d.Chance(10):
		r = d.base(d.write(), d.entry)
		if r.Method == "POST" {
			r.Method = "DELETE"
		}
	}

	for more := true; more; more = d.Chance(35) {
		d.trick(tricks.path, tricks.path, tricks.path, tricks.prefix, tricks.rewrite).apply(r, pathOf(r))
	}

	if d.Chance(10) {
		d.trick(tricks.header, tricks.query).apply(r, d.One("GET", "HEAD", r.Method))
	}
	return r
}

func pathOf(r *differential.Request) string {
	p, _, _ := strings.Cut(r.Target, "?")
	return p
}

// otherMethod returns another method to send a request with.
func (d *dice) otherMethod(r *differential.Request) string {
	if bytes.Contains(r.Body, smuggled("")[:len("POST /orders HTTP/1.1")]) {
		// An exempt method whose body has a meaning passes with it, and nothing shows that a server
		// leaves it unread; docs/read-only.md says how to configure Envoy before such a server.
		return d.One("GET", "TRACE", "HEAD", "OPTIONS")
	}
	return d.One(strings.ToLower(r.Method), r.Method[:1]+strings.ToLower(r.Method[1:]), "TRACE", "PROPFIND", "QUERY", "LINK", "MOVE", "HEAD", "OPTIONS", "_METHOD")
}

// transport changes one thing about how a request is sent.
func (d *dice) transport(r *differential.Request) {
	switch n := d.IntN(16); n {
	case 0, 1, 2, 3:
		r.HTTP2 = d.http2(r)
	case 4, 5:
		r.Framing = differential.Framing(d.IntN(int(differential.None) + 1))
		if r.Framing >= differential.Both && d.Chance(75) { // those mostly lead to a wait for the time-out
			r.Framing = differential.ManyChunks
		}
		r.Did("framing " + strconv.Itoa(int(r.Framing)))

	case 6:
		if d.Chance(50) {
			r.Version = "HTTP/1.0"
			r.Did(r.Version)
		}

	case 7:
		r.Method = d.otherMethod(r)
		r.Did(r.Method)

	case 8:
		t := d.One(types...)
		r.Headers = slices.Insert(r.Headers, d.IntN(len(r.Headers)+1), [2]string{d.One("Content-Type", "Content-Type", "Content_Type", "Content.Type", "content-type"), t})
		r.Did("type " + t)
	case 9:
		coding := d.One("gzip", "deflate", "br", "identity", "gzip, identity", "x-gzip", "")
		if len(r.Body) > 0 {
			r.Body = differential.Compress(coding, r.Body)
		}
		if d.Chance(85) {
			addHeader(r, d.One("Content-Encoding", "Content-Encoding", "Content_Encoding"), coding)
		}
		r.Did("coding " + coding)
	case 10:
		charset := d.One("utf-16", "utf-16le", "utf-16be", "utf-7", "utf-32", "latin1")
		r.Body = differential.Transcode(charset, string(r.Body))
		r.Did("in " + charset)

	case 11:
		d.addHeader(r)

	case 12:
		p := d.One("x=1", "_method=GET", "_method", "q=_method", "format=json", "_=1", "a[]=1", "%", "_method=")
		addParameter(r, d.One("&", "&", ";", "?"), p)
		r.Did("parameter " + p)

	case 13:
		if len(r.Body) > 0 && d.Chance(30) {
			d.pad(r)
		}

	case 14:
		if len(r.Headers) > 0 {
			i := d.IntN(len(r.Headers))
			r.Headers[i][0] = d.One(strings.ToUpper(r.Headers[i][0]), strings.ToLower(r.Headers[i][0]), strings.ReplaceAll(r.Headers[i][0], "-", "_"), r.Headers[i][0]+" ", "X-"+r.Headers[i][0])
			r.Did("header as " + r.Headers[i][0])
		}

	case 15:
		if d.Chance(30) {
			r.After = smuggled(d.One(differential.AnyHost, closedHost))
			r.Did("pipelined")
		}
	}
}

// addHeader adds a header that changes how a server, or a gate, treats the request.
func (d *dice) addHeader(r *differential.Request) {
	name := d.One("Accept", "X-Forwarded-For", "X-Forwarded-Proto", "Expect", "TE", "Range", "If-None-Match", "Origin", "Access-Control-Request-Method", "X-Requested-With", "Authorization", "Via", "Max-Forwards", "Purpose")
	value := map[string]string{"Accept": "text/event-stream", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "Expect": "100-continue", "TE": "trailers", "Range": "bytes=0-0", "If-None-Match": "*",
		"Origin": "https://app.example.com", "Access-Control-Request-Method": "DELETE", "X-Requested-With": "XMLHttpRequest", "Authorization": "Basic eDp4", "Via": "1.1 x", "Max-Forwards": "0", "Purpose": "prefetch"}[name]
	addHeader(r, name, value)
	r.Did(name)
}

// pad makes a body longer, up to about the limit of a body and of Envoy's buffer.
func (d *dice) pad(r *differential.Request) {
	n := d.IntN(70_000)
	if d.Chance(10) {
		n = 1<<20 - 512 + d.IntN(1024)
	}
	r.Body = append(bytes.Repeat([]byte(d.One(" ", "&", "\n")), n), r.Body...)
	r.Did("padded by " + strconv.Itoa(n))
}

// http2 returns a way to send a request over HTTP/2.
func (d *dice) http2(r *differential.Request) *differential.HTTP2 {
	h := &differential.HTTP2{}
	r.Did("HTTP/2")

	switch d.IntN(12) {
	case 0:
		r.Trailers = [][2]string{{d.One("x-http-method-override", "content-type", "x-original-url", "script_name", "x-forwarded-host"), d.One("DELETE", form, "/orders", exemptPrefix, closedHost)}}
		r.Did("trailer " + r.Trailers[0][0])
	case 1:
		h.EndApart = true
		r.Did("end apart")
	case 2:
		h.Padding = uint8(d.IntN(256))
		r.Did("padded")
	case 3:
		h.FieldSize = 1 + d.IntN(40)
		r.Did("CONTINUATION")
	case 4:
		h.RawNames = true
		r.Did("names in capitals")
	case 5:
		names := []string{":scheme", ":path", ":protocol", ":authority"}
		if d.hosted && r.Host == closedHost {
			names = names[:3]
		}
		h.Pseudo = [][2]string{{d.One(names...), d.One(differential.Absent, "", "*", "https", closedHost, "/orders", "websocket")}}
		r.Did(h.Pseudo[0][0] + " " + strconv.Quote(h.Pseudo[0][1]))
	case 6:
		h.Beside = []*differential.Request{{Method: "POST", Target: "/orders", Host: r.Host}}
		r.Did("beside another")
	}

	return h
}
