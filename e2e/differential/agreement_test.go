package differential

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/maintenance/adversary"
)

// TestEnvoyDecidesAsTheCoreDoes sends requests that try to get past a decision through the real
// Envoy, with and without the help of the edge. Each answer must be the core's decision on the
// request as it was sent.
func TestEnvoyDecidesAsTheCoreDoes(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Upstream", "yes")
	}))
	t.Cleanup(upstream.Close)
	servers := []*Server{{Name: "upstream", Addr: strings.TrimPrefix(upstream.URL, "http://")}}

	for name, gate := range map[string]Gate{"envoy": EnvoyGate, "envoy-plugin": EnvoyPluginGate} {
		for _, mode := range []maintenance.Mode{maintenance.ReadOnly, maintenance.NoAccess} {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				state, err := maintenance.Parse([]byte(adversary.World{Mode: mode, Closed: true}.Document()))
				if err != nil {
					t.Fatal(err)
				}

				addr := gate(t, servers, state.Document())[0]
				if res := AwaitRefusal(t, addr, &Request{Method: "DELETE", Target: "/gated/x"}); res.Status != http.StatusServiceUnavailable {
					t.Fatalf("Envoy has no state after 20 s: it answers %d", res.Status)
				}

				var passed, refused, rejected int
				adversary.Tapes(13, 700, func(tape *adversary.Tape) bool {
					r := tape.Request()
					r.Headers = slices.DeleteFunc(r.Headers, func(h [2]string) bool {
						return framing(h[0]) || name == "envoy" && removedAtTheEdge(h[0])
					})
					want := adversary.Judge(state, r, time.Now())

					switch res := sent(t, addr, r); {
					case res.Header.Get("X-Upstream") != "":
						if passed++; want.Verdict == maintenance.Refuse {
							t.Errorf("%s passes Envoy, and the core refuses it by %s", adversary.Describe(r), want.Rule)
						}
					case ruleOf(res) != "":
						if refused++; want.Verdict != maintenance.Refuse || ruleOf(res) != want.Rule {
							t.Errorf("%s is refused by %s in Envoy, and %v by %s in the core", adversary.Describe(r), ruleOf(res), want.Verdict, want.Rule)
						}
					default:
						rejected++ // by Envoy itself, or with an answer that names no rule
					}
					return !t.Failed()
				})

				t.Logf("%d passed, %d were refused, %d were rejected by Envoy itself or name no rule", passed, refused, rejected)
				if passed < 20 || refused < 200 {
					t.Error("too few requests passed or were refused, so the test shows little")
				}
			})
		}
	}
}

// framing reports whether a header says how the request is framed. The sender of the request writes
// those headers.
func framing(name string) bool {
	return name == "transfer-encoding" || name == "content-length" || name == "expect" || name == "host" || name == "upgrade" || name == ":protocol"
}

// removedAtTheEdge reports whether the bootstrap removes a header because it misleads servers.
func removedAtTheEdge(name string) bool {
	return strings.Contains(name, "script") || strings.Contains(name, "forwarded") || strings.Contains(name, "original") || strings.Contains(name, "rewrite")
}

// sent sends a request of the adversary and returns the answer. It asks for JSON, which names the
// rule, unless the request says what it accepts.
func sent(t *testing.T, addr string, r *maintenance.Request) Response {
	t.Helper()
	wire := &Request{Method: r.Method, Target: r.Path, Host: r.Authority, Body: r.Body}
	if !r.EndStream {
		wire.Framing = Chunked
	}

	askForJSON := true
	for _, h := range r.Headers {
		askForJSON = askForJSON && h[0] != "accept"
		wire.Headers = append(wire.Headers, h)
	}
	if askForJSON {
		wire.Headers = append(wire.Headers, [2]string{"accept", "application/json"})
	}

	res, err := Send(addr, wire)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// ruleOf returns the rule that a refusal names, in GraphQL's form or as a problem.
func ruleOf(res Response) maintenance.Rule {
	var problem struct{ Rule maintenance.Rule }
	if rule := res.RefusedBy(); rule != "" && rule != unknownRule {
		return rule
	}
	if json.Unmarshal(res.Body, &problem) != nil {
		return ""
	}
	return problem.Rule
}
