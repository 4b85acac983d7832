package maintenance_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests that an invalid document is rejected, with an error that names the field by its
// JSON path and says what the field must be.

// TestInvalidDocumentsAreRejected has a document for each thing that may be wrong. In most of them
// the app at fault is the second one, apps[1].
func TestInvalidDocumentsAreRejected(t *testing.T) {
	// apps returns a document with the default app and this one. shop adds these fields to a valid
	// app, activation and window set one field of a valid activation or window in it, and match
	// gives the app another match.
	apps := func(app string) string { return `{"epoch":1,"revision":1,"apps":[{"name":"default"},` + app + `]}` }
	shop := func(rest string) string {
		return apps(`{"name":"shop","match":{"hosts":["shop.example.com"]},` + rest + `}`)
	}
	activation := func(field, value string) string {
		fields := map[string]string{"id": `"a"`, "source": `"manual"`, "mode": `"no-access"`, "since": `"2026-11-21T22:00:00Z"`}
		fields[field] = value
		var list []string
		for k, v := range fields {
			list = append(list, fmt.Sprintf("%q:%s", k, v))
		}

		return shop(`"activations":[{` + strings.Join(list, ",") + `}]`)
	}
	window := func(rest string) string { return shop(`"windows":[{"id":"w","mode":"no-access",` + rest + `}]`) }
	match := func(match string) string { return apps(`{"name":"shop","match":` + match + `}`) }

	for _, c := range []struct {
		name, doc string
		field     string // the JSON path in the error; "" for the document
		problem   string // part of the message of the error
	}{
		// Invalid JSON.
		{"empty", ``, "", "not valid JSON: it ends too early"},
		{"half", `{"apps":[`, "", "not valid JSON: it ends too early"},
		{"trailing text", `{"epoch":1} x`, "", "not valid JSON"},
		{"two documents", `{"epoch":1}{"epoch":2}`, "", "not valid JSON: there is more after its end"},
		{"byte order mark", "\ufeff{}", "", "not valid JSON"},
		{"comment", `{/* no */}`, "", "not valid JSON"},
		{"trailing comma", `{"epoch":1,}`, "", "not valid JSON"},
		{"not UTF-8", "{\"apps\":[{\"name\":\"\xff\"}]}", "", "not valid JSON: invalid UTF-8"},
		{"lone surrogate", `{"apps":[{"name":"\ud800"}]}`, "", "not valid JSON"},
		{"NaN", `{"epoch":NaN}`, "", "not valid JSON"},
		{"deep nesting", strings.Repeat("[", 1<<20), "", "must be an object, not a list"},
		{"deep nesting in a field", `{"apps":` + strings.Repeat("[", 1<<20), "apps[0]", "must be an object, not a list"},

		// The document.
		{"list", `[]`, "", "must be an object, not a list"},
		{"null", `null`, "", "must be an object, not null"},
		{"unknown field", `{"epoch":1,"colour":"red"}`, "colour", "unknown field"},
		{"letter case of a field", `{"Epoch":1}`, "Epoch", "unknown field"},
		{"duplicate field", `{"epoch":1,"epoch":2}`, "epoch", "given twice"},
		{"duplicate by escape", `{"epoch":1,"\u0065poch":2}`, "epoch", "given twice"},
		{"duplicate in an app", apps(`{"name":"shop","match":{"paths":["/a"],"paths":["/b"]}}`), "apps[1].match.paths", "given twice"},
		{"duplicate with a slash in its name", `{"a/b~":1,"a/b~":2}`, "a/b~", "unknown field"},
		{"endless field name", `{"` + strings.Repeat("x", 5000) + `":1}`, "", "has a field with a name of 5000 bytes, more than 4096"},
		{"epoch a string", `{"epoch":"1"}`, "epoch", "must be a whole number of 0 or more, not a string"},
		{"epoch negative", `{"epoch":-1}`, "epoch", "must be a whole number of 0 or more"},
		{"epoch minus zero", `{"epoch":-0}`, "epoch", "must be a whole number of 0 or more"},
		{"epoch a fraction", `{"epoch":1.5}`, "epoch", "must be a whole number of 0 or more"},
		{"epoch in scientific notation", `{"epoch":1e3}`, "epoch", "must be a whole number of 0 or more"},
		{"epoch too large", `{"epoch":18446744073709551616}`, "epoch", "must be a whole number of 0 or more"},
		{"revision null", `{"revision":null}`, "revision", "must be a whole number of 0 or more, not null"},
		{"apps an object", `{"apps":{}}`, "apps", "must be a list, not an object"},
		{"newer format", `{"format":2,"apps":[{"name":"default","drains":[]}]}`, "format", "2 is newer than 1, the newest that this module reads; update drydock.wasm"},
		{"app a string", `{"apps":["shop"]}`, "apps[0]", "must be an object, not a string"},
		{"too many apps", `{"apps":[` + strings.Repeat(`{},`, maintenance.MaxApps) + `{}]}`, "apps", "at most 2000 entries"},

		// Names.
		{"no name", apps(`{"match":{"paths":["/a"]}}`), "apps[1].name", `"" must be 1 to 63 of a-z`},
		{"upper case name", apps(`{"name":"Shop"}`), "apps[1].name", `"Shop" must be`},
		{"name with a slash", apps(`{"name":"a/b"}`), "apps[1].name", "must be"},
		{"name begins with a hyphen", apps(`{"name":"-a"}`), "apps[1].name", "must be"},
		{"name too long", apps(`{"name":"` + strings.Repeat("a", 64) + `"}`), "apps[1].name", "must be"},
		{"endless name", apps(`{"name":"` + strings.Repeat("a", 5000) + `"}`), "apps[1].name", "at most 4096 bytes, not 5000"},
		{"two apps of a name", apps(`{"name":"default"}`), "apps[1].name", `there are two apps named "default"`},
		{"name a number", apps(`{"name":7}`), "apps[1].name", "must be a string, not a number"},
		{"unknown field of an app", apps(`{"name":"shop","Match":{}}`), "apps[1].Match", "unknown field"},

		// Matches.
		{"empty match", match(`{}`), "apps[1].match", "must not be empty"},
		{"null lists only", match(`{"hosts":null,"paths":null,"routes":null,"clusters":null}`), "apps[1].match", "must not be empty"},
		{"default with a match", `{"apps":[{"name":"default","match":{"paths":["/"]}}]}`, "apps[0].match", "must be empty"},
		{"match a list", match(`["/a"]`), "apps[1].match", "must be an object, not a list"},
		{"host a number", match(`{"hosts":[1]}`), "apps[1].match.hosts[0]", "must be a string, not a number"},
		{"host empty", match(`{"hosts":[""]}`), "apps[1].match.hosts[0]", "leave hosts out to match every host"},
		{"host of any", match(`{"hosts":["*"]}`), "apps[1].match.hosts[0]", "leave hosts out to match every host"},
		{"host a dot", match(`{"hosts":["."]}`), "apps[1].match.hosts[0]", "must be a host name"},
		{"host with a scheme", match(`{"hosts":["https://shop.example.com"]}`), "apps[1].match.hosts[0]", "without scheme and path"},
		{"host with a path", match(`{"hosts":["shop.example.com/x"]}`), "apps[1].match.hosts[0]", "without scheme and path"},
		{"host with a port", match(`{"hosts":["a","shop.example.com:8080"]}`), "apps[1].match.hosts[1]", "must not have a port"},
		{"host with a user", match(`{"hosts":["me@shop.example.com"]}`), "apps[1].match.hosts[0]", "must be a host name"},
		{"inner wildcard", match(`{"hosts":["shop.*.com"]}`), "apps[1].match.hosts[0]", "must be a host name or *.name"},
		{"wildcard without a dot", match(`{"hosts":["*example.com"]}`), "apps[1].match.hosts[0]", "must be a host name or *.name"},
		{"host with a blank", match(`{"hosts":["shop example"]}`), "apps[1].match.hosts[0]", "must be a host name"},
		{"host in Unicode", match(`{"hosts":["bücher.example"]}`), "apps[1].match.hosts[0]", "xn--"},
		{"path without slash", match(`{"paths":["a"]}`), "apps[1].match.paths[0]", "must begin with /"},
		{"path empty", match(`{"paths":[""]}`), "apps[1].match.paths[0]", "must begin with /"},
		{"path with a query", match(`{"paths":["/a?b"]}`), "apps[1].match.paths[0]", "must begin with /"},
		{"path encoded", match(`{"paths":["/a%20b"]}`), "apps[1].match.paths[0]", "must begin with /"},
		{"path with parameters", match(`{"paths":["/a;b"]}`), "apps[1].match.paths[0]", "must begin with /"},
		{"path with a dot segment", match(`{"paths":["/a/../b"]}`), "apps[1].match.paths[0]", "must begin with /"},
		{"path with a double slash", match(`{"paths":["/a//b"]}`), "apps[1].match.paths[0]", "must begin with /"},
		{"path with a backslash", match(`{"paths":["/a\\b"]}`), "apps[1].match.paths[0]", "must begin with /"},
		{"path in Unicode", match(`{"paths":["/é"]}`), "apps[1].match.paths[0]", "must begin with /"},
		{"route empty", match(`{"routes":[""]}`), "apps[1].match.routes[0]", "must not be empty"},
		{"cluster empty", match(`{"clusters":["a",""]}`), "apps[1].match.clusters[1]", "must not be empty"},
		{"too many places", match(manyHostsAndPaths(400)), "apps[1].match", "with the 400 hosts times 400 paths here, the apps have more than 100000"},

		// Bypass.
		{"bad address", shop(`"bypass":{"ips":["10.0.0.1","10.0.0.256"]}`), "apps[1].bypass.ips[1]", `"10.0.0.256" must be an address or CIDR`},
		{"host name as address", shop(`"bypass":{"ips":["localhost"]}`), "apps[1].bypass.ips[0]", "must be an address or CIDR"},
		{"leading zeros", shop(`"bypass":{"ips":["010.0.0.1"]}`), "apps[1].bypass.ips[0]", "must be an address or CIDR"},
		{"zone", shop(`"bypass":{"ips":["fe80::1%eth0"]}`), "apps[1].bypass.ips[0]", "must be an address or CIDR"},
		{"no prefix length", shop(`"bypass":{"ips":["10.0.0.0/"]}`), "apps[1].bypass.ips[0]", "must have a prefix length of 0 to 32 after the /"},
		{"prefix too long", shop(`"bypass":{"ips":["10.0.0.0/33"]}`), "apps[1].bypass.ips[0]", "must have a prefix length of 0 to 32 after the /"},
		{"prefix of IPv6 too long", shop(`"bypass":{"ips":["2001:db8::/129"]}`), "apps[1].bypass.ips[0]", "must have a prefix length of 0 to 128 after the /"},
		{"netmask", shop(`"bypass":{"ips":["10.0.0.0/255.0.0.0"]}`), "apps[1].bypass.ips[0]", "must have a prefix length"},
		{"host bits", shop(`"bypass":{"ips":["10.0.0.7/8"]}`), "apps[1].bypass.ips[0]", "must not have bits set after its prefix; write 10.0.0.0/8, or 10.0.0.7 for the one address"},
		{"host bits of IPv6", shop(`"bypass":{"ips":["2001:db8::1/32"]}`), "apps[1].bypass.ips[0]", "write 2001:db8::/32, or 2001:db8::1 for the one address"},
		{"host bits of mapped IPv4", shop(`"bypass":{"ips":["::ffff:10.0.0.7/104"]}`), "apps[1].bypass.ips[0]", "write 10.0.0.0/8, or 10.0.0.7 for the one address"},
		{"wider than mapped IPv4", shop(`"bypass":{"ips":["::ffff:0.0.0.0/95"]}`), "apps[1].bypass.ips[0]", "more than the IPv4-mapped addresses"},
		{"too many CIDRs", shop(`"bypass":{"ips":[` + strings.Repeat(`"::1",`, maintenance.MaxCIDRs) + `"::1"]}`), "apps[1].bypass.ips", "at most 20000 entries"},
		{"claim without issuer", shop(`"bypass":{"claims":[{"claim":["a"]}]}`), "apps[1].bypass.claims[0].issuer", "is required"},
		{"values without claim", shop(`"bypass":{"claims":[{"issuer":"i","values":["a"]}]}`), "apps[1].bypass.claims[0].claim", "is required if there are values"},
		{"empty step of a claim", shop(`"bypass":{"claims":[{"issuer":"i","claim":["a",""]}]}`), "apps[1].bypass.claims[0].claim[1]", "must not be empty"},
		{"claim a string", shop(`"bypass":{"claims":[{"issuer":"i","claim":"role"}]}`), "apps[1].bypass.claims[0].claim", "must be a list, not a string"},
		{"value null", shop(`"bypass":{"claims":[{"issuer":"i","claim":["a"],"values":["x",null]}]}`), "apps[1].bypass.claims[0].values[1]", "must be a string, a number or a boolean, not null"},
		{"value a list", shop(`"bypass":{"claims":[{"issuer":"i","claim":["a"],"values":[["x"]]}]}`), "apps[1].bypass.claims[0].values[0]", "must be a string, a number or a boolean, not a list"},
		{"value too large", shop(`"bypass":{"claims":[{"issuer":"i","claim":["a"],"values":[1e999]}]}`), "apps[1].bypass.claims[0].values[0]", "is too large"},
		{"value that is not an exact number", shop(`"bypass":{"claims":[{"issuer":"i","claim":["a"],"values":[7,9007199254740993]}]}`), "apps[1].bypass.claims[0].values[1]", "below 2^53"},
		{"unknown field of a claim", shop(`"bypass":{"claims":[{"issuer":"i","value":"x"}]}`), "apps[1].bypass.claims[0].value", "unknown field"},
		{"principal of all", shop(`"bypass":{"principals":["*"]}`), "apps[1].bypass.principals[0]", "would let every peer pass"},
		{"principal empty", shop(`"bypass":{"principals":[""]}`), "apps[1].bypass.principals[0]", "would let every peer pass"},
		{"inner wildcard of a principal", shop(`"bypass":{"principals":["spiffe://*/ns/ops"]}`), "apps[1].bypass.principals[0]", "only at its end"},

		// Rules.
		{"rule with neither", shop(`"exempt":[{"methods":["GET"]}]`), "apps[1].exempt[0]", "must have either path or prefix"},
		{"rule with both", shop(`"exempt":[{"path":"/a","prefix":"/b"}]`), "apps[1].exempt[0]", "must have either path or prefix"},
		{"rule with a bad path", shop(`"exempt":[{"path":"/a"},{"path":"/a/./b"}]`), "apps[1].exempt[1]", "must begin with /"},
		{"lower case method", shop(`"exempt":[{"path":"/a","methods":["GET","post"]}]`), "apps[1].exempt[0].methods[1]", `"post" must be a method in upper case`},
		{"empty method", shop(`"exempt":[{"path":"/a","methods":[""]}]`), "apps[1].exempt[0].methods[0]", "must be a method"},
		{"method no token", shop(`"exempt":[{"path":"/a","methods":["GE T"]}]`), "apps[1].exempt[0].methods[0]", "must be a method"},
		{"write_through", shop(`"read_only":{"write_through":[{}]}`), "apps[1].read_only.write_through[0]", "must have either path or prefix"},
		{"get_writes", shop(`"read_only":{"get_writes":[{"path":"x"}]}`), "apps[1].read_only.get_writes[0]", "must begin with /"},
		{"safe RPC without a service", shop(`"read_only":{"safe_rpcs":["/Get"]}`), "apps[1].read_only.safe_rpcs[0]", "must be /package.Service/Method"},
		{"safe RPC without a slash", shop(`"read_only":{"safe_rpcs":["shop.Shop/Get"]}`), "apps[1].read_only.safe_rpcs[0]", "must be /package.Service/Method"},
		{"safe RPC with a wildcard", shop(`"read_only":{"safe_rpcs":["/shop.Shop/"]}`), "apps[1].read_only.safe_rpcs[0]", "must be /package.Service/Method"},
		{"policy", shop(`"read_only":{"upgrades":"yes"}`), "apps[1].read_only.upgrades", `"yes" must be refuse or allow`},
		{"event stream policy", shop(`"read_only":{"event_streams":"deny"}`), "apps[1].read_only.event_streams", `"deny" must be refuse or allow`},

		// GraphQL.
		{"graphql without paths", shop(`"graphql":{"batching":true}`), "apps[1].graphql.paths", "is required; write [] if no path serves GraphQL"},
		{"graphql null paths", shop(`"graphql":{"paths":null}`), "apps[1].graphql.paths", "is required"},
		{"graphql path", shop(`"graphql":{"paths":["graphql"]}`), "apps[1].graphql.paths[0]", "must begin with /"},
		{"batching a string", shop(`"graphql":{"paths":[],"batching":"yes"}`), "apps[1].graphql.batching", "must be true or false, not a string"},
		{"persisted too short", shop(`"graphql":{"paths":[],"persisted":["abc"]}`), "apps[1].graphql.persisted[0]", "must be a SHA-256 as 64 hex digits"},
		{"persisted no hex", shop(`"graphql":{"paths":[],"persisted":["` + strings.Repeat("x", 64) + `"]}`), "apps[1].graphql.persisted[0]", "must be a SHA-256 as 64 hex digits"},
		{"max_body too large", shop(`"graphql":{"paths":[],"max_body":16777217}`), "apps[1].graphql.max_body", "must be 0 (the default) to 16777216"},
		{"max_depth too large", shop(`"graphql":{"paths":[],"max_depth":1025}`), "apps[1].graphql.max_depth", "must be 0 (the default) to 1024"},
		{"max_tokens negative", shop(`"graphql":{"paths":[],"max_tokens":-1}`), "apps[1].graphql.max_tokens", "must be a whole number of 0 or more"},
		{"max_batch too large", shop(`"graphql":{"paths":[],"max_batch":2147483648}`), "apps[1].graphql.max_batch", "must be at most 2147483647"},
		{"extra keys", shop(`"graphql":{"paths":[],"extra_keys":[` + strings.Repeat(`"k",`, 60) + `"k"]}`), "apps[1].graphql.extra_keys", "at most 60 entries, not 61"},
		{"graphql policy", shop(`"graphql":{"paths":[],"upgrades":"on"}`), "apps[1].graphql.upgrades", "must be refuse or allow"},

		// Replies.
		{"retry_after a string", shop(`"retry_after":"1h"`), "apps[1].retry_after", "must be a whole number of 0 or more, not a string"},
		{"page no hash", shop(`"pages":{"en":"<h1>"}`), "apps[1].pages.en", "upload the page first"},
		{"fallback page no string", shop(`"pages":{"":1}`), `apps[1].pages[""]`, "must be a string, not a number"},
		{"fallback page no hash", shop(`"pages":{"":"x"}`), `apps[1].pages[""]`, "upload the page first"},
		{"page hash in upper case", shop(`"pages":{"en":"` + strings.Repeat("A", 64) + `"}`), "apps[1].pages.en", "64 lower-case hex digits"},
		{"page language", shop(`"pages":{"english!":"` + strings.Repeat("a", 64) + `"}`), "apps[1].pages.english!", "must be a language tag"},
		{"page language of a part too long", shop(`"pages":{"en-abcdefghi":"` + strings.Repeat("a", 64) + `"}`), "apps[1].pages.en-abcdefghi", "must be a language tag"},
		{"too many pages", shop(`"pages":{` + manyPages(201) + `}`), "apps[1].pages", "at most 200 entries, not 201"},
		{"unknown field of a match", match(`{"host":"a"}`), "apps[1].match.host", "unknown field"},
		{"unknown field of a bypass", shop(`"bypass":{"ip":[]}`), "apps[1].bypass.ip", "unknown field"},
		{"unknown field of a rule", shop(`"exempt":[{"path":"/a","method":"GET"}]`), "apps[1].exempt[0].method", "unknown field"},
		{"unknown field of read_only", shop(`"read_only":{"writes":[]}`), "apps[1].read_only.writes", "unknown field"},
		{"unknown field of graphql", shop(`"graphql":{"paths":[],"path":"/x"}`), "apps[1].graphql.path", "unknown field"},
		{"unknown field of cors", shop(`"cors":{"origin":"x"}`), "apps[1].cors.origin", "unknown field"},
		{"unknown field of a window", window(`"rrule":"x"`), "apps[1].windows[0].rrule", "unknown field"},
		{"page twice", shop(`"pages":{"en":"","en":""}`), "apps[1].pages.en", "given twice"},
		{"origin any", shop(`"cors":{"origins":["*"]}`), "apps[1].cors.origins[0]", "must be an origin"},
		{"origin null", shop(`"cors":{"origins":["null"]}`), "apps[1].cors.origins[0]", "must be an origin"},
		{"origin with a path", shop(`"cors":{"origins":["https://a.example/"]}`), "apps[1].cors.origins[0]", "must be an origin"},
		{"origin in upper case", shop(`"cors":{"origins":["https://A.example"]}`), "apps[1].cors.origins[0]", "must be an origin"},
		{"origin with its scheme's port", shop(`"cors":{"origins":["http://a.example:8080","https://a.example:443"]}`), "apps[1].cors.origins[1]", "no default port"},
		{"origin of another scheme", shop(`"cors":{"origins":["ftp://a.example"]}`), "apps[1].cors.origins[0]", "must be an origin"},
		{"origin without scheme", shop(`"cors":{"origins":["a.example"]}`), "apps[1].cors.origins[0]", "must be an origin"},

		// Activations.
		{"no id", activation("id", `""`), "apps[1].activations[0].id", "must be present and unique"},
		{"two of an id", shop(`"activations":[{"id":"a","source":"manual","mode":"no-access","since":"2026-11-21T22:00:00Z"},{"id":"a","source":"manual","mode":"no-access","since":"2026-11-21T22:00:00Z"}]`), "apps[1].activations[1].id", "must be present and unique"},
		{"source", activation("source", `"cron"`), "apps[1].activations[0].source", `"cron" must be manual, window, file or resource`},
		{"mode", activation("mode", `"closed"`), "apps[1].activations[0].mode", `"closed" must be ` + maintenance.ModeList()},
		{"mode off", activation("mode", `"off"`), "apps[1].activations[0].mode", "must be " + maintenance.ModeList()},
		{"no since", activation("since", `"0001-01-01T00:00:00Z"`), "apps[1].activations[0].since", "is required"},
		{"since a number", activation("since", `1763762400`), "apps[1].activations[0].since", "must be a string, not a number"},
		{"since without zone", activation("since", `"2026-11-21T22:00:00"`), "apps[1].activations[0].since", "must be an RFC 3339 time, such as 2026-11-21T22:00:00Z"},
		{"since without T", activation("since", `"2026-11-21 22:00:00Z"`), "apps[1].activations[0].since", "must be an RFC 3339 time"},
		{"since in no month", activation("since", `"2026-13-21T22:00:00Z"`), "apps[1].activations[0].since", "must be an RFC 3339 time"},
		{"zone of 25 hours", activation("since", `"2026-11-21T22:00:00+25:00"`), "apps[1].activations[0].since", "must be an RFC 3339 time"},
		{"until before since", activation("until", `"2026-11-21T21:00:00Z"`), "apps[1].activations[0].until", "must be after since"},
		{"until at since", activation("until", `"2026-11-21T23:00:00+01:00"`), "apps[1].activations[0].until", "must be after since"},
		{"message with a control character", activation("message", `"a\u0007"`), "apps[1].activations[0].message", "without control characters"},
		{"message too long", activation("message", `"`+strings.Repeat("a", 4097)+`"`), "apps[1].activations[0].message", "at most 4096 bytes, not 4097"},
		{"unknown field of an activation", activation("actor", `"bob"`), "apps[1].activations[0].actor", "unknown field"},

		// Windows.
		{"window without id", shop(`"windows":[{"mode":"no-access"}]`), "apps[1].windows[0].id", "must be a name"},
		{"window mode", shop(`"windows":[{"id":"w","mode":"off"}]`), "apps[1].windows[0].mode", "must be " + maintenance.ModeList()},
		{"windows of one id", shop(`"windows":[{"id":"w","mode":"no-access"},{"id":"w","mode":"no-access"}]`), "apps[1].windows[1].id", "unique in its app"},
		{"announce", window(`"announce":31622401`), "apps[1].windows[0].announce", "must be seconds, 0 to a year"},
		{"window message", window(`"message":"a\u0000b"`), "apps[1].windows[0].message", "without control characters"},
		{"occurrence without start", window(`"occurrences":[{"end":"2026-11-21T22:00:00Z"}]`), "apps[1].windows[0].occurrences[0].start", "is required"},
		{"occurrence without end", window(`"occurrences":[{"start":"2026-11-21T22:00:00Z"}]`), "apps[1].windows[0].occurrences[0].end", "must be after start"},
		{"occurrence of no length", window(`"occurrences":[{"start":"2026-11-21T22:00:00Z","end":"2026-11-21T22:00:00Z"}]`), "apps[1].windows[0].occurrences[0].end", "must be after start"},
		{"too many occurrences", window(`"occurrences":[` + strings.Repeat(`{},`, maintenance.MaxOccurrences) + `{}]`), "apps[1].windows[0].occurrences", "at most 64 entries"},
		{"unknown field of an occurrence", window(`"occurrences":[{"rrule":"FREQ=DAILY"}]`), "apps[1].windows[0].occurrences[0].rrule", "unknown field"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := maintenance.Parse([]byte(c.doc))
			if err == nil || s != nil {
				t.Fatal("the document was accepted")
			}
			if strings.HasPrefix(c.problem, "not valid JSON") { // such an error has no field
				if !errors.Is(err, maintenance.ErrJSON) || !strings.Contains(err.Error(), c.problem) {
					t.Errorf("got %v", err)
				}
				return
			}

			var fe *maintenance.FieldError
			if !errors.As(err, &fe) {
				t.Fatalf("no FieldError: %v", err)
			}
			if fe.Field != c.field || !strings.Contains(fe.Problem, c.problem) {
				t.Errorf("got  %s: %s\nwant %s: … %s …", fe.Field, fe.Problem, c.field, c.problem)
			}
			// An error must not repeat a value of any length. The longest contains a name of 4096
			// bytes.
			if len(err.Error()) > 6000 {
				t.Errorf("the error is %d bytes long", len(err.Error()))
			}
		})
	}
}

// manyHostsAndPaths returns a match of n hosts and n paths, as JSON.
func manyHostsAndPaths(n int) string {
	var hosts, paths []string
	for i := range n {
		hosts = append(hosts, fmt.Sprintf("h%d.example.com", i))
		paths = append(paths, fmt.Sprintf("/p%d", i))
	}
	b, _ := json.Marshal(maintenance.Match{Hosts: hosts, Paths: paths})
	return string(b)
}

// manyPages returns n members of the field pages, as JSON.
func manyPages(n int) string {
	var pages []string
	for i := range n {
		pages = append(pages, fmt.Sprintf("\"en-%d\":%q", i, strings.Repeat("a", 64)))
	}
	return strings.Join(pages, ",")
}

// TestCompileChecksWhatJSONCannotSay checks documents that a Go program may build, and that Parse
// would reject while it reads their JSON: negative numbers, for example.
func TestCompileChecksWhatJSONCannotSay(t *testing.T) {
	for _, c := range []struct {
		name  string
		spec  maintenance.Spec
		field string
	}{
		{"negative retry_after", maintenance.Spec{RetryAfter: -1}, "apps[0].retry_after"},
		{"negative max_batch", maintenance.Spec{GraphQL: &maintenance.GraphQL{Paths: []string{}, MaxBatch: -1}}, "apps[0].graphql.max_batch"},
		{"negative announce", maintenance.Spec{Windows: []maintenance.Window{{ID: "w", Mode: maintenance.ReadOnly, Announce: -1}}}, "apps[0].windows[0].announce"},
		{"too many occurrences", maintenance.Spec{Windows: []maintenance.Window{{ID: "w", Mode: maintenance.ReadOnly, Occurrences: make([]maintenance.Occurrence, 65)}}}, "apps[0].windows[0].occurrences"},
		{"a claim's value that is a list", maintenance.Spec{Bypass: maintenance.Bypass{Claims: []maintenance.ClaimRule{{Issuer: "i", Claim: []string{"a"}, Values: []any{[]any{"x"}}}}}}, "apps[0].bypass.claims[0].values[0]"},
		{"a message that is not UTF-8", maintenance.Spec{Windows: []maintenance.Window{{ID: "w", Mode: maintenance.ReadOnly, Message: "\xff"}}}, "apps[0].windows[0].message"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spec.Name = maintenance.DefaultApp
			_, err := maintenance.Compile(maintenance.Document{Apps: []maintenance.App{{Spec: c.spec}}})
			var fe *maintenance.FieldError

			if !errors.As(err, &fe) || fe.Field != c.field {
				t.Errorf("got %v, want an error of %s", err, c.field)
			}
		})
	}

	tooMany := maintenance.Document{Apps: make([]maintenance.App, maintenance.MaxApps+1)}
	if _, err := maintenance.Compile(tooMany); err == nil {
		t.Error("more than MaxApps were accepted")
	}
}

// TestOverlappingMatchesAreRejected checks the combinations of matches in which one request could
// match two apps equally well. The field in the error is that of the second app, and the message
// names the first. All other combinations are valid.
func TestOverlappingMatchesAreRejected(t *testing.T) {
	for _, c := range []struct {
		name     string
		one, two string // the matches of the apps of these names
		field    string // in the error; "" if the matches do not overlap
	}{
		{"host", `{"hosts":["a.example"]}`, `{"hosts":["a.example"]}`, "apps[1].match"},
		{"host in other letter case", `{"hosts":["a.example"]}`, `{"hosts":["A.Example"]}`, "apps[1].match"},
		{"host with a last dot", `{"hosts":["a.example"]}`, `{"hosts":["a.example."]}`, "apps[1].match"},
		{"one of the hosts", `{"hosts":["a.example","b.example"]}`, `{"hosts":["c.example","b.example"]}`, "apps[1].match"},
		{"wildcard", `{"hosts":["*.example"]}`, `{"hosts":["*.EXAMPLE."]}`, "apps[1].match"},
		{"path", `{"paths":["/a"]}`, `{"paths":["/a"]}`, "apps[1].match"},
		{"path with a last slash", `{"paths":["/a"]}`, `{"paths":["/a/"]}`, "apps[1].match"},
		{"path in other letter case", `{"paths":["/a"]}`, `{"paths":["/A"]}`, "apps[1].match"},
		{"host and path", `{"hosts":["a.example"],"paths":["/a"]}`, `{"hosts":["a.example"],"paths":["/b","/a"]}`, "apps[1].match"},
		{"host, and host with the root", `{"hosts":["a.example"]}`, `{"hosts":["a.example"],"paths":["/"]}`, "apps[1].match"},
		{"route", `{"routes":["r"]}`, `{"routes":["q","r"]}`, "apps[1].match.routes[1]"},
		{"cluster", `{"clusters":["c"]}`, `{"clusters":["c"]}`, "apps[1].match.clusters[0]"},
		{"route beside a path", `{"routes":["r"],"paths":["/a"]}`, `{"routes":["r"],"paths":["/b"]}`, "apps[1].match.routes[0]"},
		{"path beside a route", `{"routes":["r"],"paths":["/a"]}`, `{"routes":["q"],"paths":["/a"]}`, "apps[1].match"},

		{"host and wildcard", `{"hosts":["a.example"]}`, `{"hosts":["*.example"]}`, ""},
		{"wildcard and name", `{"hosts":["*.example"]}`, `{"hosts":["example"]}`, ""},
		{"wildcards", `{"hosts":["*.example"]}`, `{"hosts":["*.a.example"]}`, ""},
		{"path below", `{"paths":["/a"]}`, `{"paths":["/a/b"]}`, ""},
		{"path of the same letters", `{"paths":["/a"]}`, `{"paths":["/ab"]}`, ""},
		{"host and path", `{"hosts":["a.example"]}`, `{"paths":["/a"]}`, ""},
		{"same path on another host", `{"hosts":["a.example"],"paths":["/a"]}`, `{"hosts":["b.example"],"paths":["/a"]}`, ""},
		{"route and cluster of a name", `{"routes":["x"]}`, `{"clusters":["x"]}`, ""},
		{"routes in other letter case", `{"routes":["r"]}`, `{"routes":["R"]}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := maintenance.Parse([]byte(`{"apps":[{"name":"one","match":` + c.one + `},{"name":"two","match":` + c.two + `}]}`))
			var fe *maintenance.FieldError
			switch {
			case c.field == "" && err != nil:
				t.Error(err)
			case c.field == "":
			case !errors.As(err, &fe) || fe.Field != c.field || !strings.Contains(fe.Problem, `is also in app "one"`):
				t.Errorf("got %v, want an overlap with app one at %s", err, c.field)
			}
		})
	}

	// One app must not have a path twice either.
	if _, err := maintenance.Parse([]byte(`{"apps":[{"name":"one","match":{"paths":["/a","/a/"]}}]}`)); err == nil {
		t.Error("a path given twice was accepted")
	}
}

// The name of an app becomes part of file names and keys, so it must be a DNS label.
func TestAppNamesAreLabels(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "shop": true, "shop-2": true, "0": true, strings.Repeat("a", 63): true,
		"": false, "Shop": false, "a_b": false, "a.b": false, "a/b": false, "..": false, "-a": false, "a-": false, "ä": false, strings.Repeat("a", 64): false,
	} {
		_, err := maintenance.Compile(maintenance.Document{Apps: []maintenance.App{{Spec: maintenance.Spec{Name: name, Match: maintenance.Match{Paths: []string{"/"}}}}}})
		if (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
