package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

const (
	// maxMessage bounds a proxy's message, in bytes.
	maxMessage = 8 << 10
	// messageTime bounds the time that a proxy takes to send its message.
	messageTime = 10 * time.Second
)

type proxyListener struct {
	Options
	tokenHash [sha256.Size]byte
}

// Proxy returns the handler of the listener that proxies use: sync, acks and pages, which need the
// sync token, and the public status at the edge path. It compares paths as they were sent instead
// of cleaning them, so that no other spelling of a path reaches anything.
func Proxy(o Options) http.Handler {
	return &proxyListener{Options: o, tokenHash: sha256.Sum256([]byte(o.SyncToken))}
}

func (p *proxyListener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(maintenance.SyncWait*time.Second + answerTime))

	path, _, _ := strings.Cut(r.RequestURI, "?")
	sha, isPage := strings.CutPrefix(path, maintenance.PagePath)
	switch {
	case path == maintenance.SyncPath:
		if p.fromProxy(w, r, http.MethodPost) {
			p.sync(w, r)
		}
	case path == maintenance.AckPath:
		if p.fromProxy(w, r, http.MethodPost) {
			p.ack(w, r)
		}
	case isPage:
		if p.fromProxy(w, r, http.MethodGet) {
			p.page(w, r, sha)
		}
	case maintenance.IsStatusPath(r.RequestURI):
		p.edgeStatus(w, r)
	default:
		writeProblem(w, http.StatusNotFound, "there is nothing at this path; this listener is for proxies")
	}
}

// fromProxy reports whether a request has the sync token and the right method, and otherwise
// answers it.
func (p *proxyListener) fromProxy(w http.ResponseWriter, r *http.Request, method string) bool {
	secret, _ := bearer(r.Header.Get("Authorization"))
	hash := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(hash[:], p.tokenHash[:]) != 1 {
		w.Header().Set("WWW-Authenticate", `Bearer realm="drydock-sync"`)
		writeProblem(w, http.StatusUnauthorized, "the sync token is required: DRYDOCK_SYNC_TOKEN in the proxy's environment must be that of the controller")
		return false
	}

	if r.Method != method {
		writeMethodNotAllowed(w, r, method)
		return false
	}
	return true
}

// readMessage decodes a proxy's message, and reports whether it could. Otherwise it has answered
// the request.
func readMessage(w http.ResponseWriter, r *http.Request, message any) bool {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(messageTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	// A deadline that passes while sync waits would cancel the request's context.
	rc.SetReadDeadline(time.Time{})

	if err != nil {
		status := http.StatusBadRequest
		if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
			status = http.StatusRequestEntityTooLarge
		}

		writeProblem(w, status, "reading the message: "+err.Error())
		return false
	}

	if err := json.Unmarshal(body, message); err != nil {
		writeProblem(w, http.StatusBadRequest, "reading the message: "+err.Error())
		return false
	}
	return true
}

// sync answers with the state as soon as there is a newer one than the proxy has, or with 204 when
// there is none after the wait.
func (p *proxyListener) sync(w http.ResponseWriter, r *http.Request) {
	var has maintenance.SyncRequest
	if !readMessage(w, r, &has) {
		return
	}
	wait := time.NewTimer(time.Duration(min(max(has.Wait, 0), maintenance.SyncWait)) * time.Second)
	defer wait.Stop()

	for {
		s := p.Keeper.Current()
		if s.Version().Compare(has.Version) > 0 {
			w.Header().Set("Content-Type", "application/json")
			w.Write(s.Document)
			return
		}

		select {
		case <-s.Newer():
			continue
		case <-wait.C:
		case <-r.Context().Done():
			if p.Stopping.Err() == nil {
				p.Keeper.PollClosed(has.Proxy)
			}
		case <-p.Stopping.Done():
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
}

// ack notes which version a VM of a proxy enforces.
func (p *proxyListener) ack(w http.ResponseWriter, r *http.Request) {
	var ack maintenance.Ack
	if !readMessage(w, r, &ack) {
		return
	}

	if err := p.Keeper.Ack(ack); err != nil {
		writeProblem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (p *proxyListener) page(w http.ResponseWriter, r *http.Request, sha string) {
	html, err := p.Keeper.Page(r.Context(), sha)
	switch {
	case errors.Is(err, keeper.ErrNotFound):
		writeProblem(w, http.StatusNotFound, "no page with this SHA-256 is stored")
	case err != nil:
		p.Log.Error("reading a page", "sha256", sha, "error", err)
		writeProblem(w, http.StatusServiceUnavailable, "the page could not be read; see the controller's log")
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(html)
	}
}

// edgeStatus answers with the public status of the app that the Host header selects. The filter
// answers the same while an app is on or announced; at other times a route of the proxy leads here.
func (p *proxyListener) edgeStatus(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		writeMethodNotAllowed(w, r, "GET, HEAD")
		return
	}

	req := &maintenance.Request{Method: http.MethodGet, Authority: r.Host, Path: "/", EndStream: true, Attributes: givenAttributes{Request: &Request{}}}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(p.Keeper.Current().State.StatusOf(req, p.Now()))
}
