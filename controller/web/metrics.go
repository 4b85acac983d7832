package web

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// metrics has the controller's metrics for Prometheus. It counts HTTP requests as they come. All
// other values are read from the keeper each time that Prometheus collects the metrics, so metrics
// is a [prometheus.Collector] itself.
type metrics struct {
	Options
	registry *prometheus.Registry
	requests *prometheus.HistogramVec // by route and status
}

// The names of metrics and labels are part of the controller's interface. An app that is on is in
// one mode and one phase; a proxy is live or lost, and each of its WebAssembly VMs is live or
// crashed.
var (
	descMode      = prometheus.NewDesc("drydock_app_mode", "1 for the mode that the app is in.", []string{"app", "mode"}, nil)
	descPhase     = prometheus.NewDesc("drydock_app_phase", "1 for the phase that the app is in.", []string{"app", "phase"}, nil)
	descEnforced  = prometheus.NewDesc("drydock_app_enforced", "1 when every proxy enforces the app's newest state.", []string{"app"}, nil)
	descRevision  = prometheus.NewDesc("drydock_revision", "Revision of the newest state.", nil, nil)
	descEpoch     = prometheus.NewDesc("drydock_epoch", "Epoch of the newest state.", nil, nil)
	descProxies   = prometheus.NewDesc("drydock_proxies", "Known proxies by state.", []string{"state"}, nil)
	descEnforcing = prometheus.NewDesc("drydock_proxies_enforcing", "Proxies that enforce the newest state.", nil, nil)
	descVMs       = prometheus.NewDesc("drydock_vms", "Known VMs of proxies by state.", []string{"state"}, nil)
	descLag       = prometheus.NewDesc("drydock_vm_lag_revisions", "Revisions that the slowest live VM is behind the newest state.", nil, nil)
	descSkew      = prometheus.NewDesc("drydock_proxy_clock_skew_seconds", "Largest difference in seconds between the clocks of a live proxy and of the controller.", nil, nil)
	descInfo      = prometheus.NewDesc("drydock_build_info", "Always 1; the label version is that of the controller.", []string{"version"}, nil)
)

// newMetrics returns metrics with a registry of their own, which also has those of the Go runtime
// and of the process.
func newMetrics(o Options) *metrics {
	m := &metrics{Options: o, registry: prometheus.NewRegistry()}
	m.requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "drydock_http_request_duration_seconds",
		Help: "Duration of HTTP requests in seconds, except for those that wait for a status.",
		// From a lookup in memory to a slow disk.
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
	}, []string{"route", "code"})

	m.registry.MustRegister(m, m.requests,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// handler serves the metrics in the text format of Prometheus.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// measure returns a handler that calls next and measures how long that takes, by route and status.
// It does not measure requests that ask to wait, because their duration says nothing about the
// controller.
func (m *metrics) measure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(sw, r)
		if asksToWait(r) {
			return
		}

		route := r.Pattern // which the mux has set, such as "GET /api/v1/apps/{app}"
		if route == "" {
			route = "none"
		}
		m.requests.WithLabelValues(route, strconv.Itoa(sw.status)).Observe(time.Since(begin).Seconds())
	})
}

// A statusWriter passes an answer on, and keeps its status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets an [http.ResponseController] set the deadlines of the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descMode, descPhase, descEnforced, descRevision, descEpoch,
		descProxies, descEnforcing, descVMs, descLag, descSkew, descInfo,
	} {
		c <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	newest := m.Keeper.Current().Version()
	gauge(descRevision, float64(newest.Revision))
	gauge(descEpoch, float64(newest.Epoch))
	gauge(descInfo, 1, m.Version)

	allModes := append([]maintenance.Mode{maintenance.Off}, maintenance.Modes()...)
	for _, st := range m.Keeper.Statuses() {
		for _, mode := range allModes {
			gauge(descMode, oneIf(st.Mode == mode), st.App, string(mode))
		}
		gauge(descPhase, 1, st.App, string(st.Phase))
		gauge(descEnforced, oneIf(st.Enforced), st.App)
	}

	fleet := summarize(m.Keeper.Proxies(), newest)
	for state, n := range fleet.proxies {
		gauge(descProxies, float64(n), state)
	}
	for state, n := range fleet.vms {
		gauge(descVMs, float64(n), state)
	}

	gauge(descEnforcing, float64(fleet.enforcing))
	gauge(descLag, float64(fleet.lag))
	gauge(descSkew, fleet.skew)
}

// oneIf returns 1 if b is true, and 0 otherwise.
func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// fleetSummary is what the metrics say about all proxies together.
type fleetSummary struct {
	proxies, vms map[string]int // by state
	enforcing    int            // proxies that enforce the newest state
	lag          uint64         // revisions that the slowest live VM of a live proxy is behind
	// skew is the largest difference between the clock of a live proxy and that of the controller,
	// in seconds and without its sign.
	skew float64
}

// summarize returns the summary of the proxies, given the version of the newest state.
func summarize(proxies []keeper.Proxy, newest maintenance.Version) fleetSummary {
	f := fleetSummary{
		// States without a proxy are exported too, as 0.
		proxies: map[string]int{"live": 0, "lost": 0},
		vms:     map[string]int{"live": 0, "crashed": 0},
	}
	for _, p := range proxies {
		f.proxies[p.State]++
		if p.Current {
			f.enforcing++
		}

		isLive := p.State == "live"
		if isLive {
			f.skew = max(f.skew, math.Abs(float64(p.SkewMS)/1000))
		}

		for _, vm := range p.VMs {
			f.vms[vm.State]++
			// Revisions of different epochs cannot be compared.
			if isLive && vm.State == "live" && vm.Version.Epoch == newest.Epoch && vm.Version.Revision < newest.Revision {
				f.lag = max(f.lag, newest.Revision-vm.Version.Revision)
			}
		}
	}
	return f
}
