package main

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
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/e2e"
)

// measureAttacks prints what each attack costs beside its plain request.
func measureAttacks(rounds, requests int) error {
	dir, err := os.MkdirTemp("", "drydock-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	envoy, err := startBareEnvoy(dir)
	if err != nil {
		return err
	}
	defer envoy.Stop(time.Second)

	client := &reconnecting{envoy: envoy}
	defer client.close()
	if err := client.awaitReadOnly(); err != nil {
		return err
	}

	all := attacks()
	for round := range rounds + 1 { // the first one warms up and does not count
		for _, a := range all {
			cost, base, err := a.measure(client, max(5, min(requests, 8<<20/len(a.request))))
			if err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			if round > 0 {
				a.cost, a.base = append(a.cost, cost), append(a.base, base)
			}
		}
	}

	slices.SortStableFunc(all, func(a, b *attack) int { return int(1000 * (b.ratio() - a.ratio())) })
	fmt.Printf("Envoy's processor time per request, medians of %d rounds, one worker; the most expensive first:\n\n", rounds)
	fmt.Println("| request | bytes | processor time | plain refused request of its size | ratio | answer |")
	fmt.Println("| --- | --- | --- | --- | --- | --- |")
	for _, a := range all {
		name := strings.ReplaceAll(a.name, "|", `\|`)
		fmt.Printf("| %s | %d | %.0f µs | %.0f µs | %.1f | %s |\n", name, len(a.request), median(a.cost), median(a.base), a.ratio(), a.answer)
	}
	return nil
}

// startBareEnvoy starts an Envoy with the filter in front of an app that is in read-only.
func startBareEnvoy(dir string) (*e2e.Envoy, error) {
	root, err := e2e.Root()
	if err != nil {
		return nil, err
	}
	bin, err := e2e.FindEnvoy(context.Background(), os.Stderr)
	if err != nil {
		return nil, err
	}
	controller, err := startController(crowdedState())
	if err != nil {
		return nil, err
	}

	bootstrap, err := e2e.Bootstrap("drydock.yaml", e2e.Substitution{
		Ports: map[int]string{8080: ":0", 9901: ":0", 8081: "127.0.0.1:1", 7071: controller},
		Files: map[string]string{"bin/drydock.wasm": filepath.Join(root, "bin", "drydock.wasm")},
	})
	if err != nil {
		return nil, err
	}
	if bootstrap, err = withoutEdge(bootstrap); err != nil {
		return nil, err
	}
	return e2e.StartEnvoy(context.Background(), e2e.EnvoyOptions{
		Binary: bin, Bootstrap: bootstrap, Dir: dir, Workers: 1, Env: []string{"DRYDOCK_SYNC_TOKEN=bench"},
	})
}

// withoutEdge removes what refuses or changes a request before the filter gets it from a bootstrap.
// In a mesh, the sidecar in front of the app does not have these settings.
func withoutEdge(bootstrap []byte) ([]byte, error) {
	var tree any
	if err := json.Unmarshal(bootstrap, &tree); err != nil {
		return nil, err
	}

	found := false
	for node := range e2e.Objects(tree) {
		if _, ok := node["early_header_mutation_extensions"]; !ok {
			continue
		}
		found = true
		for _, name := range []string{"early_header_mutation_extensions", "normalize_path", "merge_slashes", "path_with_escaped_slashes_action"} {
			delete(node, name)
		}
		node["max_request_headers_kb"] = 96
	}

	if !found {
		return nil, errors.New("the bootstrap does not have the settings of an edge to remove")
	}
	return json.Marshal(tree)
}

// measure sends the request and its plain counterpart n times each. It returns the worker's
// processor time for each of both, in microseconds.
func (a *attack) measure(client *reconnecting, n int) (cost, base float64, err error) {
	cost, a.answer, err = client.measure(a.request, n)
	if err != nil {
		return 0, 0, err
	}

	base, plain, err := client.measure(a.plain, n)
	if err != nil {
		return 0, 0, fmt.Errorf("the plain request: %w", err)
	}
	if !strings.HasPrefix(plain, "503 ") {
		return 0, 0, fmt.Errorf("the plain request is answered %s, want a refusal by the filter", plain)
	}
	return cost, base, nil
}

// ratio returns how many times as expensive as its plain request the attack is.
func (a *attack) ratio() float64 { return median(a.cost) / median(a.base) }

// reconnecting is a connection to Envoy. It is opened again when Envoy closes it, as Envoy does
// after some refusals.
type reconnecting struct {
	envoy *e2e.Envoy
	conn  net.Conn // nil while closed
	r     *bufio.Reader
}

func (c *reconnecting) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// measure sends a request n times and returns the worker's processor time for each, in
// microseconds, and the last answer.
func (c *reconnecting) measure(request string, n int) (cost float64, answer string, err error) {
	before, err := workerTime(c.envoy.PID)
	if err != nil {
		return 0, "", err
	}
	for range n {
		if answer, err = c.send(request); err != nil {
			return 0, "", err
		}
	}

	after, err := workerTime(c.envoy.PID)
	return microseconds(after-before) / float64(n), answer, err
}

var ruleInBody = regexp.MustCompile(`"rule":"([^"]*)"`)

// send sends a request. It returns the status of the answer and the rule that refused it, such as
// "503 read-only.method".
func (c *reconnecting) send(request string) (string, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.envoy.Listeners["edge"])
		if err != nil {
			return "", err
		}
		c.conn, c.r = conn, bufio.NewReader(conn)
	}

	// The answer may come before Envoy has taken the whole request.
	sent := make(chan struct{})
	go func(conn net.Conn) {
		io.WriteString(conn, request)
		close(sent)
	}(c.conn)
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.close()
		<-sent
		return "", err
	}

	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Close {
		c.close()
	}
	<-sent

	by := "by Envoy"
	if rule := ruleInBody.FindSubmatch(body); rule != nil {
		by = string(rule[1])
	} else if resp.StatusCode < 400 || resp.StatusCode == http.StatusServiceUnavailable {
		by = "passed on"
	}

	return fmt.Sprint(resp.StatusCode, " ", by), err
}

// awaitReadOnly waits until Envoy has the state and enforces it.
func (c *reconnecting) awaitReadOnly() error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		answer, err := c.send(head("DELETE", "/cart"))
		if err == nil && answer == "503 read-only.method" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the state did not arrive; a DELETE is answered %s (%v)", answer, err)
		}
	}
}
