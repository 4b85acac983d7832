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
	// maxMessageBytes bounds a proxy's message: JSON of a few names and numbers.
	maxMessageBytes = 8 << 10
	// messageTimeout bounds the time that a proxy takes to send its message.
	messageTimeout = 10 * time.Second
)

// proxyListener is the handler that [Proxy] returns.
type proxyListener struct {
	Options
	syncTokenHash [sha256.Size]byte
}

// Proxy returns the handler of the listener for proxies. The filter in a proxy follows the state by
// sync, reports by ack which version it enforces, and fetches pages; these three need the sync
// token. Everybody may get the public status, because the proxies route a path of the services that
// they protect here (edgeStatus). Therefore the handler does not use a mux, which would clean a
// path first: it compares paths as they were sent, so that no other spelling of a path leads
// anywhere.
func Proxy(o Options) http.Handler {
	return &proxyListener{Options: o, syncTokenHash: sha256.Sum256([]byte(o.SyncToken))}
}

// ServeHTTP finds the endpoint that a request is for, checks the request if the endpoint is for
// proxies only, and passes it on.
func (p *proxyListener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	maxDuration := maintenance.SyncWait*time.Second + answerTimeout // of a sync, which may wait
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(maxDuration))

	path, _, _ := strings.Cut(r.RequestURI, "?")
	sha, isPage := strings.CutPrefix(path, maintenance.PagePath)
	switch {
	case path == maintenance.SyncPath:
		if p.checkRequest(w, r, http.MethodPost) {
			p.sync(w, r)
		}
	case path == maintenance.AckPath:
		if p.checkRequest(w, r, http.MethodPost) {
			p.ack(w, r)
		}
	case isPage:
		if p.checkRequest(w, r, http.MethodGet) {
			p.page(w, r, sha)
		}
	case maintenance.IsStatusPath(r.RequestURI):
		p.edgeStatus(w, r)
	default:
		writeProblem(w, http.StatusNotFound, "there is nothing at this path; this listener is for proxies")
	}
}

// checkRequest reports whether a request has the sync token and the given method. If not, it
// answers the request with the error.
func (p *proxyListener) checkRequest(w http.ResponseWriter, r *http.Request, method string) bool {
	// Compare hashes, and those in constant time, so that the duration tells nothing about the
	// token.
	token, _ := bearerToken(r.Header.Get("Authorization"))
	hash := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(hash[:], p.syncTokenHash[:]) != 1 {
		w.Header().Set("WWW-Authenticate", `Bearer realm="drydock-sync"`)
		writeProblem(w, http.StatusUnauthorized,
			"the sync token is required: DRYDOCK_SYNC_TOKEN in the proxy's environment must be that of the controller")
		return false
	}

	if r.Method != method {
		writeMethodNotAllowed(w, r, method)
		return false
	}
	return true
}

// readMessage decodes the JSON in the body of a request into message. It returns false if it could
// not do that; then it has answered the request with the error.
func readMessage(w http.ResponseWriter, r *http.Request, message any) bool {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(messageTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessageBytes))
	// Remove the deadline. After the body, the server goes on reading to learn whether the client
	// closes its connection. A deadline that passes while sync waits would look like that.
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

// sync is a long poll: it answers with the state as soon as there is a newer one than the proxy
// has, and with 204 if the time passes that the proxy wants to wait. The proxy then polls again.
func (p *proxyListener) sync(w http.ResponseWriter, r *http.Request) {
	var has maintenance.SyncRequest
	if !readMessage(w, r, &has) {
		return
	}

	waitSeconds := min(max(has.Wait, 0), maintenance.SyncWait)
	timeIsUp := time.NewTimer(time.Duration(waitSeconds) * time.Second)
	defer timeIsUp.Stop()

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
		case <-timeIsUp.C:
		case <-r.Context().Done():
			// The proxy closed the connection, which also happens when its process ends. The keeper
			// notes that, so that nobody waits for a proxy that is gone. While the controller
			// stops, the controller itself may have closed the connection.
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

// page answers with the page that has a SHA-256, in hex.
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

// edgeStatus answers with the public status of the app to which requests for this Host belong.
// While any app is on or its maintenance is announced, the filter itself answers requests for this
// path, in the same way, and they do not come here. At other times they follow a route of the proxy
// to this listener.
func (p *proxyListener) edgeStatus(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		writeMethodNotAllowed(w, r, "GET, HEAD")
		return
	}

	// The status is that of the app to which the start page of this host belongs. Of the visitor
	// nothing is known, so the attributes (explain.go) are those of an empty Request of the API.
	req := &maintenance.Request{
		Method: http.MethodGet, Authority: r.Host, Path: "/", EndStream: true,
		Attributes: givenAttributes{Request: &Request{}},
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(p.Keeper.Current().State.StatusOf(req, p.Now()))
}
