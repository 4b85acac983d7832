package graphql

import (
	"bytes"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// This file puts requests together: a document (documents.go) in an envelope (envelopes.go), sent
// in some way (transport.go, http2.go) and disguised (disguise.go). The methods of dice make random
// choices. Their order is part of what a seed means, so a choice that is added or moved changes the
// requests of every seed.

// Generator makes requests from the corpus: first the corpus itself, then the same over HTTP/2,
// then combinations of changed documents, envelopes, transports, encodings and disguises, a third
// of them over HTTP/2. Most requests ask for a mutation in a way that some server understands.
type Generator struct {
	seed  uint64                  // of the random choices
	seeds []*differential.Request // the corpus
}

// NewGenerator returns the generator of a seed. Its corpus is that of seeds.go with the extra
// requests.
func NewGenerator(seed uint64, extra ...*differential.Request) *Generator {
	return &Generator{seed: seed, seeds: append(seeds(), extra...)}
}

// Request returns the i-th request. It depends only on the seed, the corpus and i.
func (g *Generator) Request(i int) *differential.Request {
	if i < 2*len(g.seeds) {
		r := g.seeds[i%len(g.seeds)].Clone()
		if i >= len(g.seeds) {
			r.HTTP2 = &differential.HTTP2{}
			r.Did("HTTP/2")
			if r.Header("Upgrade") == "websocket" {
				r.HTTP2.Pseudo = [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}}
			}
		}
		return r
	}

	d := &dice{differential.NewDice(g.seed, i)}
	var r *differential.Request
	if d.Chance(15) {
		r = d.pick(g.seeds).Clone()
		if d.Chance(50) { // the request of a client, but as a write
			r.Body = bytes.Replace(r.Body, []byte(`:"query `), []byte(`:"mutation `), 1)
			r.Target = strings.Replace(r.Target, "query=query", "query=mutation", 1)
			r.Did("as a mutation")
		}
		if d.Chance(80) {
			d.transport(r)
		}
	} else {
		r = d.request()
	}

	for d.Chance(20) {
		d.transport(r)
	}
	for d.Chance(15) {
		d.disguise(r)
	}
	if d.Chance(35) {
		d.http2(r)
	}
	return r
}

// dice make the random choices for one request.
type dice struct{ differential.Dice }

func (d *dice) pick(requests []*differential.Request) *differential.Request {
	return requests[d.IntN(len(requests))]
}

// insert puts s into text, in front of a random character or at the end.
func (d *dice) insert(text, s string) string {
	i := d.IntN(len(text) + 1)
	for i < len(text) && !utf8.RuneStart(text[i]) {
		i++
	}
	return text[:i] + s + text[i:]
}

// request returns a request with a random document, in one of the forms in which GraphQL servers
// accept documents: JSON, a query of the URL, a form, a multipart body, a WebSocket.
func (d *dice) request() *differential.Request {
	doc, trail := d.document()
	r := &differential.Request{Method: "POST", Target: "/graphql", Trail: trail}

	switch n := d.IntN(100); { // the bounds add up the shares of the forms, in percent
	case n < 68:
		body, more := d.envelope(doc)
		r.Body = []byte(body)
		r.Trail = append(append(r.Trail, "JSON"), more...)
		r.Set("Content-Type", "application/json")

	case n < 84:
		r.Method = "GET"
		r.Target += "?" + d.form(doc)
		r.Did("GET")
	case n < 90:
		r.Body = []byte(d.form(doc))
		r.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Did("form")

	case n < 93:
		r.Body = []byte(doc)
		r.Set("Content-Type", "application/graphql")
		r.Did("application/graphql")
	case n < 96:
		body, more := d.envelope(doc)
		r.Trail = append(r.Trail, more...)
		r.Set("Content-Type", "multipart/form-data; boundary=x")
		r.Body = []byte(d.multipart(doc, body))
		r.Did("multipart")

	case n < 98:
		body, more := d.envelope(doc)
		r.Trail = append(r.Trail, more...)
		r.Body = []byte(body)
		r.Target += "?" + d.form(doc)
		r.Set("Content-Type", "application/json")
		r.Did("POST with parameters in the URL")

	default:
		r.Trail = append(r.Trail, "websocket")
		w := websocket(d.One("graphql-transport-ws", "graphql-ws"), doc)
		w.Trail = r.Trail
		return w
	}
	return r
}

// form returns a document as a form, or as the query of a URL, often with a name that only some
// server takes for "query", and with other fields.
func (d *dice) form(doc string) string {
	sep := d.One("&", "&", "&", "&", ";")
	name := d.One("query", "query", "query", "query", "query", "query[]", "Query", "%71uery", "qu%65ry", "query%00", "+query", "query[0]", "query.x", "mutation")
	all := []string{name + "=" + d.escape(doc)}

	if d.Chance(30) {
		all = append(all, d.One("query=", "Query=", "%71uery=", "query[]=", "x=", "operationName=", "variables=", "extensions=", "id=", "raw=")+d.escape(d.One(plainQuery, plainMutation, "A", "M", "", "{}")))
	}
	if d.Chance(20) {
		all = append(all, "extensions="+url.QueryEscape(`{"persistedQuery":{"version":1,"sha256Hash":"`+sha256Hex(d.One(plainQuery, plainMutation, doc))+`"}}`))
		if d.Chance(50) {
			all = all[1:] // the hash without its document
		}
	}

	d.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return strings.Join(all, sep)
}

// multipart returns a document as a multipart body. Servers take a document from the field "query",
// or from the field "operations", which holds JSON. By the field "map", a server replaces a value
// in "operations" by an uploaded file, such as the query by the file "0" (GraphQL multipart request
// specification).
func (d *dice) multipart(doc, envelope string) string {
	switch d.IntN(4) {
	case 0:
		return multipart("query", doc)
	case 1:
		return multipart("operations", envelope, "map", "{}")
	case 2:
		return multipart("operations", `{"query":"{a}"}`, "map", `{"0":["query"]}`, "0", doc)
	default:
		return multipart("map", "{}", "operations", envelope, "operations", `{"query":"{a}"}`)
	}
}
