// Bench measures what the filter costs in a real Envoy, and prints the table of
// docs/performance.md: Envoy's own processor time per request, in rounds that take
// the variants in turn, so that a machine that changes its speed changes it for all.
//
//	go run ./e2e/bench [-rounds 15] [-requests 4000] [-attacks]
//
// With -attacks it measures the most expensive requests that are known instead, each
// beside a plain refused one of the same size.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/e2e"
)

func main() {
	rounds := flag.Int("rounds", 15, "rounds; each takes every variant once")
	requests := flag.Int("requests", 4000, "requests of a variant in a round")
	worst := flag.Bool("attacks", false, "measure the most expensive requests")
	flag.Parse()
	measure := run
	if *worst {
		measure = runAttacks
	}
	if err := measure(*rounds, *requests); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// connections keep the worker busy: one alone would measure mostly how it falls asleep
// and wakes up.
const connections = 16

// A variant is an Envoy with a state and a request to send it.
type variant struct {
	name, module, mode string // module "": no filter at all
	request            string
	status             int
	yardstick          string // the variant whose cost is subtracted

	envoy *e2e.Envoy
	conns []net.Conn
	cpu   []float64 // microseconds per request, by round
	wait  []float64 // microseconds from request to answer, each round's median
}

var (
	get   = "GET /bench HTTP/1.1\r\nhost: bench\r\nuser-agent: bench\r\naccept: */*\r\n\r\n"
	query = post(`{"query":"query Products($first: Int!) { products(first: $first) { ` + strings.Repeat("edges { node { id name price } } ", 28) + `} }","variables":{"first":10}}`)
)

func post(body string) string {
	return "POST /graphql HTTP/1.1\r\nhost: bench\r\nuser-agent: bench\r\naccept: application/json\r\ncontent-type: application/json\r\ncontent-length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

func run(rounds, requests int) error {
	dir, err := os.MkdirTemp("", "drydock-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := e2e.Root()
	if err != nil {
		return err
	}
	bin, err := e2e.FindEnvoy(context.Background(), os.Stderr)
	if err != nil {
		return err
	}
	noop := filepath.Join(dir, "noop.wasm")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", noop, "./e2e/bench/noop")
	build.Dir, build.Env = root, append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the yardstick: %w\n%s", err, out)
	}
	upstream, err := startUpstream()
	if err != nil {
		return err
	}
	drydock := filepath.Join(root, "bin", "drydock.wasm")
	variants := []*variant{
		{name: "GET, no filter", request: get, status: 200},
		{name: "GET, off", module: drydock, mode: "off", request: get, status: 200, yardstick: "GET, no filter"},
		{name: "GET, read-only", module: drydock, mode: "read-only", request: get, status: 200, yardstick: "GET, no filter"},
		{name: "GET, no-access", module: drydock, mode: "no-access", request: get, status: 503},
		{name: "POST 1 kB, no filter", request: query, status: 200},
		{name: "POST 1 kB, no-op filter that buffers", module: noop, request: query, status: 200, yardstick: "POST 1 kB, no filter"},
		{name: "POST 1 kB, off", module: drydock, mode: "off", request: query, status: 200, yardstick: "POST 1 kB, no filter"},
		{name: "POST 1 kB, read-only GraphQL", module: drydock, mode: "read-only", request: query, status: 200, yardstick: "POST 1 kB, no-op filter that buffers"},
	}
	states := map[string]string{}
	for _, v := range variants {
		controller, ok := states[v.mode]
		if !ok && v.mode != "" {
			if controller, err = startState(v.mode); err != nil {
				return err
			}
			states[v.mode] = controller
		}
		if err := v.start(bin, filepath.Join(dir, strconv.Itoa(len(v.name))+v.mode+filepath.Base(v.module)), upstream, controller); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		defer v.envoy.Stop(time.Second)
	}
	for round := range rounds + 1 { // the first warms up
		for _, v := range variants {
			cpu, wait, err := v.measure(requests)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			if round > 0 {
				v.cpu, v.wait = append(v.cpu, cpu), append(v.wait, wait)
			}
		}
	}
	fmt.Printf("Medians (lowest to highest) of %d rounds with %d requests each, one worker, %d connections:\n\n", rounds, requests, connections)
	fmt.Println("| variant | Envoy's CPU per request | added, by round | answer after |")
	fmt.Println("| --- | --- | --- | --- |")
	for _, v := range variants {
		added := ""
		if i := slices.IndexFunc(variants, func(o *variant) bool { return o.name == v.yardstick }); i >= 0 {
			diffs := make([]float64, rounds)
			for r := range diffs {
				diffs[r] = v.cpu[r] - variants[i].cpu[r]
			}
			added = fmt.Sprintf("%+.1f µs over %q", median(diffs), v.yardstick)
		}
		fmt.Printf("| %s | %.1f µs (%.1f to %.1f) | %s | %.0f µs |\n", v.name, median(v.cpu), slices.Min(v.cpu), slices.Max(v.cpu), added, median(v.wait))
	}
	return nil
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// startUpstream answers every request with a few bytes.
func startUpstream() (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"data":{}}`)
	}))
	return l.Addr().String(), nil
}

// startState stands in for the controller: one state, and nothing after it. The
// controller's own work must not be in the figures.
func startState(mode string) (addr string, err error) {
	activations := ""
	if mode != "off" {
		activations = `,"activations":[{"id":"bench","source":"manual","mode":"` + mode + `","since":"2026-01-01T00:00:00Z"}]`
	}
	return serveState(`{"epoch":1,"revision":1,"apps":[{"name":"default"` + activations + `}]}`)
}

func serveState(state string) (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Revision, Wait int }
		json.NewDecoder(r.Body).Decode(&asked)
		if strings.HasSuffix(r.URL.Path, "/sync") && asked.Revision == 0 {
			io.WriteString(w, state)
			return
		}
		select {
		case <-r.Context().Done():
		case <-time.After(time.Duration(asked.Wait) * time.Second):
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	return l.Addr().String(), nil
}

// start starts the variant's Envoy and waits until it answers as the mode says.
func (v *variant) start(bin, dir, upstream, controller string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	sub := e2e.Substitution{Ports: map[int]string{8080: ":0", 9901: ":0", 8081: upstream, 7071: "127.0.0.1:1"}}
	if controller != "" {
		sub.Ports[7071] = controller
	}
	if v.module != "" {
		sub.Files = map[string]string{"bin/drydock.wasm": v.module}
	}
	bootstrap, err := e2e.Bootstrap("drydock.yaml", sub)
	if err != nil {
		return err
	}
	if v.module == "" {
		if bootstrap, err = withoutFilter(bootstrap); err != nil {
			return err
		}
	}
	if v.envoy, err = e2e.StartEnvoy(context.Background(), e2e.EnvoyOptions{Binary: bin, Bootstrap: bootstrap, Dir: dir, Workers: 1, Env: []string{"DRYDOCK_SYNC_TOKEN=bench"}}); err != nil {
		return err
	}
	for range connections {
		conn, err := net.Dial("tcp", v.envoy.Listeners["edge"])
		if err != nil {
			return err
		}
		v.conns = append(v.conns, conn)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, _, err := v.measure(1)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func withoutFilter(bootstrap []byte) ([]byte, error) {
	var tree any
	if err := json.Unmarshal(bootstrap, &tree); err != nil {
		return nil, err
	}
	for node := range e2e.Objects(tree) {
		if filters, ok := node["http_filters"].([]any); ok {
			node["http_filters"] = slices.DeleteFunc(filters, func(f any) bool { return f.(map[string]any)["name"] == "drydock" })
		}
	}
	return json.Marshal(tree)
}

// measure sends n requests over all connections, and gives the worker's processor time
// for each and the median wait, in microseconds.
func (v *variant) measure(n int) (cpu, wait float64, err error) {
	before, err := v.processorTime()
	if err != nil {
		return 0, 0, err
	}
	waits := make([]float64, 0, n)
	results := make(chan result)
	for _, conn := range v.conns {
		go func() { results <- v.converse(conn, (n+len(v.conns)-1)/len(v.conns)) }()
	}
	for range v.conns {
		r := <-results
		err = errors.Join(err, r.err)
		waits = append(waits, r.waits...)
	}
	if err != nil {
		return 0, 0, err
	}
	after, err := v.processorTime()
	if err != nil {
		return 0, 0, err
	}
	return float64(after-before) / float64(time.Microsecond) / float64(len(waits)), median(waits), nil
}

type result struct {
	waits []float64
	err   error
}

// converse sends n requests one after another on one connection.
func (v *variant) converse(conn net.Conn, n int) result {
	r := bufio.NewReader(conn)
	waits := make([]float64, n)
	for i := range waits {
		began := time.Now()
		if _, err := io.WriteString(conn, v.request); err != nil {
			return result{err: err}
		}
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			return result{err: err}
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			return result{err: err}
		}
		if answer.StatusCode != v.status {
			return result{err: fmt.Errorf("status %d, want %d", answer.StatusCode, v.status)}
		}
		waits[i] = float64(time.Since(began)) / float64(time.Microsecond)
	}
	return result{waits: waits}
}

// processorTime is what the worker thread has used, from the kernel's scheduler in
// nanoseconds: ticks of a hundredth of a second would be too coarse, and the main
// thread's work is not the request's.
func (v *variant) processorTime() (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", v.envoy.PID))
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		name, err := os.ReadFile(task + "/comm")
		if err != nil || !strings.HasPrefix(string(name), "wrk:worker_0") {
			continue
		}
		stat, err := os.ReadFile(task + "/schedstat")
		if err != nil {
			return 0, err
		}
		ns, _, _ := strings.Cut(string(stat), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		return time.Duration(n), err
	}
	return 0, errors.New("no thread wrk:worker_0 in Envoy")
}
