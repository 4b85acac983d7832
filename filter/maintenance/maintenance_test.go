package maintenance_test

import (
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// attributes are what a proxy would know. The zero value is a stranger.
type attributes struct {
	source, principal, route, cluster string
	claims                            maintenance.Claims
	calls, claimsCalls                int
}

func (a *attributes) SourceAddress() string { a.calls++; return a.source }
func (a *attributes) Principal() string     { a.calls++; return a.principal }
func (a *attributes) Route() string         { a.calls++; return a.route }
func (a *attributes) Cluster() string       { a.calls++; return a.cluster }

func (a *attributes) Claims() maintenance.Claims {
	a.calls++
	a.claimsCalls++
	return a.claims
}

// request makes one without a body; headers are name, value, name, value.
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

func get(host, target string, headers ...string) *maintenance.Request {
	return request("GET", host, target, headers...)
}

// on is an activation without an end, as JSON.
func on(mode maintenance.Mode) string {
	return `"activations":[{"id":"a","source":"manual","mode":"` + string(mode) + `","since":"2026-11-21T11:00:00Z"}]`
}
