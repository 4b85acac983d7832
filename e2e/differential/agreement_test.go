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

// The core is the package maintenance: the rules of the filter, here without Envoy. The package
// adversary generates, from a seed, requests that try to get past these rules. The test in this
// file checks that nothing between the client and the rules, in Envoy or in the filter, changes a
// decision.

// TestEnvoyDecidesAsTheCoreDoes sends requests of the adversary through Envoy as it stands at an
// edge (EnvoyGate) and as in a mesh (EnvoyPluginGate). If a request passes or is refused by a rule,
// this must be the core's decision on the request as it was sent.
func TestEnvoyDecidesAsTheCoreDoes(t *testing.T) {
	// The header tells an answer of the upstream from one of Envoy.
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Upstream", "yes")
	}))
	t.Cleanup(upstream.Close)
	servers := []*Server{{Name: "upstream", Addr: strings.TrimPrefix(upstream.URL, "http://")}}

	const (
		seed     = 13
		requests = 700
	)
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
				adversary.Tapes(seed, requests, func(tape *adversary.Tape) (goOn bool) {
					r := tape.Request()
					r.Headers = slices.DeleteFunc(r.Headers, func(h [2]string) bool {
						return setBySender(h[0]) || name == "envoy" && removedAtEdge(h[0])
					})
					want := adversary.Judge(state, r, time.Now())

					switch res := sendToEnvoy(t, addr, r); {
					case res.Header.Get("X-Upstream") != "":
						if passed++; want.Verdict == maintenance.Refuse {
							t.Errorf("%s passes Envoy, and the core refuses it by %s", adversary.Describe(r), want.Rule)
						}
					case ruleOf(res) != "":
						if refused++; want.Verdict != maintenance.Refuse || ruleOf(res) != want.Rule {
							t.Errorf("%s is refused by %s in Envoy, and %v by %s in the core", adversary.Describe(r), ruleOf(res), want.Verdict, want.Rule)
						}
					default:
						rejected++ // by Envoy itself, or by an answer that names no rule
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

// setBySender reports whether a header concerns the framing, the host or the protocol of a request.
// sendToEnvoy sets those itself, as the body and the host of the request require.
func setBySender(name string) bool {
	return slices.Contains([]string{"transfer-encoding", "content-length", "expect", "host", "upgrade", ":protocol"}, name)
}

// removedAtEdge reports whether the bootstrap of EnvoyGate removes a header of the adversary before
// the filter, because some server takes a path or a host from it. The core does not get it then.
func removedAtEdge(name string) bool {
	return slices.ContainsFunc([]string{"script", "forwarded", "original", "rewrite"}, func(word string) bool {
		return strings.Contains(name, word)
	})
}

// sendToEnvoy sends a request of the adversary and returns the answer. If the request does not say
// what it accepts, sendToEnvoy adds that it accepts JSON, because a refusal in JSON names its rule.
func sendToEnvoy(t *testing.T, addr string, r *maintenance.Request) Response {
	t.Helper()
	wire := &Request{Method: r.Method, Target: r.Path, Host: r.Authority, Body: r.Body}
	if !r.EndStream {
		wire.Framing = Chunked // there is a body, even if it is empty
	}

	wire.Headers = slices.Clone(r.Headers)
	if !slices.ContainsFunc(r.Headers, func(h [2]string) bool { return h[0] == "accept" }) {
		wire.Headers = append(wire.Headers, [2]string{"accept", "application/json"})
	}

	res, err := Send(addr, wire)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// ruleOf returns the rule that a refusal names, or "" for another answer. A refusal is a GraphQL
// error or, for other requests, a JSON object with the member "rule" (problem details, RFC 9457).
func ruleOf(res Response) maintenance.Rule {
	if rule := res.RefusedBy(); rule != "" && rule != unknownRule {
		return rule
	}

	var problem struct{ Rule maintenance.Rule }
	if json.Unmarshal(res.Body, &problem) != nil {
		return ""
	}
	return problem.Rule
}
