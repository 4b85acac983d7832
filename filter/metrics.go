package main

import (
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
)

// metrics are the plugin's metrics, which all VMs of the process share. Dashboards and alerts
// depend on their names; docs/envoy.md explains them. In a name, held means paused.
type metrics struct {
	blocked, bypassed, errors, unknown, misconfigured, heldLimit proxywasm.MetricCounter
	revision, stateAge, heldRequests, heldBytes                  proxywasm.MetricGauge

	// stateDue is when the leader sets revision and stateAge again.
	stateDue time.Time
	// requestsRecorded and bytesRecorded are what this VM has added to heldRequests and heldBytes.
	requestsRecorded, bytesRecorded int
}

// newMetrics defines the metrics of the plugin with this name.
func newMetrics(plugin string) metrics {
	prefix := "drydock." + plugin + "."
	counter := func(name string) proxywasm.MetricCounter { return proxywasm.DefineCounterMetric(prefix + name) }
	gauge := func(name string) proxywasm.MetricGauge { return proxywasm.DefineGaugeMetric(prefix + name) }

	return metrics{
		blocked:       counter("blocked"),
		bypassed:      counter("bypassed"),
		errors:        counter("errors"),
		unknown:       counter("unknown"),
		misconfigured: counter("misconfigured"),
		heldLimit:     counter("held_limit"),
		heldRequests:  gauge("held_requests"),
		heldBytes:     gauge("held_bytes"),
		revision:      gauge("revision"),
		stateAge:      gauge("state_age"),
	}
}

// recordPaused publishes the number of paused requests and the bytes that they take. Each VM adds
// its part to gauges that it shares with the others.
func (m *metrics) recordPaused(requests, bytes int) {
	if requests != m.requestsRecorded {
		m.heldRequests.Add(int64(requests - m.requestsRecorded))
		m.requestsRecorded = requests
	}

	if bytes != m.bytesRecorded {
		m.heldBytes.Add(int64(bytes - m.bytesRecorded))
		m.bytesRecorded = bytes
	}
}

// recordStateIfDue sets the gauges revision and state_age: the revision in force, and for how many
// seconds the controller has not answered. Only the leader, the VM that polls the controller, sets
// them: at each adoption and once a second.
func (p *plugin) recordStateIfDue(now time.Time) {
	if !p.follow.leads || now.Before(p.metrics.stateDue) {
		return
	}
	p.metrics.stateDue = now.Add(time.Second)

	since := p.follow.lastContact
	if since.IsZero() {
		since = p.firstTick
	}
	setGauge(p.metrics.stateAge, uint64(max(0, now.Sub(since)/time.Second)))
	setGauge(p.metrics.revision, p.version().Revision)
}
