package main

// This file has the servers that stand for the app and for the controller. Both run until the
// program ends.

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// startUpstream starts an app that answers every request with a few bytes, and returns its address.
func startUpstream() (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}

	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"data":{}}`)
	}))
	return l.Addr().String(), nil
}

// startController starts a stub of the controller that publishes one state and never another one,
// and returns its address. The work of the real controller must not be part of the figures. Only
// the requests for a state end in /sync. They name the revision that the filter has, and how many
// seconds the controller may wait for a newer one.
func startController(state string) (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}

	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var sync struct{ Revision, Wait int }
		json.NewDecoder(r.Body).Decode(&sync)
		if strings.HasSuffix(r.URL.Path, "/sync") && sync.Revision == 0 {
			io.WriteString(w, state)
			return
		}

		select {
		case <-r.Context().Done():
		case <-time.After(time.Duration(sync.Wait) * time.Second):
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	return l.Addr().String(), nil
}

// stateOf returns the JSON of a state whose only app is in a mode: off, read-only or no-access.
func stateOf(mode string) string {
	activations := ""
	if mode != "off" {
		activations = `,"activations":[{"id":"bench","source":"manual","mode":"` + mode + `","since":"2026-01-01T00:00:00Z"}]`
	}
	return `{"epoch":1,"revision":1,"apps":[{"name":"default"` + activations + `}]}`
}
