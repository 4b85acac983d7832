// Command bench measures what the filter costs in a real Envoy and prints the tables of
// docs/performance.md. It measures the processor time of Envoy's worker for each request. Every
// round measures all variants one after another, so a machine that becomes slower or faster affects
// all of them.
//
//	go run ./e2e/bench [-rounds 15] [-requests 4000] [-attacks]
//
// With -attacks it measures the most expensive requests that are known instead, each next to a
// plain refused request of the same size.
//
// variants.go holds the ordinary measurement, attacks.go the expensive requests and attack_costs.go
// their measurement, and stubs.go the upstream and the controller that both use.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 15, "number of rounds; each measures every variant once")
	requests := flag.Int("requests", 4000, "requests to each variant in a round")
	attacks := flag.Bool("attacks", false, "measure the most expensive requests instead")
	flag.Parse()

	measure := measureVariants
	if *attacks {
		measure = measureAttacks
	}
	if err := measure(*rounds, *requests); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// workerTime returns the processor time that the worker thread of an Envoy process has used. It
// takes nanoseconds from the kernel's scheduler: clock ticks of a hundredth of a second would be
// too coarse, and the time of the whole process would include the main thread, which does not
// handle requests.
func workerTime(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return 0, err
	}

	for _, task := range tasks {
		// Envoy names the threads of its workers wrk:worker_0, wrk:worker_1 and so on. All Envoys
		// here have one worker. The first number in schedstat is the time on the processor.
		name, err := os.ReadFile(task + "/comm")
		if err != nil || !strings.HasPrefix(string(name), "wrk:worker_0") {
			continue
		}
		stat, err := os.ReadFile(task + "/schedstat")
		if err != nil {
			return 0, err
		}
		ns, _, _ := strings.Cut(string(stat), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		return time.Duration(n), err
	}

	return 0, errors.New("no thread wrk:worker_0 in Envoy")
}

// microseconds returns d in microseconds, with the part below one.
func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// median returns the middle one of the numbers, or the upper of the two in the middle. There must
// be at least one.
func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
