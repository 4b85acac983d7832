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

// This file combines the tricks of the corpus (corpus.go) to requests. A trick is a way to name a
// method, a path or a host other than the plain one. An app that a gate keeps closed is in
// maintenance. The methods of dice make random choices. Their order is part of what a seed means,
// so a choice that is added or moved changes the requests of every seed. testdata quotes the trails
// of requests.

// Generator makes requests that would write to what is closed: first the corpus itself, then
// combinations of its tricks, sent in many ways.
type Generator struct {
	seed  uint64                  // of the random choices
	seeds []*differential.Request // the corpus

	// onlySomeClosed says that only two apps are closed: that of the path /orders, on any host, and
	// that of the host closedHost. A request for another path than /orders then has to be on
	// closedHost, and must not name another host as well, because there it may rightly write.
	onlySomeClosed bool
	// entry is a path at which the servers only read by POST, and the gate lets a POST pass. Bodies
	// that name another method are sent there.
	entry string
}

// NewGenerator returns the generator of a seed. [Generator] describes the other arguments.
func NewGenerator(seed uint64, onlySomeClosed bool, entry string) *Generator {
	g := &Generator{seed: seed, onlySomeClosed: onlySomeClosed, entry: entry}
	g.seeds = g.corpus()
	return g
}

// tricks are the tricks of the corpus, by what they change.
var tricks = struct{ header, query, cookie, body, path, prefix, rewrite, host, smuggle, upgrade []trick }{
	header:  headerTricks(),
	query:   queryTricks(),
	cookie:  cookieTricks(),
	body:    bodyTricks(),
	path:    pathTricks(),
	prefix:  prefixTricks(),
	rewrite: rewriteTricks(),
	host:    hostTricks(),
	smuggle: smuggleTricks(),
	upgrade: upgradeTricks(),
}

// sortTricks sorts tricks by name. Tricks that come from a map have another order in each run, but
// the same seed must always give the same requests.
func sortTricks(all []trick) {
	slices.SortStableFunc(all, func(a, b trick) int { return cmp.Compare(a.name, b.name) })
}

// base returns a request without a trick, to what is closed. Its trail begins with its method and
// target.
func (g *Generator) base(method, target string) *differential.Request {
	r := &differential.Request{Method: method, Target: target, Trail: []string{method + " " + target}}
	if g.onlySomeClosed && !strings.HasPrefix(target, "/orders") && target != "/tenant" {
		r.Host = closedHost
	}
	return r
}

// corpus returns the plain writes, and at least one request for every trick.
func (g *Generator) corpus() (all []*differential.Request) {
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		all = append(all, g.base(method, "/orders"), g.base(method, "/orders/1"))
	}
	all = append(all, g.base("GET", "/logout"))

	// each adds a request for each trick. value is the method, path or host that the trick names.
	each := func(method, target, value string, lists ...[]trick) {
		for _, t := range slices.Concat(lists...) {
			r := g.base(method, target)
			t.apply(r, value)
			g.keepHost(r)
			all = append(all, r)
		}
	}

	// Of some lists, the first tricks are enough: they stand for the others, which are sent
	// elsewhere.
	each("GET", "/orders/1", "DELETE", tricks.header, tricks.query, tricks.cookie)
	each("POST", g.entry, "DELETE", tricks.header[:5], tricks.query[:5], tricks.body)
	each("GET", "/orders/1", "DELETE", slices.Concat(tricks.body[:3], jsonTricks()))
	each("POST", "/orders", "/orders", tricks.path, tricks.prefix, tricks.rewrite)
	each("GET", "/logout", "/logout", tricks.path, tricks.prefix[:12], tricks.rewrite[:5])
	each("POST", "/tenant", closedHost, tricks.host)
	each("GET", "/healthz", differential.AnyHost, tricks.smuggle, tricks.upgrade)
	return all
}

// jsonTricks returns the one trick with a plain JSON body, which every parser reads.
func jsonTricks() []trick {
	return slices.DeleteFunc(slices.Clone(tricks.body), func(t trick) bool { return t.name != `body JSON "_method"` })
}

// Request returns the i-th request. It depends only on the seed, the corpus and i.
func (g *Generator) Request(i int) *differential.Request {
	if i < len(g.seeds) {
		return g.seeds[i].Clone()
	}

	d := &dice{Dice: differential.NewDice(g.seed, i), Generator: g}
	r := d.request()
	for d.Chance(25) {
		d.transport(r)
	}
	g.keepHost(r)
	return r
}

var (
	// schemeAndHost matches the start of a target in absolute form.
	schemeAndHost = regexp.MustCompile(`(?i)^https?://[^/]*`)
	// openRoutes matches paths outside /orders at which the servers write by some method.
	openRoutes = regexp.MustCompile(`(?i)/(log(in|out)|search)`)
)

// keepHost makes sure that a request writes only to what is closed, if not all is. A request that
// was made for closedHost stays on that host. So does one for /orders that a trick leads to another
// path at which servers write, such as /login, because that path is open on all other hosts. A host
// in the target takes precedence over the Host header (RFC 9112 section 3.2.2), so keepHost
// replaces it.
func (g *Generator) keepHost(r *differential.Request) {
	if !g.onlySomeClosed {
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
		r.Target = schemeAndHost.ReplaceAllLiteralString(r.Target, "http://"+closedHost)
	}
}

// dice make the random choices for one request.
type dice struct {
	differential.Dice
	*Generator
}

// trick returns a trick of one of the lists. Each list is equally likely, however long it is.
func (d *dice) trick(lists ...[]trick) trick {
	l := lists[d.IntN(len(lists))]
	return l[d.IntN(len(l))]
}

// writeMethod returns a method that writes.
func (d *dice) writeMethod() string { return d.One("POST", "PUT", "PATCH", "DELETE") }

// ordersPath returns a path of the resource that every server has.
func (d *dice) ordersPath() string { return d.One("/orders", "/orders", "/orders/1") }

// safeMethod returns a method that only reads.
func (d *dice) safeMethod() string { return d.One("GET", "GET", "GET", "HEAD", "OPTIONS") }

// overrideMethod returns a method that writes, as an override names it: sometimes in lower case or
// with blanks, which some server removes.
func (d *dice) overrideMethod() string {
	return d.One("DELETE", "DELETE", "PUT", "PATCH", "POST", "delete", "Put", " DELETE", "DELETE ", "\tPATCH")
}

// request returns a request with tricks of one kind, or without a trick.
func (d *dice) request() *differential.Request {
	switch n := d.IntN(100); { // the bounds add up the shares of the kinds, in percent
	case n < 8: // without a trick, so that ways of sending are tried alone
		return d.base(d.writeMethod(), d.ordersPath())
	case n < 40:
		return d.methodOverride()
	case n < 72:
		return d.disguisedPath()
	case n < 84:
		r := d.base(d.writeMethod(), d.One("/tenant", "/tenant", "/tenant", "/orders"))
		d.trick(tricks.host).apply(r, closedHost)
		if d.Chance(30) {
			d.trick(tricks.host).apply(r, d.One(closedHost, closedHost, differential.AnyHost, "x"))
		}
		return r
	case n < 93:
		r := d.base(d.safeMethod(), d.One("/healthz", "/healthz", "/orders", "/search", exemptPrefix+"/x", "/login"))
		d.trick(tricks.smuggle).apply(r, d.One(differential.AnyHost, closedHost))
		return r
	default:
		r := d.base("GET", d.One("/healthz", "/healthz", "/orders", exemptPrefix+"/x", "/login", "/search"))
		d.trick(tricks.upgrade).apply(r, d.One(differential.AnyHost, closedHost))
		return r
	}
}

// methodOverride returns a request by a method that reads, or by a POST that only reads, with
// tricks that name a method that writes.
func (d *dice) methodOverride() *differential.Request {
	r := d.base(d.safeMethod(), d.One("/orders", "/orders/1", "/orders/1", d.entry))
	lists := [][]trick{tricks.header, tricks.header, tricks.query, tricks.query, tricks.cookie, tricks.body}
	if d.Chance(50) {
		r = d.base("POST", d.entry)
		lists = [][]trick{tricks.body, tricks.body, tricks.body, tricks.header, tricks.query, tricks.cookie}
	}

	d.trick(lists...).apply(r, d.overrideMethod())
	for d.Chance(35) {
		d.trick(lists...).apply(r, d.One(d.overrideMethod(), d.overrideMethod(), "GET", r.Method))
	}

	if d.Chance(15) {
		d.trick(tricks.path).apply(r, pathOf(r))
	}
	return r
}

// disguisedPath returns a request that writes, with tricks that spell its path in another way.
func (d *dice) disguisedPath() *differential.Request {
	r := d.base(d.writeMethod(), d.ordersPath())
	switch {
	case d.Chance(30):
		r = d.base("GET", "/logout")
	case d.Chance(10):
		r = d.base(d.writeMethod(), d.entry)
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

// pathOf returns the target without the query.
func pathOf(r *differential.Request) string {
	p, _, _ := strings.Cut(r.Target, "?")
	return p
}

// otherMethod returns another method to send a request with.
func (d *dice) otherMethod(r *differential.Request) string {
	if bytes.Contains(r.Body, []byte(smuggledLine)) {
		// An exempt method whose body has a meaning passes with it, and nothing shows that a server
		// leaves it unread; docs/read-only.md says how to configure Envoy before such a server.
		return d.One("GET", "TRACE", "HEAD", "OPTIONS")
	}
	return d.One(strings.ToLower(r.Method), r.Method[:1]+strings.ToLower(r.Method[1:]), "TRACE", "PROPFIND", "QUERY", "LINK", "MOVE", "HEAD", "OPTIONS", "_METHOD")
}

// transport changes one thing about how a request is sent. Kinds of change with several cases are
// as many times more likely.
func (d *dice) transport(r *differential.Request) {
	switch d.IntN(16) {
	case 0, 1, 2, 3:
		r.HTTP2 = d.http2(r)
	case 4, 5:
		r.Framing = differential.Framing(d.IntN(int(differential.None) + 1))
		// After Both, Unfinished and None, servers mostly wait for more, which takes long.
		if r.Framing >= differential.Both && d.Chance(75) {
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

// pad makes a body longer by bytes in front of it that parsers skip. Some bodies get a little
// shorter or longer than 1 MiB: by default, the filter judges no longer body, and Envoy's buffer
// holds no longer one.
func (d *dice) pad(r *differential.Request) {
	n := d.IntN(70_000)
	if d.Chance(10) {
		const limit = 1 << 20
		n = limit - 512 + d.IntN(1024)
	}
	r.Body = append(bytes.Repeat([]byte(d.One(" ", "&", "\n")), n), r.Body...)
	r.Did("padded by " + strconv.Itoa(n))
}

// http2 returns a way to send a request over HTTP/2: in half of the cases plainly, otherwise with
// something unusual.
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
		if d.onlySomeClosed && r.Host == closedHost {
			names = names[:3] // not :authority, which is the host
		}
		h.Pseudo = [][2]string{{d.One(names...), d.One(differential.Absent, "", "*", "https", closedHost, "/orders", "websocket")}}
		r.Did(h.Pseudo[0][0] + " " + strconv.Quote(h.Pseudo[0][1]))
	case 6:
		h.Beside = []*differential.Request{{Method: "POST", Target: "/orders", Host: r.Host}}
		r.Did("beside another")
	}

	return h
}
