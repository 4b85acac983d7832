package graphql

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// This file has the requests of the corpus, with which the generator begins. TestServersDiffer also
// sends each of them to every server without a gate. The name of a request, the first step of its
// trail, is a row of testdata/differences.txt. In the names, Q stands for a query and M for a
// mutation.

// The shortest query and mutation of the servers' schema.
const (
	plainQuery    = `{a}`
	plainMutation = `mutation M{b}`
)

// corpus collects the requests of the corpus.
type corpus []*differential.Request

func (all *corpus) add(rs ...*differential.Request) { *all = append(*all, rs...) }

// json adds a POST of JSON to /graphql.
func (all *corpus) json(name, body string) { all.add(post(name, "application/json", body)) }

// get adds a GET, and returns it so that the caller can change it.
func (all *corpus) get(name, target string) *differential.Request {
	r := &differential.Request{Method: "GET", Target: target, Trail: []string{name}}
	all.add(r)
	return r
}

// seeds returns the requests of the corpus.
func seeds() []*differential.Request {
	var all corpus
	all.documents()
	all.keys()
	all.bodies()
	all.batches()
	all.types()
	all.encodings()
	all.forms()
	all.urls()
	all.methods()
	all.framings()
	all.subscriptions()
	all.hashes()
	return all
}

// documents adds a request for each document of corpus.go, and requests that choose between two
// operations of a document by their names. A disputed document may have a second operation besides
// M, so its request chooses M.
func (all *corpus) documents() {
	for _, group := range []struct {
		name string
		docs []string
	}{{"query", queries}, {"write", writes}, {"disputed", disputed}} {
		for _, doc := range group.docs {
			pairs := []string{`"query"`, quote(doc)}
			if group.name == "disputed" && strings.Contains(doc, "mutation M") {
				pairs = append(pairs, `"operationName"`, `"M"`)
			}
			all.json(group.name+": "+doc, object(pairs...))
		}
	}

	for _, name := range []string{"A", "M", "", "X"} {
		all.json("two operations, operationName "+quote(name), object(`"operationName"`, quote(name), `"query"`, quote(`query A{a} mutation M{b}`)))
	}
	all.json("two operations, operationName null", object(`"query"`, quote(`query A{a} mutation M{b}`), `"operationName"`, "null"))
	all.json("two operations, operationName 1", object(`"query"`, quote(`mutation M{b} query A{a}`), `"operationName"`, "1"))
}

// keys adds requests with two members of the JSON object that some server takes for "query", one
// with a query and one with a mutation, and requests with one such member.
func (all *corpus) keys() {
	query, mutation := quote(plainQuery), quote(plainMutation)
	for _, keys := range [][2]string{
		{`"query"`, `"query"`}, {`"query"`, `"Query"`}, {`"query"`, `"QUERY"`}, {`"Query"`, `"query"`}, {`"query"`, `"\u0071uery"`},
		{`"query"`, `"quer\u0079"`}, {`"query"`, `" query"`}, {`"query"`, `"query\u0000"`}, {`"query"`, `"mutation"`}, {`"query"`, `"documentId"`},
		{`"query"`, `"id"`}, {`"query"`, `"__proto__"`}, {`"query"`, `"operations"`}, {`"query"`, `"doc"`},
	} {
		all.json("keys "+keys[0]+" Q, "+keys[1]+" M", object(keys[0], query, keys[1], mutation))
		all.json("keys "+keys[1]+" M, "+keys[0]+" Q", object(keys[1], mutation, keys[0], query))
	}

	for _, key := range []string{`"QUERY"`, `"Query"`, `"\u0071uery"`, `"quer\u0059"`, `"__proto__"`, `'query'`, `query`, `"query "`} {
		all.json("key "+key+" M", object(key, mutation))
	}
	all.json("__proto__ holds the query", `{"__proto__":{"query":`+mutation+`}}`)
}

// bodies adds JSON that parsers read differently, or not at all.
func (all *corpus) bodies() {
	query, mutation := quote(plainQuery), quote(plainMutation)

	all.json("query as a list", `{"query":[`+mutation+`]}`)
	all.json("query as an object", `{"query":{"query":`+mutation+`}}`)
	all.json("escapes in the document", `{"query":"\u006d\u0075\u0074ation\u0020M{b}"}`)
	all.json("surrogate in the document", `{"query":"mutation M{b}#\ud800"}`)
	all.json("variables as a string", object(`"query"`, mutation, `"variables"`, `"{}"`))
	all.json("extra key", object(`"query"`, mutation, `"debug"`, "true"))
	all.json("trailing mutation", object(`"query"`, query)+object(`"query"`, mutation))
	all.json("trailing query", object(`"query"`, mutation)+object(`"query"`, query))
	all.json("trailing text", object(`"query"`, mutation)+"x")
	all.json("trailing NUL", object(`"query"`, mutation)+"\x00")
	all.json("leading BOM", "\ufeff"+object(`"query"`, mutation))
	all.json("leading form feed", "\f"+object(`"query"`, mutation))
	all.json("NaN", object(`"query"`, mutation, `"x"`, "NaN"))
	all.json("comment", "/* */"+object(`"query"`, mutation))
	all.json("trailing comma", `{"query":`+mutation+`,}`)
	all.json("control character", "{\"query\":\"mutation\tM{b}\"}")
	all.json("invalid UTF-8", "{\"query\":\"mutation M{b}#\xff\"}")
	all.json("invalid UTF-8 within the keyword", "{\"query\":\"mut\xffation M{b}\"}")
	all.json("overlong UTF-8", "{\"query\":\"\xc1\xadutation M{b}\"}")
	all.json("large number", object(`"query"`, mutation, `"variables"`, `{"x":1e999}`))
}

// batches adds lists of requests, and JSON that is not a request.
func (all *corpus) batches() {
	query, mutation := quote(plainQuery), quote(plainMutation)

	all.json("batch of queries", `[`+object(`"query"`, query)+`,`+object(`"query"`, query)+`]`)
	all.json("batch with a mutation", `[`+object(`"query"`, query)+`,`+object(`"query"`, mutation)+`]`)
	all.json("batch of a mutation", `[`+object(`"query"`, mutation)+`]`)
	all.json("nested batch", `[[`+object(`"query"`, mutation)+`]]`)
	all.json("empty batch", `[]`)
	all.json("batch by index", `{"0":`+object(`"query"`, mutation)+`,"length":1}`)
	all.json("Rails batch", `{"_json":[`+object(`"query"`, mutation)+`]}`)
	all.json("string", mutation)
	all.json("null", `null`)
	all.json("empty object", `{}`)
	all.json("empty", ``)

	batch := post("graphene batch", "application/json", `[`+object(`"query"`, mutation)+`]`)
	batch.Target = "/graphql/batch"
	all.add(batch)
}

// types adds a mutation in JSON with other media types, or with two of them.
func (all *corpus) types() {
	body := object(`"query"`, quote(plainMutation))
	for _, t := range []string{
		"", "application/json; charset=utf-8", "application/json;charset=UTF-8", `application/json; charset="utf-8"`, "APPLICATION/JSON", "application/json;",
		"application/json; charset=latin1", "application/json; charset=utf-16", "application/json; boundary=x", "application/json, text/plain",
		"text/plain, application/json", "application/graphql+json", "application/graphql-response+json", "application/vnd.api+json", "text/json",
		"application/x-json", "text/plain", "application/octet-stream", "application/graphql", "x", "application/x-www-form-urlencoded", "multipart/form-data",
		"application/json; charset=us-ascii", "application/json;charset=utf-8;charset=utf-16", " application/json",
	} {
		all.add(post("JSON as "+quote(t), t, body))
	}

	two := post("two types, JSON first", "application/json", body)
	two.Headers = append(two.Headers, [2]string{"Content-Type", "text/plain"})
	all.add(two)
	two = post("two types, form first", "application/x-www-form-urlencoded", "query="+url.QueryEscape(plainMutation))
	two.Headers = append(two.Headers, [2]string{"Content-Type", "application/json"})
	all.add(two)
}

// encodings adds a mutation in JSON in charsets and content codings.
func (all *corpus) encodings() {
	body := object(`"query"`, quote(plainMutation))
	for _, e := range []string{"utf-16", "utf-16le", "utf-16be", "utf-32", "utf-7", "utf-8"} {
		all.add(post("body in "+e+", named", "application/json; charset="+e, string(differential.Transcode(e, body))))
		all.add(post("body in "+e+", not named", "application/json", string(differential.Transcode(e, body))))
		all.add(post("body in "+e+" with a BOM", "application/json", string(differential.Transcode(e, "\ufeff"+body))))
	}
	all.add(post("mutation in UTF-7 within an innocent document", "application/json; charset=utf-7", `{"query":"{a}+ACA-#","query":"+AG0-utation M{b}"}`))

	for _, e := range []string{"gzip", "deflate", "br", "x-gzip", "GZIP", "identity", "gzip, gzip", "deflate-raw"} {
		r := post("encoded by "+e, "application/json", string(differential.Compress(e, []byte(body))))
		r.Headers = append(r.Headers, [2]string{"Content-Encoding", strings.TrimSuffix(e, "-raw")})
		all.add(r)
	}
}

// forms adds mutations in forms, multipart bodies and bodies without an envelope.
func (all *corpus) forms() {
	query, body := quote(plainQuery), object(`"query"`, quote(plainMutation))
	form := "query=" + url.QueryEscape(plainMutation)

	all.add(post("form", "application/x-www-form-urlencoded", form),
		post("form, query twice", "application/x-www-form-urlencoded", "query="+url.QueryEscape(plainQuery)+"&"+form),
		post("form, query[]", "application/x-www-form-urlencoded", "query[]="+url.QueryEscape(plainMutation)),
		post("form, JSON as a key", "text/plain", body+"="),
		post("application/graphql", "application/graphql", plainMutation),
		post("application/graphql as text", "text/plain", plainMutation),
		post("multipart", "multipart/form-data; boundary=x", multipart("query", plainMutation)),
		post("multipart operations", "multipart/form-data; boundary=x", multipart("operations", body, "map", "{}")),
		post("multipart batch", "multipart/form-data; boundary=x", multipart("operations", "["+body+"]", "map", "{}")),
		post("multipart map into query", "multipart/form-data; boundary=x", multipart("operations", object(`"query"`, "null"), "map", `{"0":["query"]}`, "0", plainMutation)),
		post("multipart map over query", "multipart/form-data; boundary=x", multipart("operations", object(`"query"`, query), "map", `{"0":["query"]}`, "0", plainMutation)))
}

// urls adds requests by GET, also for paths that some router takes for the GraphQL path.
func (all *corpus) urls() {
	e := url.QueryEscape(plainMutation)

	all.get("GET query", "/graphql?query="+url.QueryEscape(plainQuery))
	all.get("GET", "/graphql?query="+e)
	all.get("GET twice", "/graphql?query="+url.QueryEscape(plainQuery)+"&query="+e)
	all.get("GET twice, mutation first", "/graphql?query="+e+"&query="+url.QueryEscape(plainQuery))
	all.get("GET %71uery", "/graphql?%71uery="+e)
	all.get("GET QUERY", "/graphql?QUERY="+e)
	all.get("GET query[]", "/graphql?query[]="+e)
	all.get("GET query[0]", "/graphql?query%5B0%5D="+e)
	all.get("GET after ;", "/graphql?x=1;query="+e)
	all.get("GET operationName", "/graphql?operationName=A&query="+url.QueryEscape("query A{a} mutation M{b}"))
	all.get("GET subscription", "/graphql?query="+url.QueryEscape("subscription{bump}")).Set("Accept", "text/event-stream")

	all.get("GET path case", "/GraphQL?query="+e)
	all.get("GET slash", "/graphql/?query="+e)
	all.get("GET below", "/graphql/x?query="+e)
	all.get("GET %67raphql", "/%67raphql?query="+e)
	all.get("GET //graphql", "//graphql?query="+e)
	all.get("GET ./graphql", "/./graphql?query="+e)
	all.get("GET ../graphql", "/x/../graphql?query="+e)
	all.get("GET ;params", "/graphql;x=1?query="+e)
	all.get("GET encoded ?", "/graphql%3Fquery="+e)
	all.get("GET absolute", "http://app.test/graphql?query="+e)
	all.get("GET fragment", "/graphql?x#?query="+e)
}

// methods adds requests by other methods than POST, or by a GET that names POST in a header.
func (all *corpus) methods() {
	body, e := object(`"query"`, quote(plainMutation)), url.QueryEscape(plainMutation)
	r := all.get("GET body", "/graphql")
	r.Set("Content-Type", "application/json")
	r.Body = []byte(body)

	r = all.get("GET override", "/graphql?query="+e)
	r.Set("X-HTTP-Method-Override", "POST")

	r = all.get("GET override, body", "/graphql")
	r.Headers = [][2]string{{"X-HTTP-Method-Override", "POST"}, {"Content-Type", "application/json"}}
	r.Body = []byte(body)
	for _, method := range []string{"PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "QUERY", "post", "Post", "TRACE", "FOO"} {
		r := post(method, "application/json", body)
		r.Method = method
		all.add(r)
		r = all.get(method+", in the URL", "/graphql?query="+e)
		r.Method = method
	}

	r = post("POST, query in the URL", "application/json", object(`"query"`, quote(plainQuery)))
	r.Target = "/graphql?query=" + e
	all.add(r)

	r = post("POST, all in the URL", "", "")
	r.Target = "/graphql?query=" + e
	all.add(r)
}

// framings adds requests whose body ends in another way than by Content-Length, and one that
// another request follows.
func (all *corpus) framings() {
	body := object(`"query"`, quote(plainMutation))
	for _, f := range []struct {
		framing differential.Framing
		name    string
	}{
		{differential.Chunked, "chunked"}, {differential.ManyChunks, "many chunks"}, {differential.Both, "length and chunked"}, {differential.Unfinished, "unfinished"}, {differential.None, "no length"},
	} {
		r := post(f.name, "application/json", body)
		r.Framing = f.framing
		all.add(r)
	}

	r := post("HTTP/1.0", "application/json", body)
	r.Version = "HTTP/1.0"
	all.add(r)
	r = post("Expect", "application/json", body)
	r.Set("Expect", "100-continue")
	all.add(r)
	r = post("pipelined", "application/json", object(`"query"`, quote(plainQuery)))
	r.After = post("", "application/json", body).Bytes()
	all.add(r)
}

// subscriptions adds operations whose answer is a stream.
func (all *corpus) subscriptions() {
	for _, protocol := range []string{"graphql-transport-ws", "graphql-ws"} {
		all.add(websocket(protocol, plainMutation))
	}

	r := post("SSE", "application/json", object(`"query"`, quote(`subscription{bump}`)))
	r.Set("Accept", "text/event-stream")
	all.add(r)
	r = post("multipart subscription", "application/json", object(`"query"`, quote(`subscription{bump}`)))
	r.Set("Accept", "multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/json")
	all.add(r)
}

// hashes adds requests with the hash of a mutation (automatic persisted queries). The first one
// teaches the hash to the servers that learn them. The next ones, without the mutation, run it
// there.
func (all *corpus) hashes() {
	query, mutation := quote(plainQuery), quote(plainMutation)
	hash := sha256Hex(plainMutation)
	ext := func(hash string) string { return `{"persistedQuery":{"version":1,"sha256Hash":"` + hash + `"}}` }

	all.json("hash with its mutation", object(`"query"`, mutation, `"extensions"`, ext(hash)))
	all.json("hash of a mutation, known", object(`"extensions"`, ext(hash)))
	all.json("hash of a mutation, known, beside a query", object(`"query"`, query, `"extensions"`, ext(hash)))
	all.json("hash of a mutation, known, empty query", object(`"query"`, `""`, `"extensions"`, ext(hash)))
	all.json("hash of a mutation, known, query null", object(`"query"`, `null`, `"extensions"`, ext(hash)))
	all.json("hash of a mutation, known, in capitals", object(`"extensions"`, ext(strings.ToUpper(hash))))
	all.json("hash of a mutation, Mercurius' form", object(`"query"`, quote(hash), `"persisted"`, "true"))
	all.get("GET hash of a mutation, known", "/graphql?extensions="+url.QueryEscape(ext(hash)))
}

// The functions below write requests.

// object returns a JSON object of keys and values in turn, each of which is JSON.
func object(pairs ...string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := 0; i < len(pairs); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(pairs[i] + ":" + pairs[i+1])
	}
	return b.String() + "}"
}

// quote returns s as a JSON string.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(s)
	return strings.TrimSuffix(b.String(), "\n")
}

// post returns a request by POST to /graphql. name is the first step of its trail.
func post(name, contentType, body string) *differential.Request {
	r := &differential.Request{Method: "POST", Target: "/graphql", Body: []byte(body), Trail: []string{name}}
	if contentType != "" {
		r.Headers = [][2]string{{"Content-Type", contentType}}
	}
	return r
}

func sha256Hex(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// multipart returns a multipart body with the boundary x, of names and values of fields in turn.
// The field "0" is an uploaded file.
func multipart(fields ...string) string {
	var b strings.Builder
	for i := 0; i < len(fields); i += 2 {
		file := ""
		if fields[i] == "0" {
			file = "; filename=\"f\"\r\nContent-Type: text/plain"
		}
		fmt.Fprintf(&b, "--x\r\nContent-Disposition: form-data; name=%q%s\r\n\r\n%s\r\n", fields[i], file, fields[i+1])
	}
	return b.String() + "--x--\r\n"
}

// websocket returns a request for a WebSocket, followed at once by the messages that start an
// operation.
func websocket(protocol, doc string) *differential.Request {
	start := map[string]string{"graphql-transport-ws": "subscribe", "graphql-ws": "start"}[protocol]
	r := &differential.Request{Method: "GET", Target: "/graphql", Trail: []string{"WebSocket " + protocol}, Headers: [][2]string{
		{"Connection", "Upgrade"}, {"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}, {"Sec-WebSocket-Key", "ZHJ5ZG9ja2RyeWRvY2tkcg=="}, {"Sec-WebSocket-Protocol", protocol},
	}}
	for _, message := range []string{`{"type":"connection_init","payload":{}}`, `{"id":"1","type":"` + start + `","payload":{"query":` + quote(doc) + `}}`} {
		// A frame of RFC 6455 section 5.2. Clients must mask the message, and a mask of zeros
		// leaves it as it is. 126 says that the length follows in two bytes, also where one would
		// do.
		const finalText, masked = 0x81, 0x80
		r.After = append(r.After, finalText, masked|126)
		r.After = binary.BigEndian.AppendUint16(r.After, uint16(len(message)))
		r.After = append(r.After, 0, 0, 0, 0) // the mask
		r.After = append(r.After, message...)
	}
	return r
}
