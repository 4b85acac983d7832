package differential

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/golden"
)

// Differ sends a corpus to every server, notes the servers whose counters each request raises, and
// compares that with a golden file. raises sends a request to a server by its index and reports
// whether the counter rose.
func Differ(t *testing.T, servers []*Server, corpus []*Request, file string, raises func(server int, r *Request) bool) {
	t.Helper()
	raised := raisedBy(t, servers, len(corpus), func(i, j int) bool { return raises(i, corpus[j]) })
	if !t.Failed() {
		golden.Compare(t, file, differences(servers, corpus, raised))
	}
}

// raisedBy calls raises for n requests to each server, to all servers at once, and returns the
// results by server and then by request.
func raisedBy(t *testing.T, servers []*Server, n int, raises func(server, j int) bool) [][]bool {
	raised := make([][]bool, len(servers))
	Each(servers, func(i int, s *Server) {
		begin := time.Now()
		for j := range n {
			raised[i] = append(raised[i], raises(i, j))
		}
		t.Logf("%s: %d requests in %v", s.Name, n, time.Since(begin).Round(time.Millisecond))
	})
	return raised
}

// differences lists for each request of a corpus the servers whose counters it raised; raised is by
// server, then by request.
func differences(servers []*Server, corpus []*Request, raised [][]bool) string {
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

// Reaches sends n requests to every server by raises, which reports whether the j-th request raised
// the counter of a server. It fails the test for each server whose counter fewer than a twelfth of
// the requests raised.
func Reaches(t *testing.T, servers []*Server, n int, raises func(server, j int) bool) {
	t.Helper()
	raised := raisedBy(t, servers, n, raises)
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

		t.Logf("%-16s %4d of %d requests raised the counter (%.0f %%)", s.Name, by, n, Percent(int64(by), int64(n)))
		if by < n/12 {
			t.Errorf("%s: fewer than a twelfth of the requests raised the counter, so the rig shows little of it", s.Name)
		}
	}
}

// Percent returns how many percent of a number n is.
func Percent(n, of int64) float64 { return 100 * float64(n) / float64(of) }
