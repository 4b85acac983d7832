package web

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// ready answers whether changes can be made. Anybody may ask, so that the store is
// tried once a second at most.
func ready(o Options) http.HandlerFunc {
	var mu sync.Mutex
	var tried time.Time
	var last error
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if time.Since(tried) > time.Second {
			last, tried = o.Keeper.Probe(o.Stopping), time.Now()
			if last != nil {
				o.Log.Error("not ready", "error", last)
			}
		}
		err := last
		mu.Unlock()
		if err != nil {
			writeProblem(w, http.StatusServiceUnavailable, "no changes can be made; see the controller's log")
			return
		}
		w.Write([]byte("ok\n"))
	}
}

// welcome is for people who open the API in a browser.
func welcome(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	w.Write([]byte(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Drydock</title>
<h1>Drydock</h1>
<p>The controller is running. It is used by its command line and its API:</p>
<ul>
<li><code>drydock status</code>, <code>drydock on "reason"</code>, <code>drydock off</code></li>
<li><a href="/api/v1/openapi.json">the API, as OpenAPI 3.1</a></li>
<li><a href="/api/system/maintenance/status">the public status</a>, <a href="/metrics">metrics</a></li>
</ul>
</html>
`))
}

// metrics are read from the keeper when they are asked for.
type metrics struct {
	Options
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
}

var (
	descMode      = prometheus.NewDesc("drydock_app_mode", "1 for the mode that the app is in.", []string{"app", "mode"}, nil)
	descPhase     = prometheus.NewDesc("drydock_app_phase", "1 for the phase that the app is in.", []string{"app", "phase"}, nil)
	descEnforced  = prometheus.NewDesc("drydock_app_enforced", "1 when every proxy enforces the app's newest state.", []string{"app"}, nil)
	descRevision  = prometheus.NewDesc("drydock_revision", "Revision of the newest state.", nil, nil)
	descEpoch     = prometheus.NewDesc("drydock_epoch", "Epoch of the newest state.", nil, nil)
	descProxies   = prometheus.NewDesc("drydock_proxies", "Known proxies by state.", []string{"state"}, nil)
	descEnforcing = prometheus.NewDesc("drydock_proxies_enforcing", "Proxies that enforce the newest state.", nil, nil)
	descVMs       = prometheus.NewDesc("drydock_vms", "Known VMs of proxies by state.", []string{"state"}, nil)
	descLag       = prometheus.NewDesc("drydock_vm_lag_revisions", "How many revisions the live VM that is furthest behind is behind.", nil, nil)
	descSkew      = prometheus.NewDesc("drydock_proxy_clock_skew_seconds", "The largest difference of a live proxy's clock from the controller's.", nil, nil)
	descInfo      = prometheus.NewDesc("drydock_build_info", "1, with the version.", []string{"version"}, nil)
)

func newMetrics(o Options) *metrics {
	m := &metrics{Options: o, registry: prometheus.NewRegistry()}
	m.requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "drydock_http_request_duration_seconds",
		Help: "Duration of API requests, but for those that wait.",
		// From a lookup in memory to a slow disk.
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
	}, []string{"route", "code"})
	m.registry.MustRegister(m, m.requests, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorLog: nil})
}

// measure times requests by the route that they took.
func (m *metrics) measure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(sw, r)
		if strings.Contains(r.URL.RawQuery, "wait=") {
			return
		}
		route := r.Pattern
		if route == "" {
			route = "none"
		}
		m.requests.WithLabelValues(route, strconv.Itoa(sw.status)).Observe(time.Since(begin).Seconds())
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (m *metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descMode, descPhase, descEnforced, descRevision, descEpoch, descProxies, descEnforcing, descVMs, descLag, descSkew, descInfo} {
		c <- d
	}
}

func (m *metrics) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	is := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	for _, st := range m.Keeper.Statuses() {
		for _, mode := range []maintenance.Mode{maintenance.Off, maintenance.ReadOnly, maintenance.NoAccess} {
			gauge(descMode, is(st.Mode == mode), st.App, string(mode))
		}
		gauge(descPhase, 1, st.App, string(st.Phase))
		gauge(descEnforced, is(st.Enforced), st.App)
	}
	v := m.Keeper.Current().Version()
	gauge(descRevision, float64(v.Revision))
	gauge(descEpoch, float64(v.Epoch))
	gauge(descInfo, 1, m.Version)

	proxies, vms := map[string]int{"live": 0, "lost": 0}, map[string]int{"live": 0, "crashed": 0}
	var enforcing int
	var lag uint64
	var skew float64
	for _, p := range m.Keeper.Proxies() {
		proxies[p.State]++
		if p.Current {
			enforcing++
		}
		if p.State == "live" {
			skew = max(skew, float64(p.SkewMS)/1000, -float64(p.SkewMS)/1000)
		}
		for _, vm := range p.VMs {
			vms[vm.State]++
			if p.State == "live" && vm.State == "live" && vm.Version.Epoch == v.Epoch && vm.Version.Revision < v.Revision {
				lag = max(lag, v.Revision-vm.Version.Revision)
			}
		}
	}
	for state, n := range proxies {
		gauge(descProxies, float64(n), state)
	}
	for state, n := range vms {
		gauge(descVMs, float64(n), state)
	}
	gauge(descEnforcing, float64(enforcing))
	gauge(descLag, float64(lag))
	gauge(descSkew, skew)
}
