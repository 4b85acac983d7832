// Package web serves the controller's two listeners: the API for people and scripts, see [API], and
// the one that proxies follow, see [Proxy]. It translates between HTTP and the keeper and holds no
// state of its own.
//
// api.go puts the API together. Each of its resources has a file, which registers the operations
// and then handles them: apps, activations, bypass, status, explain, proxies, pages, audit, tokens,
// and compat for paths that are compatible with STING. Four files are for all of them: access.go
// (who may call what), precondition.go (If-Match), problem.go (errors) and schema.go (OpenAPI).
// metrics.go and health.go are for monitoring, proxylistener.go is the proxies' listener.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/drydock-proxy/drydock/controller/keeper"
)

// Options configure the handlers of both listeners.
type Options struct {
	Keeper *keeper.Keeper
	// SyncToken is the token that proxies must send.
	SyncToken string
	// Stopping is done when the controller stops. It ends requests that wait.
	Stopping context.Context
	Now      func() time.Time
	Log      *slog.Logger
	Version  string // of the binary
}

const (
	// maxHeaders bounds a request's headers, in bytes.
	maxHeaders = 64 << 10
	// answerTime bounds the time that a client takes to read an answer.
	answerTime = 30 * time.Second
	// maxWait bounds the time that a client may ask to wait for a status.
	maxWait = 300 * time.Second
)

// NewServer returns a server with the limits that both listeners share. The handlers set the
// deadlines for bodies and answers themselves, because some of them wait.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
