// Package web has the HTTP handlers of the controller's two listeners: [API], for people and
// scripts, and [Proxy], from which the proxies get the state. It translates between HTTP and the
// keeper (package keeper), which holds the state, and has no state of its own.
//
// The API is made with huma: an operation of the API is a Go function from an input to an output,
// both structs. Huma fills the input from the request, checks it by the struct's tags, writes the
// output as the response, and makes the OpenAPI document of all that. api.go puts the API together.
// Each resource has a file with its types, then the registration of its operations, then their
// handlers: apps, activations, bypass, status, explain, proxies, pages, audit, tokens, and compat
// for paths that are compatible with another product, STING. Four files are for all resources:
// access.go (who may call what), precondition.go (If-Match), problem.go (errors) and schema.go
// (types in the OpenAPI document).
//
// metrics.go and health.go are for monitoring. proxylistener.go is the listener for proxies.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/drydock-proxy/drydock/controller/keeper"
)

// Options configure the handlers of both listeners. All fields are required.
type Options struct {
	Keeper *keeper.Keeper
	// SyncToken is the token that proxies must send.
	SyncToken string
	// Stopping is done when the controller stops. Requests that wait for something are then
	// answered at once.
	Stopping context.Context
	Now      func() time.Time
	Log      *slog.Logger
	Version  string // of the controller's binary, for the metrics
}

const (
	// maxHeaderBytes bounds the headers of a request.
	maxHeaderBytes = 64 << 10
	// answerTimeout bounds the time from a request to the end of its answer, apart from the time
	// that the request may wait for something.
	answerTimeout = 30 * time.Second
	// maxWait bounds the time that a client of the API may ask to wait for a status. It is the
	// maximum of the query parameter timeout, in status.go.
	maxWait = 300 * time.Second
)

// NewServer returns a server with the limits that both listeners share. The handlers set the
// deadlines for bodies and answers themselves, because some of them wait.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
