package web

import (
	"net/http"
	"sync"
	"time"
)

// serveHealthz answers /healthz, which says that the process serves requests. /readyz says whether
// changes can be made.
func serveHealthz(w http.ResponseWriter, r *http.Request) { w.Write([]byte("ok\n")) }

// readyzHandler returns a handler for /readyz, which says whether changes can be made: 200 or 503.
// To know that, it writes to the store. Since it requires no token, it does so at most once a
// second, and otherwise repeats the last result.
func readyzHandler(o Options) http.HandlerFunc {
	var mu sync.Mutex // guards lastProbe and lastErr
	var lastProbe time.Time
	var lastErr error
	probe := func() error {
		mu.Lock()
		defer mu.Unlock()

		if time.Since(lastProbe) > time.Second {
			// Not with the context of a request: a client that goes away must not make the result
			// an error.
			lastErr, lastProbe = o.Keeper.Probe(o.Stopping), time.Now()
			if lastErr != nil {
				o.Log.Error("not ready", "error", lastErr)
			}
		}
		return lastErr
	}

	return func(w http.ResponseWriter, r *http.Request) {
		if probe() != nil {
			writeProblem(w, http.StatusServiceUnavailable, "changes cannot be made now; see the controller's log")
			return
		}
		w.Write([]byte("ok\n"))
	}
}
