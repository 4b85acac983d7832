package honest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// An entry is a request of the corpus with the verdict that is expected in each mode of its app
// (corpus.go). The core is the rules of Drydock's filter alone; a rig is a running Drydock with a
// real Envoy (rig_test.go).

// minRecorded is how many entries the corpus must have, at least, that were recorded from a client
// and must pass.
const minRecorded = 600

// corpus returns all entries.
func corpus(t *testing.T) []Entry {
	t.Helper()
	all, err := Load()
	must(t, err)
	return all
}

// TestCorpusIsLargeAndLabelled shows that the corpus is large enough, and that each entry says
// where it comes from, what is expected of it, and, for a refusal, why.
func TestCorpusIsLargeAndLabelled(t *testing.T) {
	type count struct{ recorded, fixture, documented, refused int }
	groups := map[string]*count{}
	var total count

	for _, e := range corpus(t) {
		if groups[e.Group] == nil {
			groups[e.Group] = &count{}
		}
		g := groups[e.Group]

		kind, rest, _ := strings.Cut(e.Source, ": ")
		switch {
		case kind == "recorded" && rest != "":
			g.recorded++
			total.recorded++
		case kind == "fixture" && rest != "":
			g.fixture++
			total.fixture++
		case kind == "documented" && strings.HasPrefix(rest, "https://"):
			g.documented++
			total.documented++
		default:
			t.Errorf("%s: source %q must begin with recorded:, fixture: or documented: https://", &e, e.Source)
		}

		refused := false
		for mode, verdict := range e.Expect {
			if !slices.Contains(modes, mode) || verdict != "pass" && verdict != "refuse" {
				t.Errorf("%s: expects %q in mode %q", &e, verdict, mode)
			}
			refused = refused || verdict == "refuse"
		}

		if len(e.Expect) == 0 || e.Client == "" || refused != (e.Why != "") {
			t.Errorf("%s: needs a client and a verdict, and a reason if and only if the verdict is a refusal: %q, %v, %q", &e, e.Client, e.Expect, e.Why)
		}
		if refused {
			g.refused++
			total.refused++
		}
	}

	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		t.Logf("%-10s %4d recorded, %3d fixtures, %3d documented; %d of these must be refused", name, g.recorded, g.fixture, g.documented, g.refused)
	}
	t.Logf("%-10s %4d recorded, %3d fixtures, %3d documented; %d of these must be refused", "in all", total.recorded, total.fixture, total.documented, total.refused)

	if total.recorded-total.refused < minRecorded {
		t.Errorf("%d recorded requests must pass, want at least %d", total.recorded-total.refused, minRecorded)
	}
}

// TestCoreDecidesHonestRequestsAsExpected compares the decisions of the rules alone with those of
// the corpus.
func TestCoreDecidesHonestRequestsAsExpected(t *testing.T) {
	doc, err := Document()
	must(t, err)
	state, err := maintenance.Compile(doc)
	must(t, err)

	passed, refused := 0, 0
	for _, e := range corpus(t) {
		for _, mode := range slices.Sorted(maps.Keys(e.Expect)) {
			d := e.Decide(state, mode, time.Now())
			want := e.Expect[mode]
			switch {
			case d.Verdict.String() != want:
				t.Errorf("%s in %s: %s by %s, want %s\n\theaders %q\n\tbody %.200q", &e, mode, d.Verdict, d.Rule, want, e.Headers, e.body())
			case want == "pass":
				passed++
			default:
				refused++
			}
		}
	}
	t.Logf("%d verdicts to pass and %d to refuse are as expected", passed, refused)
}

// TestEnvoyDecidesHonestRequestsAsExpected sends the corpus, and requests with bodies that are too
// large to keep in the corpus, through a real Envoy with the filter. What passes must reach the
// upstream unchanged, and what is refused must not reach it.
func TestEnvoyDecidesHonestRequestsAsExpected(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts Envoy")
	}

	r := start(t, options{})
	r.enforce(t)

	t.Run("corpus", r.checkCorpus)
	t.Run("large bodies pass by rules that do not read them", r.checkLargeBodies)
}

// checkCorpus sends each entry to its app in each mode for which the entry expects a verdict.
func (r *rig) checkCorpus(t *testing.T) {
	passed, refused, redirected := 0, 0, 0
	for i, e := range corpus(t) {
		for _, mode := range slices.Sorted(maps.Keys(e.Expect)) {
			verdict, redirects, problem := r.replay(t, &e, mode, fmt.Sprint(i, "-", mode))
			redirected += redirects

			want := e.Expect[mode]
			switch {
			case problem != "":
				t.Errorf("%s in %s: %s", &e, mode, problem)
			case verdict != want:
				t.Errorf("%s in %s: %s, want %s", &e, mode, verdict, want)
			case want == "pass":
				passed++
			default:
				refused++
			}
		}
	}
	t.Logf("%d verdicts to pass and %d to refuse are as expected; Envoy first redirected %d requests to the plain spelling of their path", passed, refused, redirected)
}

// checkLargeBodies sends bodies larger than graphql.max_body (1 MiB), which the filter cannot read
// to the end. They must pass by rules that do not read a body, and by no others. The rules are
// those of the app shop in testdata/apps.json; the comments say what of them lets a target pass.
func (r *rig) checkLargeBodies(t *testing.T) {
	// "_method" could name another method, so the filter would have to read the whole body.
	large := `{"commits":["` + strings.Repeat("a _method ", 1<<20/10) + `"]}`
	for i, e := range []Entry{
		{Target: "/webhooks/github", Expect: map[maintenance.Mode]string{maintenance.NoAccess: "refuse", maintenance.ReadOnly: "refuse"}},
		{Target: "/collect/github", Expect: map[maintenance.Mode]string{maintenance.NoAccess: "pass", maintenance.ReadOnly: "pass"}}, // allow: [overrides]
		{Target: "/inbound/github", Expect: map[maintenance.Mode]string{maintenance.NoAccess: "pass", maintenance.ReadOnly: "pass"}}, // without methods
		{Target: "/uploads/github", Expect: map[maintenance.Mode]string{maintenance.ReadOnly: "pass"}},
	} {
		for _, framing := range []string{"length", "chunked"} {
			e.App, e.Method, e.Framing, e.Body = "shop", "POST", framing, large
			e.Headers = [][2]string{{"Content-Type", "application/json"}}

			for mode, want := range e.Expect {
				verdict, _, problem := r.replay(t, &e, mode, fmt.Sprint("large-", i, framing, mode))
				if problem != "" || verdict != want {
					t.Errorf("POST %s, %s, in %s: %s %s, want %s", e.Target, framing, mode, verdict, problem, want)
				}
			}
		}
	}
}
