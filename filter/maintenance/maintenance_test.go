package maintenance_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file has the helpers of all tests of the package. A test makes a State from the JSON of a
// document, and a Request from a method, a host and a target, which is a path with its query. It
// then compares the Decision: its verdict, and the rule that decided. Most documents have one app,
// default, which gets every request. An activation puts an app into read-only or no-access.

// noon is the time at which requests are decided. The activations of documents began at 11:00.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// attributes implements maintenance.Attributes with fixed values, and counts how often it is asked.
// The zero value is a client to whom no bypass applies.
type attributes struct {
	maintenance.NoAttributes
	source, principal, route, cluster string
	claims                            maintenance.Claims
	calls, claimsCalls                int
}

func (a *attributes) SourceAddress() string { a.calls++; return a.source }

func (a *attributes) Principal() string { a.calls++; return a.principal }

func (a *attributes) Route() string { a.calls++; return a.route }

func (a *attributes) Cluster() string { a.calls++; return a.cluster }

func (a *attributes) Claims() maintenance.Claims {
	a.calls++
	a.claimsCalls++
	return a.claims
}

// request returns a request without a body. The headers are names, each followed by its value. They
// come after three pseudo-headers, so that r.Headers[3:] are these headers.
func request(method, host, target string, headers ...string) *maintenance.Request {
	r := &maintenance.Request{
		Method: method, Authority: host, Path: target,
		Headers:   [][2]string{{":method", method}, {":authority", host}, {":path", target}},
		EndStream: true, Attributes: &attributes{},
	}

	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, [2]string{headers[i], headers[i+1]})
	}

	return r
}

// get returns a GET request without a body.
func get(host, target string, headers ...string) *maintenance.Request {
	return request("GET", host, target, headers...)
}

// withBody gives a request a body, and a content type unless it is "". The body is not marked as
// read: a decision may first ask for it.
func withBody(r *maintenance.Request, contentType, text string) *maintenance.Request {
	r.EndStream = false
	if contentType != "" {
		r.Headers = append(r.Headers, [2]string{"content-type", contentType})
	}
	r.Body = []byte(text)
	return r
}

// activationJSON returns the field activations of an app, as JSON, with one activation without an
// end.
func activationJSON(mode maintenance.Mode) string {
	return `"activations":[{"id":"a","source":"manual","mode":"` + string(mode) + `","since":"2026-11-21T11:00:00Z"}]`
}

// mustParse compiles a document.
func mustParse(t testing.TB, doc string) *maintenance.State {
	t.Helper()
	s, err := maintenance.Parse([]byte(doc))
	if err != nil {
		t.Fatalf("%v\nin %s", err, doc)
	}
	return s
}

// readOnlyState returns a state whose default app has these fields, if any, and is in read-only.
func readOnlyState(t testing.TB, fields string) *maintenance.State {
	t.Helper()
	if fields != "" {
		fields += ","
	}
	return mustParse(t, `{"apps":[{"name":"default",`+fields+activationJSON(maintenance.ReadOnly)+`}]}`)
}

// noAccessState returns a state whose default app has these fields, at least one, and is in
// no-access.
func noAccessState(t testing.TB, fields string) *maintenance.State {
	t.Helper()
	return mustParse(t, `{"apps":[{"name":"default",`+fields+`,`+activationJSON(maintenance.NoAccess)+`}]}`)
}

// mustCompile compiles a document of these apps.
func mustCompile(t testing.TB, apps ...maintenance.App) *maintenance.State {
	t.Helper()
	s, err := maintenance.Compile(maintenance.Document{Version: maintenance.Version{Epoch: 1, Revision: 1}, Apps: apps})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// defaultAppWith returns the default app as change makes it.
func defaultAppWith(change func(*maintenance.App)) maintenance.App {
	a := maintenance.App{Spec: maintenance.Spec{Name: maintenance.DefaultApp}}
	change(&a)
	return a
}

// todayAt returns a time on the day of noon, such as "13:30:00".
func todayAt(clock string) time.Time {
	t, err := time.Parse("15:04:05.999999999", clock)
	if err != nil {
		panic(err)
	}
	return time.Date(2026, 11, 21, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// newActivation returns an activation from one time of the day until another, or without an end if
// until is "".
func newActivation(id string, mode maintenance.Mode, since, until string) maintenance.Activation {
	a := maintenance.Activation{ID: id, Source: maintenance.SourceManual, Mode: mode, Message: id, Since: todayAt(since)}
	if until != "" {
		a.Until = todayAt(until)
	}
	return a
}

// decideWithBody decides as the filter does: first by the headers, and then again with the body if
// the first decision needs it. The test fails if the second decision needs the body too.
func decideWithBody(t testing.TB, s *maintenance.State, r *maintenance.Request) maintenance.Decision {
	t.Helper()
	d := s.Decide(r, noon)
	if d.Verdict == maintenance.NeedBody {
		r.BodyRead = true
		if d = s.Decide(r, noon); d.Verdict == maintenance.NeedBody {
			t.Error("the second decision needs the body, which it has")
		}
	}

	return d
}

// marshal returns v as JSON.
func marshal(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// everythingJSON returns a document in which every field that a document can have is set.
func everythingJSON(t testing.TB) []byte {
	data, err := os.ReadFile("testdata/everything.json")
	if err != nil {
		t.Fatal(err)
	}
	return data
}
