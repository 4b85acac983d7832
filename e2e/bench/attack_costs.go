package main

// This file measures the attacks of attacks.go: requests that are as expensive to judge as
// possible. Each is compared with a plain request of the same size that the filter refuses at once,
// because Envoy alone takes longer for a larger request.

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

// A round sends each request as often as -requests says, but large requests less often: as many as
// bytesPerRound holds, and at least minRequests.
const (
	bytesPerRound = 8 << 20
	minRequests   = 5
)

// measureAttacks prints what each attack costs beside its plain request, as a table of Markdown.
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
			n := min(requests, bytesPerRound/len(a.request))
			cost, base, err := a.measure(client, max(n, minRequests))
			if err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			if round > 0 {
				a.cost, a.base = append(a.cost, cost), append(a.base, base)
			}
		}
	}

	slices.SortStableFunc(all, func(a, b *attack) int { return int(1000 * (b.ratio() - a.ratio())) }) // to three decimals
	fmt.Printf("Envoy's processor time per request, medians of %d rounds, one worker; the most expensive first:\n\n", rounds)
	fmt.Println("| request | bytes | processor time | plain refused request of its size | ratio | answer |")
	fmt.Println("| --- | --- | --- | --- | --- | --- |")
	for _, a := range all {
		name := strings.ReplaceAll(a.name, "|", `\|`)
		fmt.Printf("| %s | %d | %.0f µs | %.0f µs | %.1f | %s |\n", name, len(a.request), median(a.cost), median(a.base), a.ratio(), a.answer)
	}
	return nil
}

// startBareEnvoy starts an Envoy with the filter in front of an app that is in read-only, without
// what Envoy could refuse before the filter. Nothing listens at the address of the app, so a
// request that passes the filter is answered 503 by Envoy, without a rule. In envoy/drydock.yaml,
// port 8080 is Envoy's listener, 9901 its admin interface, 8081 the app and 7071 the controller.
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
		Ports: map[int]string{8080: ":0", 9901: ":0", 8081: nowhere, 7071: controller},
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

// withoutEdge returns a bootstrap without the settings of an edge proxy, which refuse or change
// some requests before the filter gets them. In a mesh, the sidecar in front of the app does not
// have these settings. It also raises the limit for headers from 60 kB to 96 kB.
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

// measure sends the attack and its plain request n times each. It returns the worker's mean
// processor time for an attack (cost) and for a plain request (base), in microseconds.
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

// measure sends a request n times. It returns the worker's mean processor time for it, in
// microseconds, and the last answer, as send returns it.
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

// ruleInBody finds the rule in the body with which the filter refuses a request.
var ruleInBody = regexp.MustCompile(`"rule":"([^"]*)"`)

// send sends a request. It returns the status of the answer and the rule that refused it, such as
// "503 read-only.method", or "passed on" or "by Envoy" in place of the rule.
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

	// A 503 without a rule is Envoy's answer for an app that it cannot reach.
	decidedBy := "by Envoy"
	if rule := ruleInBody.FindSubmatch(body); rule != nil {
		decidedBy = string(rule[1])
	} else if resp.StatusCode < 400 || resp.StatusCode == http.StatusServiceUnavailable {
		decidedBy = "passed on"
	}

	return fmt.Sprint(resp.StatusCode, " ", decidedBy), err
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
