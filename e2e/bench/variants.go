package main

// This file measures what a request costs with and without the filter. A variant is an Envoy with
// its configuration, and the request that it gets. All Envoys run at the same time, and are
// measured one after another. The upstream and the controller are stubs (stubs.go).

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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

// connections is how many connections send requests at a time. They keep the worker busy: with one
// connection, most of the time would go into putting the worker to sleep and waking it up.
const connections = 16

// A variant is an Envoy in some state and a request to send to it.
type variant struct {
	name     string
	module   string // path of the filter's module; empty for an Envoy without a filter
	mode     string // of the app; empty without a controller
	request  string
	status   int    // that the request must get
	baseline string // name of the variant whose cost is subtracted

	envoy     *e2e.Envoy // once started
	conns     []net.Conn // to envoy
	cpu       []float64  // microseconds of processor time per request, by round
	latencies []float64  // microseconds from request to answer, the median of each round
}

// get and query are requests as they are sent. query is a GraphQL query of about 1 kB.
var (
	get   = "GET /bench HTTP/1.1\r\nhost: bench\r\nuser-agent: bench\r\naccept: */*\r\n\r\n"
	query = post(`{"query":"query Products($first: Int!) { products(first: $first) { ` + strings.Repeat("edges { node { id name price } } ", 28) + `} }","variables":{"first":10}}`)
)

// post returns a request that posts JSON to /graphql.
func post(body string) string {
	return "POST /graphql HTTP/1.1\r\nhost: bench\r\nuser-agent: bench\r\naccept: application/json\r\ncontent-type: application/json\r\ncontent-length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// allVariants returns the variants. drydock and noop are the paths of two modules: the filter, and
// one that only buffers bodies, which every filter that reads bodies has to do (noop/main.go).
func allVariants(drydock, noop string) []*variant {
	return []*variant{
		{name: "GET, no filter", request: get, status: 200},
		{name: "GET, off", module: drydock, mode: "off", request: get, status: 200, baseline: "GET, no filter"},
		{name: "GET, read-only", module: drydock, mode: "read-only", request: get, status: 200, baseline: "GET, no filter"},
		{name: "GET, no-access", module: drydock, mode: "no-access", request: get, status: 503},
		{name: "POST 1 kB, no filter", request: query, status: 200},
		{name: "POST 1 kB, no-op filter that buffers", module: noop, request: query, status: 200, baseline: "POST 1 kB, no filter"},
		{name: "POST 1 kB, off", module: drydock, mode: "off", request: query, status: 200, baseline: "POST 1 kB, no filter"},
		{name: "POST 1 kB, read-only GraphQL", module: drydock, mode: "read-only", request: query, status: 200, baseline: "POST 1 kB, no-op filter that buffers"},
	}
}

// measureVariants prints what each variant costs.
func measureVariants(rounds, requests int) error {
	dir, err := os.MkdirTemp("", "drydock-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := e2e.Root()
	if err != nil {
		return err
	}
	noop := filepath.Join(dir, "noop.wasm")
	if err := buildNoop(root, noop); err != nil {
		return err
	}

	variants := allVariants(filepath.Join(root, "bin", "drydock.wasm"), noop)
	defer func() {
		for _, v := range variants {
			if v.envoy != nil {
				v.envoy.Stop(time.Second)
			}
		}
	}()

	if err := startVariants(variants, dir); err != nil {
		return err
	}

	for round := range rounds + 1 { // the first one warms up and does not count
		for _, v := range variants {
			cpu, latency, err := v.measure(requests)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			if round > 0 {
				v.cpu, v.latencies = append(v.cpu, cpu), append(v.latencies, latency)
			}
		}
	}

	printVariants(variants, rounds, requests)
	return nil
}

// buildNoop builds the module of e2e/bench/noop into a file. root is the folder of the repository.
func buildNoop(root, file string) error {
	build := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", file, "./e2e/bench/noop")
	build.Dir, build.Env = root, append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the no-op filter: %w\n%s", err, out)
	}
	return nil
}

// startVariants starts the Envoy of each variant, one upstream for all and one controller for each
// mode.
func startVariants(variants []*variant, dir string) error {
	bin, err := e2e.FindEnvoy(context.Background(), os.Stderr)
	if err != nil {
		return err
	}
	upstream, err := startUpstream()
	if err != nil {
		return err
	}

	controllers := map[string]string{}
	for i, v := range variants {
		controller, ok := controllers[v.mode]
		if !ok && v.mode != "" {
			if controller, err = startController(stateOf(v.mode)); err != nil {
				return err
			}
			controllers[v.mode] = controller
		}
		if err := v.start(bin, filepath.Join(dir, strconv.Itoa(i)), upstream, controller); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
	}

	return nil
}

// start starts the variant's Envoy in front of upstream, connects to it, and waits until it answers
// with the status that the mode requires. upstream and controller are host:port.
func (v *variant) start(bin, dir, upstream, controller string) error {
	bootstrap, err := v.bootstrap(upstream, controller)
	if err != nil {
		return err
	}
	v.envoy, err = e2e.StartEnvoy(context.Background(), e2e.EnvoyOptions{
		Binary: bin, Bootstrap: bootstrap, Dir: dir, Workers: 1, Env: []string{"DRYDOCK_SYNC_TOKEN=bench"},
	})
	if err != nil {
		return err
	}

	for range connections {
		conn, err := net.Dial("tcp", v.envoy.Listeners["edge"])
		if err != nil {
			return err
		}
		v.conns = append(v.conns, conn)
	}

	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, _, err := v.measure(1)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// nowhere is an address on which nothing listens.
const nowhere = "127.0.0.1:1"

// bootstrap returns the configuration of the variant's Envoy: envoy/drydock.yaml with other ports
// and another module. In that file, port 8080 is Envoy's listener, 9901 its admin interface, 8081
// the upstream and 7071 the controller. controller may be empty.
func (v *variant) bootstrap(upstream, controller string) ([]byte, error) {
	sub := e2e.Substitution{Ports: map[int]string{8080: ":0", 9901: ":0", 8081: upstream, 7071: nowhere}}
	if controller != "" {
		sub.Ports[7071] = controller
	}
	if v.module != "" {
		sub.Files = map[string]string{"bin/drydock.wasm": v.module}
	}

	bootstrap, err := e2e.Bootstrap("drydock.yaml", sub)
	if err != nil || v.module != "" {
		return bootstrap, err
	}
	return withoutFilter(bootstrap)
}

// withoutFilter removes the filter from a bootstrap.
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

// measure sends at least n requests, as many over each connection. It returns the mean processor
// time of the worker for a request, and the median time from a request to its answer, in
// microseconds.
func (v *variant) measure(n int) (cpu, latency float64, err error) {
	before, err := workerTime(v.envoy.PID)
	if err != nil {
		return 0, 0, err
	}

	perConn := (n + len(v.conns) - 1) / len(v.conns) // rounded up
	latencies := make([]float64, 0, n)
	results := make(chan result)
	for _, conn := range v.conns {
		go func() { results <- v.send(conn, perConn) }()
	}
	for range v.conns {
		r := <-results
		err = errors.Join(err, r.err)
		latencies = append(latencies, r.latencies...)
	}
	if err != nil {
		return 0, 0, err
	}

	after, err := workerTime(v.envoy.PID)
	if err != nil {
		return 0, 0, err
	}
	return microseconds(after-before) / float64(len(latencies)), median(latencies), nil
}

// result is what one connection measured.
type result struct {
	latencies []float64 // microseconds from each request to its answer
	err       error
}

// send sends n requests one after another on one connection.
func (v *variant) send(conn net.Conn, n int) result {
	r := bufio.NewReader(conn)
	latencies := make([]float64, n)
	for i := range latencies {
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
		latencies[i] = microseconds(time.Since(began))
	}

	return result{latencies: latencies}
}

// printVariants prints the results as a table of Markdown. The added cost of a variant is the
// median of its differences to its baseline in each round, which a slow round affects less than the
// medians of both.
func printVariants(variants []*variant, rounds, requests int) {
	fmt.Printf("Medians (lowest to highest) of %d rounds with %d requests each, one worker, %d connections:\n\n", rounds, requests, connections)
	fmt.Println("| variant | Envoy's processor time per request | added, median of the rounds | time to answer |")
	fmt.Println("| --- | --- | --- | --- |")
	for _, v := range variants {
		added := ""
		if i := slices.IndexFunc(variants, func(o *variant) bool { return o.name == v.baseline }); i >= 0 {
			baseline := variants[i]
			differences := make([]float64, rounds)
			for r := range differences {
				differences[r] = v.cpu[r] - baseline.cpu[r]
			}
			added = fmt.Sprintf("%+.1f µs over %q", median(differences), v.baseline)
		}

		fmt.Printf("| %s | %.1f µs (%.1f to %.1f) | %s | %.0f µs |\n", v.name, median(v.cpu), slices.Min(v.cpu), slices.Max(v.cpu), added, median(v.latencies))
	}
}
