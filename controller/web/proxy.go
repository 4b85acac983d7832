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
	// maxMessage bounds what a proxy sends, in bytes.
	maxMessage = 8 << 10
	// messageTime is how long a proxy may take to send its message.
	messageTime = 10 * time.Second
)

type proxies struct {
	Options
	token [sha256.Size]byte
}

// Proxy is the handler of the listener that proxies use: sync, acks and pages, and the
// public edge status. Paths are taken as they are sent: nothing here cleans them, so
// that no disguise leads anywhere.
func Proxy(o Options) http.Handler {
	p := &proxies{Options: o, token: sha256.Sum256([]byte(o.SyncToken))}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(maintenance.SyncWait*time.Second + answerTime))
		path, _, _ := strings.Cut(r.RequestURI, "?")
		sha, isPage := strings.CutPrefix(path, maintenance.PagePath)
		switch {
		case path == maintenance.SyncPath:
			p.trusted(w, r, http.MethodPost, p.sync)
		case path == maintenance.AckPath:
			p.trusted(w, r, http.MethodPost, p.ack)
		case isPage:
			p.trusted(w, r, http.MethodGet, func(w http.ResponseWriter, r *http.Request) { p.page(w, r, sha) })
		case maintenance.EdgePath(r.RequestURI) == "status":
			p.edgeStatus(w, r)
		default:
			writeProblem(w, http.StatusNotFound, "there is nothing at this path; this listener is for proxies")
		}
	})
}

// trusted lets only proxies through.
func (p *proxies) trusted(w http.ResponseWriter, r *http.Request, method string, next http.HandlerFunc) {
	secret, _ := bearer(r.Header.Get("Authorization"))
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], p.token[:]) != 1 {
		w.Header().Set("WWW-Authenticate", `Bearer realm="drydock-sync"`)
		writeProblem(w, http.StatusUnauthorized, "this needs the sync token: DRYDOCK_SYNC_TOKEN in the proxy's environment must be that of the controller")
		return
	}
	if r.Method != method {
		w.Header().Set("Allow", method)
		writeProblem(w, http.StatusMethodNotAllowed, r.Method+" is not possible here, only "+method)
		return
	}
	next(w, r)
}

// read decodes a proxy's message.
func read(w http.ResponseWriter, r *http.Request, message any) bool {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(messageTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	// The deadline would also end the wait for an answer.
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

// sync answers as soon as there is a newer state than the proxy has.
func (p *proxies) sync(w http.ResponseWriter, r *http.Request) {
	var has maintenance.SyncRequest
	if !read(w, r, &has) {
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

func (p *proxies) ack(w http.ResponseWriter, r *http.Request) {
	var ack maintenance.Ack
	if !read(w, r, &ack) {
		return
	}
	if err := p.Keeper.Ack(ack); err != nil {
		writeProblem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (p *proxies) page(w http.ResponseWriter, r *http.Request, sha string) {
	html, err := p.Keeper.Page(r.Context(), sha)
	switch {
	case errors.Is(err, keeper.ErrNotFound):
		writeProblem(w, http.StatusNotFound, "no page with this SHA-256 is stored")
	case err != nil:
		p.Log.Error("reading a page", "sha256", sha, "error", err)
		writeProblem(w, http.StatusServiceUnavailable, "the page cannot be read now")
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(html)
	}
}

// edgeStatus tells the public about the app of the host that was asked for, as the
// filter does while something is on.
func (p *proxies) edgeStatus(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeProblem(w, http.StatusMethodNotAllowed, r.Method+" is not possible here, only GET")
		return
	}
	req := &maintenance.Request{Method: http.MethodGet, Authority: r.Host, Path: "/", EndStream: true, Attributes: supposed{Request: &Request{}}}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(p.Keeper.Current().State.StatusOf(req, p.Now()))
}
