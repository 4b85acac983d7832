package web

import (
	"net/http"
	"sync"
	"time"
)

// alive answers /healthz: the process serves requests.
func alive(w http.ResponseWriter, r *http.Request) { w.Write([]byte("ok\n")) }

// ready returns a handler for /readyz, which says whether changes can be made. It needs no token,
// and therefore tries the store once a second at most.
func ready(o Options) http.HandlerFunc {
	var mu sync.Mutex
	var tried time.Time
	var last error
	probe := func() error {
		mu.Lock()
		defer mu.Unlock()

		if time.Since(tried) > time.Second {
			last, tried = o.Keeper.Probe(o.Stopping), time.Now()
			if last != nil {
				o.Log.Error("not ready", "error", last)
			}
		}
		return last
	}

	return func(w http.ResponseWriter, r *http.Request) {
		if probe() != nil {
			writeProblem(w, http.StatusServiceUnavailable, "changes cannot be made now; see the controller's log")
			return
		}
		w.Write([]byte("ok\n"))
	}
}
