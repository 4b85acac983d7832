package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A minute of load on two workers with two hundred toggles: no error but our 503, no
// ordinary answer between an acknowledged `on` and the `off` after it, no 503 between an
// acknowledged `off` and the `on` after it, and no memory lost.
func TestTogglesUnderLoad(t *testing.T) {
	t.Parallel()
	duration, toggles := 60*time.Second, 200
	if *long {
		duration, toggles = time.Hour, 12000
	}
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default", Exempt: []maintenance.PathRule{{Prefix: "/echo/exempt"}}})

	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer cancel()
	conns := append(append(d.workerConns(2), d.workerConns(2)...), d.workerConns(2)...)
	body := `{"item":"` + strings.Repeat("rope", 500) + `"}`
	var mu sync.Mutex
	var samples []sample // of the whole run; most of them are dropped as soon as they are judged
	total := map[int]int{}
	for i, l := range conns {
		load.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				var s sample
				exempt := false
				switch n % 4 {
				case 0:
					s = l.get(ctx, "/api/stock", "Accept", "text/html")
				case 1:
					s = l.do(ctx, "POST", "/api/orders", body, "Content-Type", "application/json")
				case 2:
					s = l.get(ctx, "/api/orders?n="+fmt.Sprint(n), "Accept", "application/json")
				case 3:
					s, exempt = l.get(ctx, "/echo/exempt/"+fmt.Sprint(n)), true
				}
				if ctx.Err() != nil {
					return
				}
				ours := s.status == http.StatusServiceUnavailable && strings.Contains(s.body, "toggle ")
				switch {
				case s.err != nil:
					t.Errorf("request failed: %v", s.err)
				case exempt && s.status != http.StatusOK:
					t.Errorf("an exempt request was answered %d", s.status)
				case s.status >= 400 && !ours:
					t.Errorf("status %d, not ours: %s", s.status, s.body)
				}
				mu.Lock()
				total[s.status]++
				if !exempt {
					s.body = ""
					samples = append(samples, s)
				}
				mu.Unlock()
				time.Sleep(3 * time.Millisecond)
			}
		})
	}

	// One probes the memory, the other toggles.
	began := time.Now()
	var resident []int64 // bytes, twice a second
	load.Go(func() {
		for ctx.Err() == nil {
			rss, err := d.envoy.RSS()
			if err != nil {
				t.Error(err)
				return
			}
			resident = append(resident, rss)
			time.Sleep(500 * time.Millisecond)
		}
	})
	// judge checks what was asked and answered between two moments.
	judge := func(from, to time.Time, want bool, what string) {
		t.Helper()
		// A request that is on its way when the toggle comes belongs to neither side;
		// keep the younger ones for the next call.
		mu.Lock()
		defer mu.Unlock()
		wrong, judged := 0, 0
		for _, s := range samples {
			if s.start.After(from) && s.end.Before(to) {
				judged++
				if (s.status == http.StatusServiceUnavailable) != want {
					wrong++
				}
			}
		}
		samples = slices.DeleteFunc(samples, func(s sample) bool { return s.end.Before(to) })
		if wrong > 0 {
			t.Errorf("%s: %d of %d requests were decided otherwise", what, wrong, judged)
		}
	}
	pause := duration / time.Duration(toggles)
	for i := range toggles {
		next := began.Add(time.Duration(i+1) * pause)
		if i%2 == 0 {
			d.on("default", maintenance.NoAccess, fmt.Sprintf("toggle %d", i))
		} else {
			d.off("default")
		}
		acknowledged := time.Now()
		time.Sleep(max(time.Until(next), 20*time.Millisecond))
		judge(acknowledged, time.Now(), i%2 == 0, fmt.Sprintf("after toggle %d was acknowledged by all", i))
	}
	took := time.Since(began)
	cancel()
	load.Wait()

	for status, n := range total {
		if status != 200 && status != 201 && status != 503 {
			t.Errorf("%d answers with status %d", n, status)
		}
	}
	if total[503] < toggles || total[200] < toggles {
		t.Errorf("answers by status %v: the toggles left no mark", total)
	}
	// A single reading jumps with every buffer; the median of five seconds does not.
	const second = 2
	if len(resident) < 25*second {
		t.Fatalf("only %d readings of the memory in %v", len(resident), took)
	}
	median := func(window []int64) int64 { return slices.Sorted(slices.Values(window))[len(window)/2] }
	before, after := median(resident[10*second:15*second]), median(resident[len(resident)-5*second:])
	growth := 100 * float64(after-before) / float64(before)
	t.Logf("MEASURED %d toggles in %v, answers by status %v, resident %.1f MB after 10 s, %.1f MB at the end (%+.1f %%)",
		toggles, took.Round(time.Second), total, float64(before)/1e6, float64(after)/1e6, growth)
	if growth >= 5 {
		t.Errorf("resident memory grew by %.1f %%", growth)
	}
}
