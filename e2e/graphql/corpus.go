package graphql

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// The corpus: what the generator begins with. It is also sent as it stands, to each server without a gate, which tells
// how the servers differ (testdata/differences.txt).

// queries only read.
var queries = []string{
	`{a}`,
	`query A{a}`,
	`query A { a b node { a node { b } } }`,
	`query A($x: String = "d") { echo(x: $x) }`,
	`query A($i: Boolean = true) { a @include(if: $i) ...F } fragment F on Query { b }`,
	`fragment F on Query { b node { a } } query A { ...F }`,
	`query A{a} query B{b}`,
	`query mutation{mutation}`,
	`query subscription { subscription mutation: a }`,
	`{echo(x:"mutation M{b}")}`,
	`{echo(x:"""mutation M{b}""")}`,
	"{\n  echo(x: \"\"\"\n    a mutation\n    and a \"quote\"\n  \"\"\")\n}",
	`{echo(x:"""a \""" mutation M{b} """)}`,
	`{echo(x:"\" mutation M{b} \\")}`,
	"#mutation M{b}\n{a}",
	"{a} # mutation M{b}",
	"{a # }\n}",
	`{__schema{mutationType{name}}}`,
	`{x: __typename y: mutation}`,
	`fragment mutation on Query{a} {...mutation}`,
	`query A { a @skip(if: false) ... on Query @include(if: true) { b } }`,
}

// writes raise a counter, on a server that speaks GraphQL as the specification has it.
var writes = []string{
	`mutation{b}`,
	`mutation M{b}`,
	"mutation M {\n  a\n  b: bump\n}\n",
	`mutation M($x: String = "mutation") { echo(x: $x) }`,
	`mutation M @include(if: true) {b}`,
	`mutation M{...F} fragment F on Mutation{b}`,
	`fragment F on Mutation{b} mutation M{...F}`,
	`query A{a} mutation M{b}`,
	`mutation M{b} query A{a}`,
	`mutation mutation{mutation}`,
	`mutation query{query:b}`,
	`mutation M{echo(x:"{a}")}`,
	`mutation M{echo(x:"""query {a} \""" """)}`,
	`subscription{bump}`,
	`subscription S{bump}`,
	`query A{a} subscription S{bump}`,
}

// disputed are documents that some server takes for a mutation and the specification does not, or the other way round.
var disputed = []string{
	",,,mutation,M,{b}",
	"\ufeffmutation M{b}",
	"#x\rmutation M{b}",
	"#x\u2028mutation M{b}",
	"#x\u2029mutation M{b}",
	"#x\u0085mutation M{b}",
	"#x\vmutation M{b}",
	"#x\fmutation M{b}",
	"#x\x00mutation M{b}",
	"query A{a} #x\rmutation M{b}",
	"\vmutation M{b}",
	"\u00a0mutation M{b}",
	"\u3000mutation M{b}",
	"\u200bmutation M{b}",
	"\x00mutation M{b}",
	"mutation M{b}\x00",
	`"d" mutation M{b}`,
	`"""d""" mutation M{b}`,
	`"d" query A{a}`,
	`"mutation" query A{a}`,
	`query A{echo(x:"""\""")} mutation M{b} #""")}`,
	`query A{echo(x:""" \\""")} mutation M{b} #""")}`,
	`query A{echo(x:""" " """)} mutation M{b} #")}`,
	`query A{echo(x:"""" mutation M{b} """")}`,
	`query A{echo(x:"""""")} mutation M{b}`,
	`query A{echo(x:"""a""""mutation M{b}""")}`,
	`query A{echo(x:"""\\\""")} mutation M{b} #""")}`,
	`query A{echo(x:""" \""" """)} #""" mutation M{b}`,
	`query A{echo(x:"""\""" ") } mutation M{b} #""" """)}`,
	`query A{echo(x:"\\")} mutation M{b} #")}`,
	`query A{echo(x:"a\
")} mutation M{b}`,
	"query A{echo(x:\"a\n\")} mutation M{b} #\")}",
	`query A{echo(x:"\u0022)} mutation M{b} #")}`,
	`query A{echo(x:"\u{22})} mutation M{b} #")}`,
	`query A{echo(x:"\x22)} mutation M{b} #")}`,
	`\u006dutation M{b}`,
	`MUTATION M{b}`,
	`Mutation M{b}`,
	"mutat\u0131on M{b}",
	"\uff4dutation M{b}",
	"mutation\ufeffM{b}",
	"mutation#\nM{b}",
	`mutation M{b} type T{a:Int}`,
	`extend type Query{c:Int} mutation M{b}`,
	`query A{a} mutation M{b`,
	`query A{a}} mutation M{b}`,
	`query A{a} } { mutation M{b}`,
	`{a(x:1mutation M{b})}`,
	`0 mutation M{b}`,
	`... mutation M{b}`,
	`query A{a}mutation M{b}`,
	`query{a}subscription M{bump}`,
	`mutation(){b}`,
	`mutation M(){b}`,
	`query A @mutation {a} mutation M{b}`,
	"#é\nmutation M{b}",
	"#éééééééééé mutation M{b}\nquery A{a}",
	"#éééééééééééééééé\nquery A{a} mutation M{b}",
	`query A{echo(x:"ééééééééé mutation M{b}")}`,
	`query A{echo(x:"""éééééé""")  }#éé mutation M{b}`,
	`fragment on on Query{a} mutation M{b}`,
	`mutation M{b} mutation M{b}`,
	`mutation A{a} mutation B{b}`,
	``,
	` `,
	`#`,
}

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

func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(s)
	return strings.TrimSuffix(b.String(), "\n")
}

func post(name, contentType, body string) *differential.Request {
	r := &differential.Request{Method: "POST", Target: "/graphql", Body: []byte(body), Trail: []string{name}}
	if contentType != "" {
		r.Headers = [][2]string{{"Content-Type", contentType}}
	}
	return r
}

const (
	q = `{a}`
	m = `mutation M{b}`
)

// seeds are the requests of the corpus.
func seeds() []*differential.Request {
	var all []*differential.Request
	add := func(rs ...*differential.Request) { all = append(all, rs...) }
	js := func(name, body string) { add(post(name, "application/json", body)) }
	for _, group := range []struct {
		name string
		docs []string
	}{{"query", queries}, {"write", writes}, {"disputed", disputed}} {
		for _, doc := range group.docs {
			pairs := []string{`"query"`, quote(doc)}
			if group.name == "disputed" && strings.Contains(doc, "mutation M") {
				pairs = append(pairs, `"operationName"`, `"M"`)
			}
			js(group.name+": "+doc, object(pairs...))
		}
	}
	for _, name := range []string{"A", "M", "", "X"} {
		js("two operations, operationName "+quote(name), object(`"operationName"`, quote(name), `"query"`, quote(`query A{a} mutation M{b}`)))
	}
	js("two operations, operationName null", object(`"query"`, quote(`query A{a} mutation M{b}`), `"operationName"`, "null"))
	js("two operations, operationName 1", object(`"query"`, quote(`mutation M{b} query A{a}`), `"operationName"`, "1"))

	Q, M := quote(q), quote(m)
	for _, keys := range [][2]string{
		{`"query"`, `"query"`}, {`"query"`, `"Query"`}, {`"query"`, `"QUERY"`}, {`"Query"`, `"query"`}, {`"query"`, `"\u0071uery"`},
		{`"query"`, `"quer\u0079"`}, {`"query"`, `" query"`}, {`"query"`, `"query\u0000"`}, {`"query"`, `"mutation"`}, {`"query"`, `"documentId"`},
		{`"query"`, `"id"`}, {`"query"`, `"__proto__"`}, {`"query"`, `"operations"`}, {`"query"`, `"doc"`},
	} {
		js("keys "+keys[0]+" Q, "+keys[1]+" M", object(keys[0], Q, keys[1], M))
		js("keys "+keys[1]+" M, "+keys[0]+" Q", object(keys[1], M, keys[0], Q))
	}
	for _, key := range []string{`"QUERY"`, `"Query"`, `"\u0071uery"`, `"quer\u0059"`, `"__proto__"`, `'query'`, `query`, `"query "`} {
		js("key "+key+" M", object(key, M))
	}
	js("__proto__ holds the query", `{"__proto__":{"query":`+M+`}}`)
	js("query as a list", `{"query":[`+M+`]}`)
	js("query as an object", `{"query":{"query":`+M+`}}`)
	js("escapes in the document", `{"query":"\u006d\u0075\u0074ation\u0020M{b}"}`)
	js("surrogate in the document", `{"query":"mutation M{b}#\ud800"}`)
	js("variables as a string", object(`"query"`, M, `"variables"`, `"{}"`))
	js("extra key", object(`"query"`, M, `"debug"`, "true"))
	js("trailing mutation", object(`"query"`, Q)+object(`"query"`, M))
	js("trailing query", object(`"query"`, M)+object(`"query"`, Q))
	js("trailing text", object(`"query"`, M)+"x")
	js("trailing NUL", object(`"query"`, M)+"\x00")
	js("leading BOM", "\ufeff"+object(`"query"`, M))
	js("leading form feed", "\f"+object(`"query"`, M))
	js("NaN", object(`"query"`, M, `"x"`, "NaN"))
	js("comment", "/* */"+object(`"query"`, M))
	js("trailing comma", `{"query":`+M+`,}`)
	js("control character", "{\"query\":\"mutation\tM{b}\"}")
	js("invalid UTF-8", "{\"query\":\"mutation M{b}#\xff\"}")
	js("invalid UTF-8 within the keyword", "{\"query\":\"mut\xffation M{b}\"}")
	js("overlong UTF-8", "{\"query\":\"\xc1\xadutation M{b}\"}")
	js("large number", object(`"query"`, M, `"variables"`, `{"x":1e999}`))
	js("batch of queries", `[`+object(`"query"`, Q)+`,`+object(`"query"`, Q)+`]`)
	js("batch with a mutation", `[`+object(`"query"`, Q)+`,`+object(`"query"`, M)+`]`)
	js("batch of a mutation", `[`+object(`"query"`, M)+`]`)
	js("nested batch", `[[`+object(`"query"`, M)+`]]`)
	js("empty batch", `[]`)
	js("batch by index", `{"0":`+object(`"query"`, M)+`,"length":1}`)
	js("Rails batch", `{"_json":[`+object(`"query"`, M)+`]}`)
	js("string", M)
	js("null", `null`)
	js("empty object", `{}`)
	js("empty", ``)
	batch := post("graphene batch", "application/json", `[`+object(`"query"`, M)+`]`)
	batch.Target = "/graphql/batch"
	add(batch)

	body := object(`"query"`, M)
	for _, t := range []string{
		"", "application/json; charset=utf-8", "application/json;charset=UTF-8", `application/json; charset="utf-8"`, "APPLICATION/JSON", "application/json;",
		"application/json; charset=latin1", "application/json; charset=utf-16", "application/json; boundary=x", "application/json, text/plain",
		"text/plain, application/json", "application/graphql+json", "application/graphql-response+json", "application/vnd.api+json", "text/json",
		"application/x-json", "text/plain", "application/octet-stream", "application/graphql", "x", "application/x-www-form-urlencoded", "multipart/form-data",
		"application/json; charset=us-ascii", "application/json;charset=utf-8;charset=utf-16", " application/json",
	} {
		add(post("JSON as "+quote(t), t, body))
	}
	two := post("two types, JSON first", "application/json", body)
	two.Headers = append(two.Headers, [2]string{"Content-Type", "text/plain"})
	add(two)
	two = post("two types, form first", "application/x-www-form-urlencoded", "query="+url.QueryEscape(m))
	two.Headers = append(two.Headers, [2]string{"Content-Type", "application/json"})
	add(two)

	for _, e := range []string{"utf-16", "utf-16le", "utf-16be", "utf-32", "utf-7", "utf-8"} {
		add(post("body in "+e+", named", "application/json; charset="+e, string(differential.Transcode(e, body))))
		add(post("body in "+e+", not named", "application/json", string(differential.Transcode(e, body))))
		add(post("body in "+e+" with a BOM", "application/json", string(differential.Transcode(e, "\ufeff"+body))))
	}
	add(post("mutation in UTF-7 within an innocent document", "application/json; charset=utf-7", `{"query":"{a}+ACA-#","query":"+AG0-utation M{b}"}`))

	for _, e := range []string{"gzip", "deflate", "br", "x-gzip", "GZIP", "identity", "gzip, gzip", "deflate-raw"} {
		r := post("encoded by "+e, "application/json", string(differential.Compress(e, []byte(body))))
		r.Headers = append(r.Headers, [2]string{"Content-Encoding", strings.TrimSuffix(e, "-raw")})
		add(r)
	}

	form := "query=" + url.QueryEscape(m)
	add(post("form", "application/x-www-form-urlencoded", form),
		post("form, query twice", "application/x-www-form-urlencoded", "query="+url.QueryEscape(q)+"&"+form),
		post("form, query[]", "application/x-www-form-urlencoded", "query[]="+url.QueryEscape(m)),
		post("form, JSON as a key", "text/plain", body+"="),
		post("application/graphql", "application/graphql", m),
		post("application/graphql as text", "text/plain", m),
		post("multipart", "multipart/form-data; boundary=x", multipart("query", m)),
		post("multipart operations", "multipart/form-data; boundary=x", multipart("operations", body, "map", "{}")),
		post("multipart batch", "multipart/form-data; boundary=x", multipart("operations", "["+body+"]", "map", "{}")),
		post("multipart map into query", "multipart/form-data; boundary=x", multipart("operations", object(`"query"`, "null"), "map", `{"0":["query"]}`, "0", m)),
		post("multipart map over query", "multipart/form-data; boundary=x", multipart("operations", object(`"query"`, Q), "map", `{"0":["query"]}`, "0", m)))

	get := func(name, target string) *differential.Request {
		r := &differential.Request{Method: "GET", Target: target, Trail: []string{name}}
		add(r)
		return r
	}
	e := url.QueryEscape(m)
	get("GET query", "/graphql?query="+url.QueryEscape(q))
	get("GET", "/graphql?query="+e)
	get("GET twice", "/graphql?query="+url.QueryEscape(q)+"&query="+e)
	get("GET twice, mutation first", "/graphql?query="+e+"&query="+url.QueryEscape(q))
	get("GET %71uery", "/graphql?%71uery="+e)
	get("GET QUERY", "/graphql?QUERY="+e)
	get("GET query[]", "/graphql?query[]="+e)
	get("GET query[0]", "/graphql?query%5B0%5D="+e)
	get("GET after ;", "/graphql?x=1;query="+e)
	get("GET operationName", "/graphql?operationName=A&query="+url.QueryEscape("query A{a} mutation M{b}"))
	get("GET subscription", "/graphql?query="+url.QueryEscape("subscription{bump}")).Set("Accept", "text/event-stream")
	get("GET path case", "/GraphQL?query="+e)
	get("GET slash", "/graphql/?query="+e)
	get("GET below", "/graphql/x?query="+e)
	get("GET %67raphql", "/%67raphql?query="+e)
	get("GET //graphql", "//graphql?query="+e)
	get("GET ./graphql", "/./graphql?query="+e)
	get("GET ../graphql", "/x/../graphql?query="+e)
	get("GET ;params", "/graphql;x=1?query="+e)
	get("GET encoded ?", "/graphql%3Fquery="+e)
	get("GET absolute", "http://app.test/graphql?query="+e)
	get("GET fragment", "/graphql?x#?query="+e)
	r := get("GET body", "/graphql")
	r.Set("Content-Type", "application/json")
	r.Body = []byte(body)
	r = get("GET override", "/graphql?query="+e)
	r.Set("X-HTTP-Method-Override", "POST")
	r = get("GET override, body", "/graphql")
	r.Headers = [][2]string{{"X-HTTP-Method-Override", "POST"}, {"Content-Type", "application/json"}}
	r.Body = []byte(body)
	for _, method := range []string{"PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "QUERY", "post", "Post", "TRACE", "FOO"} {
		r := post(method, "application/json", body)
		r.Method = method
		add(r)
		r = get(method+", in the URL", "/graphql?query="+e)
		r.Method = method
	}
	r = post("POST, query in the URL", "application/json", object(`"query"`, Q))
	r.Target = "/graphql?query=" + e
	add(r)
	r = post("POST, all in the URL", "", "")
	r.Target = "/graphql?query=" + e
	add(r)

	for _, f := range []struct {
		framing differential.Framing
		name    string
	}{
		{differential.Chunked, "chunked"}, {differential.ManyChunks, "many chunks"}, {differential.Both, "length and chunked"}, {differential.Unfinished, "unfinished"}, {differential.None, "no length"},
	} {
		r := post(f.name, "application/json", body)
		r.Framing = f.framing
		add(r)
	}
	r = post("HTTP/1.0", "application/json", body)
	r.Version = "HTTP/1.0"
	add(r)
	r = post("Expect", "application/json", body)
	r.Set("Expect", "100-continue")
	add(r)
	r = post("pipelined", "application/json", object(`"query"`, Q))
	r.After = post("", "application/json", body).Bytes()
	add(r)

	for _, protocol := range []string{"graphql-transport-ws", "graphql-ws"} {
		add(websocket(protocol, m))
	}
	r = post("SSE", "application/json", object(`"query"`, quote(`subscription{bump}`)))
	r.Set("Accept", "text/event-stream")
	add(r)
	r = post("multipart subscription", "application/json", object(`"query"`, quote(`subscription{bump}`)))
	r.Set("Accept", "multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/json")
	add(r)

	hash := sha256Hex(m)
	ext := func(hash string) string { return `{"persistedQuery":{"version":1,"sha256Hash":"` + hash + `"}}` }
	js("hash with its mutation", object(`"query"`, M, `"extensions"`, ext(hash)))
	js("hash of a mutation, known", object(`"extensions"`, ext(hash)))
	js("hash of a mutation, known, beside a query", object(`"query"`, Q, `"extensions"`, ext(hash)))
	js("hash of a mutation, known, empty query", object(`"query"`, `""`, `"extensions"`, ext(hash)))
	js("hash of a mutation, known, query null", object(`"query"`, `null`, `"extensions"`, ext(hash)))
	js("hash of a mutation, known, in capitals", object(`"extensions"`, ext(strings.ToUpper(hash))))
	js("hash of a mutation, Mercurius' form", object(`"query"`, quote(hash), `"persisted"`, "true"))
	get("GET hash of a mutation, known", "/graphql?extensions="+url.QueryEscape(ext(hash)))
	return all
}
