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

// This file says which of many requests write on which servers. Each server of a rig has a counter
// of its writes (server.go). raises is, in all functions here, a function that sends a request to a
// server and reports whether the server's counter rose. It may be called for several servers at
// once, but for each of them one request after the other.

// ExpectKnownDifferences sends a corpus to every server, lists for each request the servers whose
// counters it raised, and compares the list with a golden file. raises gets the server's index.
func ExpectKnownDifferences(t *testing.T, servers []*Server, corpus []*Request, file string, raises func(server int, r *Request) bool) {
	t.Helper()
	raised := raisedBy(t, servers, len(corpus), func(server, request int) bool {
		return raises(server, corpus[request])
	})
	if !t.Failed() {
		golden.Compare(t, file, differences(servers, corpus, raised))
	}
}

// raisedBy calls raises for n requests to each server, and returns its results: raised[i][j] is the
// result for server i and request j.
func raisedBy(t *testing.T, servers []*Server, n int, raises func(server, request int) bool) (raised [][]bool) {
	raised = make([][]bool, len(servers))
	Each(servers, func(i int, s *Server) {
		begin := time.Now()
		for j := range n {
			raised[i] = append(raised[i], raises(i, j))
		}
		t.Logf("%s: %d requests in %v", s.Name, n, time.Since(begin).Round(time.Millisecond))
	})
	return raised
}

// differences returns two lines for each request of a corpus: the trail of the request, and the
// servers whose counters it raised. raised is the result of raisedBy.
func differences(servers []*Server, corpus []*Request, raised [][]bool) string {
	var b strings.Builder
	for j, r := range corpus {
		var with, without []string // the servers whose counters rose, and the others
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

		// The trail is quoted for its control characters and other than ASCII, but without the
		// quotation marks, which would be in the way of reading.
		quoted := strconv.QuoteToASCII(strings.Join(r.Trail, " > "))
		trail := strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
		fmt.Fprintf(&b, "%s\n\t%s\n", trail, who)
	}
	return b.String()
}

// ExpectWrites shows that the requests of a generator are good enough to find a hole in a gate. It
// sends the first n requests to every server without a gate, or through one that refuses nothing,
// and fails the test for each server whose counter fewer than a twelfth of them raise. raises gets
// the indexes of the server and the request.
func ExpectWrites(t *testing.T, servers []*Server, n int, raises func(server, request int) bool) {
	t.Helper()
	raised := raisedBy(t, servers, n, raises)
	if t.Failed() {
		return
	}

	somewhere := 0
	for j := range n {
		if slices.ContainsFunc(raised, func(byServer []bool) bool { return byServer[j] }) {
			somewhere++
		}
	}
	t.Logf("%d of %d requests raised the counter of some server (%.0f %%)", somewhere, n, Percent(int64(somewhere), int64(n)))

	for i, s := range servers {
		writes := 0
		for _, rose := range raised[i] {
			if rose {
				writes++
			}
		}

		t.Logf("%-16s %4d of %d requests raised the counter (%.0f %%)", s.Name, writes, n, Percent(int64(writes), int64(n)))
		if writes < n/12 {
			t.Errorf("%s: fewer than a twelfth of the requests raised the counter, so the rig shows little of it", s.Name)
		}
	}
}

// Percent returns which share of total is part, in percent.
func Percent(part, total int64) float64 { return 100 * float64(part) / float64(total) }
