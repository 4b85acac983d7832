package maintenance_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests that valid documents are read as they are. Invalid ones are in check_test.go.

// Parse must read the same from a document as encoding/json, because the controller uses both.
func TestParseReadsEverything(t *testing.T) {
	data := everythingJSON(t)
	var want maintenance.Document
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}

	got := mustParse(t, string(data)).Document()
	if g, w := marshal(t, got), marshal(t, want); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}

	// The comparison proves little for a field that the file does not have, or that both readers do
	// not know. So the document must be as long as the file, read without a type.
	var raw any

	if err := json.Unmarshal(data, &raw); err != nil {
		t.Fatal(err)
	}
	if g, w := marshal(t, got), marshal(t, raw); len(g) != len(w) {
		t.Errorf("some field of testdata/everything.json does not come back:\n%s\n%s", g, w)
	}
}

// TestLargestDocumentIsAccepted checks that a large document is accepted and works: 10,000 CIDRs,
// 1,000 apps and five megabytes. One that is larger than the bound is rejected.
func TestLargestDocumentIsAccepted(t *testing.T) {
	var ips []string
	for i := range 10_000 {
		ips = append(ips, fmt.Sprintf("10.%d.%d.0/24", i/256, i%256))
	}

	doc := maintenance.Document{Apps: []maintenance.App{{
		Spec:        maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{IPs: ips}},
		Activations: []maintenance.Activation{{ID: "a", Source: maintenance.SourceManual, Mode: maintenance.NoAccess, Since: time.Unix(1, 0)}},
	}}}

	for i := range 1_000 {
		doc.Apps = append(doc.Apps, maintenance.App{Spec: maintenance.Spec{
			Name:  fmt.Sprintf("app-%d", i),
			Match: maintenance.Match{Hosts: []string{fmt.Sprintf("app%d.example.com", i)}, Paths: []string{"/a", "/b"}},
			// The messages of the windows make up the five megabytes.
			Windows: []maintenance.Window{
				{ID: "w", Mode: maintenance.ReadOnly, Message: strings.Repeat("x", 4096), Occurrences: []maintenance.Occurrence{}},
				{ID: "x", Mode: maintenance.ReadOnly, Message: strings.Repeat("x", 1024), Occurrences: []maintenance.Occurrence{}},
			},
		}})
	}

	text := marshal(t, doc)
	if len(text) < 5<<20 {
		t.Fatalf("only %d bytes", len(text))
	}

	begin := time.Now()
	s := mustParse(t, text)
	t.Logf("%d bytes in %v", len(text), time.Since(begin))

	if got := marshal(t, s.Document()); got != text {
		t.Error("the document does not come back as it was")
	}

	for ip, want := range map[string]maintenance.Verdict{"10.39.15.7:1": maintenance.Pass, "10.39.16.7:1": maintenance.Refuse} {
		r := get("other.example", "/")
		r.Attributes = &attributes{source: ip}
		if d := s.Decide(r, noon); d.Verdict != want {
			t.Errorf("%s: %v by %s", ip, d.Verdict, d.Rule)
		}
	}

	if d := s.Decide(get("app999.example.com", "/b/x"), noon); d.App != "app-999" {
		t.Errorf("app %s", d.App)
	}

	huge := append(append([]byte(`{"epoch":1`), strings.Repeat(" ", maintenance.MaxDocumentBytes)...), '}')
	if _, err := maintenance.Parse(huge); err == nil || !strings.Contains(err.Error(), "a document may have at most 16777216") {
		t.Errorf("got %v", err)
	}
}

// What was read must be written as JSON that the schema of the API accepts, with empty lists and
// not null.
func TestParsedListsAreNotNull(t *testing.T) {
	for doc, want := range map[string]string{
		`{"name":"default","windows":[{"id":"w","mode":"read-only"}]}`:                                                    `{"name":"default","windows":[{"id":"w","mode":"read-only","occurrences":[]}]}`,
		`{"name":"default","windows":[{"id":"w","mode":"read-only","occurrences":null}]}`:                                 `{"name":"default","windows":[{"id":"w","mode":"read-only","occurrences":[]}]}`,
		`{"name":"default","graphql":{"paths":[]}}`:                                                                       `{"name":"default","graphql":{"paths":[]}}`,
		`{"name":"default","bypass":{"ips":[],"claims":null},"match":{},"exempt":[],"cors":{},"pages":{},"read_only":{}}`: `{"name":"default"}`,
	} {
		spec, err := maintenance.ParseSpec([]byte(doc))
		if got := marshal(t, spec); err != nil || got != want {
			t.Errorf("%s: %s, %v", doc, got, err)
		}
	}
}

// ParseSpec reads the part of an app that an operator writes, so it has no activations. The fields
// in errors are relative to the app.
func TestParseSpecChecksOneApp(t *testing.T) {
	spec, err := maintenance.ParseSpec([]byte(`{"name":"shop","match":{"hosts":["shop.example.com"]}}`))
	if err != nil || spec.Name != "shop" || spec.Match.Hosts[0] != "shop.example.com" {
		t.Errorf("%+v, %v", spec, err)
	}

	for doc, want := range map[string]string{
		`{"name":"shop"}`: "match: must not be empty",
		`{"name":"shop","match":{"paths":["/"]},"bypass":{"ips":["x"]}}`: `bypass.ips[0]: "x" must be an address`,
		`{"name":"shop","activations":[]}`:                               "activations: unknown field",
		`{"name":"shop","pages":{"":""}}`:                                `match: must not be empty`,
		`{"name":"default","pages":{"":""}}`:                             `pages[""]: must be the SHA-256 of the page`,
		`[]`:                                                             "must be an object, not a list",
		``:                                                               "not valid JSON",
	} {
		if _, err := maintenance.ParseSpec([]byte(doc)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

// FuzzParse checks that any input is either rejected with an error of the two kinds, or read,
// written and read again without a change, and that the state decides on requests.
func FuzzParse(f *testing.F) {
	f.Add(everythingJSON(f))
	for _, seed := range []string{
		`{}`, `null`, ``, `{"epoch":1,"revision":18446744073709551615,"apps":null}`,
		`{"apps":[{"name":"a","match":{"hosts":["*.A.example.:"],"paths":["/a","/B/"]}}]}`,
		`{"apps":[{"name":"default","bypass":{"ips":["::ffff:1.2.3.4/128","fe80::/10"],"claims":[{"issuer":"é","claim":["a"],"values":["\u0000",1e-300,true]}]}}]}`,
		`{"apps":[{"name":"default","activations":[{"id":"x","source":"file","mode":"read-only","since":"2026-11-21T22:00:00.123456789+01:00"}]}]}`,
		`{"apps":[{"name":"a","match":{"paths":["/"],"hosts":[]},"bypass":{"ips":[]},"read_only":{"safe_rpcs":[]},"cors":{"origins":[]}}]}`,
		`{"apps":[{"name":"default","pages":{"":"` + strings.Repeat("0", 64) + `"},"graphql":{"paths":[]}}]}`,
	} {
		f.Add([]byte(seed))
	}

	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := maintenance.Parse(data)
		if err != nil {
			var fe *maintenance.FieldError
			if !errors.As(err, &fe) && !errors.Is(err, maintenance.ErrJSON) {
				t.Fatalf("an error of another kind: %v", err)
			}

			return
		}

		once := marshal(t, s.Document())
		again, err := maintenance.Parse([]byte(once))
		if err != nil {
			t.Fatalf("%v\nin %s\nfrom %s", err, once, data)
		}
		if twice := marshal(t, again.Document()); twice != once {
			t.Fatalf("%s\nbecame %s", once, twice)
		}

		// Whatever the document says, every request gets an app and a decision: now, and after each
		// of the next changes.
		now := noon

		for range 3 {
			idle, until := s.Idle(now)
			d := s.Decide(get("a.example", "/a"), now)
			if idle && d.Verdict != maintenance.Pass || d.App == "" {
				t.Fatalf("idle %v, but %v for app %q", idle, d.Verdict, d.App)
			}
			if !until.IsZero() && !until.After(now) {
				t.Fatalf("idle until %v, which is past at %v", until, now)
			}
			if now = until; now.IsZero() {
				return
			}
		}
	})
}
