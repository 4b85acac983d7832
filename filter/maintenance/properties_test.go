package maintenance_test

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/maintenance/adversary"
)

// This file checks properties that hold for every request: a change that some server undoes, or
// does not see, must not make a refused request pass. Package adversary draws the document (a
// World), the request and the change from a tape, which is a sequence of choices. Each property is
// one function, so that it can be checked in two ways: by a test, which draws tapes with a fixed
// seed, and by a fuzzer, which mutates them.

// tapesPerTest is the number of random tapes with which a test checks each property.
const tapesPerTest = 60_000

// checkAtRandom checks a property with random tapes, until it fails once.
func checkAtRandom(t *testing.T, property func(t *testing.T, tape *adversary.Tape)) {
	t.Helper()
	const seed = 7
	adversary.Tapes(seed, tapesPerTest, func(tape *adversary.Tape) bool {
		property(t, tape)
		return !t.Failed()
	})
}

// fuzz lets the fuzzer look for a tape with which a property does not hold. It begins with 16 tapes
// of 48 equal choices, which is as long as those that the tests draw.
func fuzz(f *testing.F, property func(t *testing.T, tape *adversary.Tape)) {
	for i := range 16 {
		f.Add([]byte(strings.Repeat(string(rune('0'+i)), 48)))
	}
	f.Fuzz(func(t *testing.T, choices []byte) { property(t, adversary.NewTape(choices)) })
}

// states keeps the compiled state of each world, because there are few worlds and many tapes.
var states = map[adversary.World]*maintenance.State{}

// stateOf returns the compiled state of a world.
func stateOf(t testing.TB, w adversary.World) *maintenance.State {
	t.Helper()
	if states[w] == nil {
		states[w] = mustParse(t, w.Document())
	}
	return states[w]
}

// drawRequest draws a request from a client to whom no bypass applies.
func drawRequest(tape *adversary.Tape) *maintenance.Request {
	r := tape.Request()
	r.Attributes = &attributes{}
	return r
}

// addedHeaderNeverGrants checks that a refused request does not pass with one more header. The
// exception is a first Content-Type, without which the type of a body is not known.
func addedHeaderNeverGrants(t *testing.T, tape *adversary.Tape) {
	s, r := stateOf(t, tape.World()), drawRequest(tape)
	if decideWithBody(t, s, adversary.Fresh(r)).Verdict != maintenance.Refuse {
		return
	}

	added := tape.Header()
	typed := slices.ContainsFunc(r.Headers, func(h [2]string) bool { return strings.HasPrefix(h[0], "content") && strings.HasSuffix(h[0], "type") })
	if added[0] == "content-type" && !typed {
		return
	}

	more := adversary.Fresh(r)
	more.Headers = slices.Insert(more.Headers, tape.UpTo(len(more.Headers)+1), added)

	if d := decideWithBody(t, s, more); d.Verdict != maintenance.Refuse {
		t.Errorf("%s was refused, and passes by %s with %q", adversary.Describe(r), d.Rule, added)
	}
}

func TestAddedHeaderNeverGrants(t *testing.T) { checkAtRandom(t, addedHeaderNeverGrants) }
func FuzzAddedHeader(f *testing.F)            { fuzz(f, addedHeaderNeverGrants) }

// respellingNeverGrants checks that a refused request does not pass if its path, host, method or a
// header name is spelled in another way that some server undoes.
func respellingNeverGrants(t *testing.T, tape *adversary.Tape) {
	s, r := stateOf(t, tape.World()), drawRequest(tape)
	if decideWithBody(t, s, adversary.Fresh(r)).Verdict != maintenance.Refuse {
		return
	}

	other := adversary.Fresh(r)
	how := tape.Respell(other)
	if d := decideWithBody(t, s, other); d.Verdict != maintenance.Refuse {
		paths, _ := maintenance.Readings(other)
		t.Errorf("%s was refused, and passes by %s of %s with another %s; read as %q", adversary.Describe(r), d.Rule, d.App, how, paths)
	}
}

func TestRespellingNeverGrants(t *testing.T) { checkAtRandom(t, respellingNeverGrants) }
func FuzzRespelling(f *testing.F)            { fuzz(f, respellingNeverGrants) }

// stricterModeRefusesMore checks that no-access refuses whatever read-only refuses.
func stricterModeRefusesMore(t *testing.T, tape *adversary.Tape) {
	w := tape.World()
	w.Mode = maintenance.ReadOnly
	lax := stateOf(t, w)
	w.Mode = maintenance.NoAccess
	strict := stateOf(t, w)

	r := drawRequest(tape)
	if decideWithBody(t, lax, adversary.Fresh(r)).Verdict == maintenance.Refuse {
		if d := decideWithBody(t, strict, adversary.Fresh(r)); d.Verdict != maintenance.Refuse {
			t.Errorf("%s is refused in read-only, and passes by %s in no-access", adversary.Describe(r), d.Rule)
		}
	}
}

func TestStricterModeRefusesMore(t *testing.T) { checkAtRandom(t, stricterModeRefusesMore) }
func FuzzStricterMode(f *testing.F)            { fuzz(f, stricterModeRefusesMore) }

// delayNeverGrants checks that a request which is paused until its body is there is decided in the
// same way in its compact form, and that a refused request does not pass if its body is padded.
func delayNeverGrants(t *testing.T, tape *adversary.Tape) {
	s, r := stateOf(t, tape.World()), drawRequest(tape)
	whole := decideWithBody(t, s, adversary.Fresh(r))

	paused := adversary.Fresh(r)
	first := s.Decide(paused, noon)
	paused.Compact()

	if again := s.Decide(paused, noon); again.Verdict != first.Verdict || again.Rule != first.Rule {
		t.Errorf("%s: %v by %s, and in compact form %v by %s", adversary.Describe(r), first.Verdict, first.Rule, again.Verdict, again.Rule)
	}
	if compact := decideWithBody(t, s, paused); compact.Verdict != whole.Verdict || compact.Rule != whole.Rule {
		t.Errorf("%s: %v by %s, and in compact form with its body %v by %s", adversary.Describe(r), whole.Verdict, whole.Rule, compact.Verdict, compact.Rule)
	}

	if whole.Verdict != maintenance.Refuse || len(r.Body) == 0 {
		return
	}

	padded := adversary.Fresh(r)
	padded.Body = tape.Pad(r.Body)

	if d := decideWithBody(t, s, padded); d.Verdict != maintenance.Refuse {
		t.Errorf("%s was refused, and passes by %s with the body %q", adversary.Describe(r), d.Rule, padded.Body)
	}
}

func TestDelayNeverGrants(t *testing.T) { checkAtRandom(t, delayNeverGrants) }
func FuzzDelay(f *testing.F)            { fuzz(f, delayNeverGrants) }

// A compact request must not refer to the buffer that its strings came from, which would keep the
// whole buffer in memory. Each of 200 requests has a buffer of 100 kB. When they are compact, the
// heap must have grown by what Compact counted, and at most 4 kB for each request beside its
// strings.
func TestCompactRequestsKeepNoBuffer(t *testing.T) {
	const n = 200
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}

	before, counted := heap(), 0
	paused := make([]*maintenance.Request, n)

	for i := range paused {
		// Like those of the SDK, the strings are substrings of one buffer.
		names := "script-namex-forwarded-hostx-original-urlcontent-typecookie"
		buffer := names + "/x" + "shop.example.com" + "/x/a%2fb;c" + "application/json" + strings.Repeat("c", 100_000)
		cut := func(text string) string { at := strings.Index(buffer, text); return buffer[at : at+len(text)] }
		paused[i] = &maintenance.Request{
			Method: "POST", Authority: cut("shop.example.com"), Path: cut("/x/a%2fb;c"), Attributes: &attributes{},
			Headers: [][2]string{
				{cut("script-name"), cut("/x")}, {cut("x-forwarded-host"), cut("shop.example.com")}, {cut("x-original-url"), cut("/x/a%2fb;c")},
				{cut("content-type"), cut("application/json")}, {cut("cookie"), buffer[len(buffer)-100_000:]},
			},
		}
		counted += paused[i].Compact()
	}

	const overhead = 4 << 10 // of one request
	if grown := heap() - before; grown > uint64(counted)+n*overhead {
		t.Errorf("%d requests count %d bytes and keep %d", n, counted, grown)
	}

	runtime.KeepAlive(paused)
}
