package differential

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BuildGo builds the Go servers of a rig, which are in ./servers/golang, into a temporary folder as golang. The folder
// goes with remove.
func BuildGo(ctx context.Context) (bin string, remove func(), err error) {
	bin, err = os.MkdirTemp("", "drydock-rig-")
	if err != nil {
		return "", nil, err
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin+"/golang", "./servers/golang").CombinedOutput(); err != nil {
		os.RemoveAll(bin)
		return "", nil, fmt.Errorf("building the Go servers: %w: %s", err, out)
	}
	return bin, func() { os.RemoveAll(bin) }, nil
}

// Differences says of each request of a corpus which servers' counters it raised; raised is by server, then by request.
func Differences(servers []*Server, corpus []*Request, raised [][]bool) string {
	var b strings.Builder
	for j, r := range corpus {
		var with, without []string
		for i, s := range servers {
			if raised[i][j] {
				with = append(with, s.Name)
			} else {
				without = append(without, s.Name)
			}
		}

		who := strings.Join(with, ", ")
		switch {
		case len(with) == 0:
			who = "none"
		case len(without) == 0:
			who = "all"
		case len(without) <= len(with):
			who = "all but " + strings.Join(without, ", ")
		}

		name := strconv.QuoteToASCII(strings.Join(r.Trail, " > "))
		fmt.Fprintf(&b, "%s\n\t%s\n", strings.ReplaceAll(name[1:len(name)-1], `\"`, `"`), who)
	}
	return b.String()
}

// Reaches sends n requests to every server by raises, which reports whether the j-th one raised the counter of a server,
// and fails for each server whose counter less than a twelfth of them raise.
func Reaches(t *testing.T, servers []*Server, n int, raises func(server, j int) bool) {
	t.Helper()
	raised := make([][]bool, len(servers))
	took := make([]time.Duration, len(servers))
	Each(servers, func(i int, _ *Server) {
		begin := time.Now()
		for j := range n {
			raised[i] = append(raised[i], raises(i, j))
		}
		took[i] = time.Since(begin)
	})
	if t.Failed() {
		return
	}

	somewhere := 0
	for j := range n {
		if slices.ContainsFunc(raised, func(of []bool) bool { return of[j] }) {
			somewhere++
		}
	}
	t.Logf("%d of %d requests raised the counter of some server (%.0f %%)", somewhere, n, Percent(int64(somewhere), int64(n)))
	for i, s := range servers {
		by := 0
		for _, rose := range raised[i] {
			if rose {
				by++
			}
		}
		t.Logf("%-16s %4d of %d requests raised the counter (%.0f %%), in %v", s.Name, by, n, Percent(int64(by), int64(n)), took[i].Round(time.Millisecond))
		if by < n/12 {
			t.Errorf("%s: less than a twelfth of the requests raised the counter: the rig shows little of it", s.Name)
		}
	}
}

// String sums a run up, as docs/reliability.md has it.
func (o Outcome) String() string {
	return fmt.Sprintf("sent %d times: %.1f %% refused, %.1f %% answered by the server, %.1f %% malformed to the gate, %.1f %% without an answer, the rest failed in the proxy or the server; %d took more than 2 s; %v, %.0f/s; counters risen: %v",
		o.Sent, Percent(o.Refused, o.Sent), Percent(o.Answered, o.Sent), Percent(o.Malformed, o.Sent), Percent(o.Unanswered, o.Sent),
		o.Slow, o.Took.Round(time.Second), float64(o.Sent)/o.Took.Seconds(), o.Risen)
}

// Percent returns how many percent of a number another is.
func Percent(n, of int64) float64 { return 100 * float64(n) / float64(of) }
