// Package honest has requests that honest clients send, recorded from the clients themselves
// wherever possible, each with the decision that an operator expects while the app is in
// maintenance. The rules that keep writes out must not turn readers away.
//
// corpus.go loads the requests and the apps from testdata. honest_test.go compares the decisions of
// the core (the filter's rules alone, package maintenance) and of a real Envoy with those of the
// corpus, and boot_test.go sends uploads to an Envoy without a state. rig_test.go starts Drydock,
// and replay_test.go sends a request through it.
package honest

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/maintenance/adversary"
)

//go:embed testdata
var testdata embed.FS

// Entry is one request with the decision that is expected.
type Entry struct {
	Group  string // the name of the file that the entry is in, without .json
	Client string // the program that sent the request, with its version

	// Source is one of three: "recorded: " with the program that sent the request; "fixture: " with
	// the package whose recorded payload was sent with the headers that the sender documents; or
	// "documented: " with the address of the page that shows the request.
	Source string

	App     string // the app to which the request is sent: a name in testdata/apps.json
	Method  string
	Target  string
	Version string      // "HTTP/2", or "" for HTTP/1.1
	Headers [][2]string // in the order sent, without Host and the headers that frame the body
	Framing string      // "length", "chunked", "data" (HTTP/2), or "" for no body

	Body       string
	BodyBase64 []byte `json:"body_base64"` // instead of Body if it is not text

	// Expect is the verdict in each mode: "pass" or "refuse". If nothing is expected in a mode, the
	// mode is absent.
	Expect map[maintenance.Mode]string
	// Why says why a refusal is right. It is "" if no verdict is a refusal.
	Why string
}

// String names the entry in messages.
func (e *Entry) String() string {
	return fmt.Sprintf("%s: %s: %s %s (%s)", e.Group, e.Client, e.Method, e.Target, e.App)
}

func (e *Entry) body() []byte {
	if e.BodyBase64 != nil {
		return e.BodyBase64
	}
	return []byte(e.Body)
}

// streamEnds reports whether the request ends with its headers, as Envoy tells the filter. A
// Content-Length of 0 ends it with the headers; a chunked body that turns out to be empty does not.
func (e *Entry) streamEnds() bool {
	return len(e.body()) == 0 && e.Framing != "chunked" && e.Framing != "data"
}

// keepsUpgrade reports whether the client asks for another protocol, and Envoy shows this to the
// filter. Envoy removes an upgrade to h2c before the filters, and the request goes on as plain
// HTTP/1.1 (source/common/http/http1/codec_impl.cc, "removing unsupported h2c upgrade headers"). It
// does so with an upgrade to TLS, too, because our bootstrap sets ignore_http_11_upgrade for it.
func (e *Entry) keepsUpgrade() bool {
	return slices.ContainsFunc(e.Headers, func(h [2]string) bool {
		isRemoved := strings.EqualFold(h[1], "h2c") || strings.HasPrefix(h[1], "TLS/")
		return strings.EqualFold(h[0], "upgrade") && !isRemoved
	})
}

// Load returns all entries, in the order of the names of their files.
func Load() ([]Entry, error) {
	names, err := fs.Glob(testdata, "testdata/*.json")
	if err != nil {
		return nil, fmt.Errorf("listing the corpus: %w", err)
	}

	var all []Entry
	for _, name := range names {
		if name == appsFile {
			continue
		}
		var entries []Entry
		if err := load(name, &entries); err != nil {
			return nil, err
		}

		for i := range entries {
			entries[i].Group = strings.TrimSuffix(path.Base(name), ".json")
		}
		all = append(all, entries...)
	}
	return all, nil
}

// appsFile has the apps. The other JSON files in testdata have entries.
const appsFile = "testdata/apps.json"

// modes are the modes in which a verdict may be expected.
var modes = []maintenance.Mode{maintenance.NoAccess, maintenance.ReadOnly}

// Document returns a state document in which every app of testdata/apps.json exists once in each
// mode, on the host that [Host] returns. The names of these apps are the hosts without ".test" and
// with "-" for ".", because names of apps must not have dots.
func Document() (maintenance.Document, error) {
	var specs []maintenance.Spec
	if err := load(appsFile, &specs); err != nil {
		return maintenance.Document{}, err
	}

	doc := maintenance.Document{Version: maintenance.Version{Epoch: 1, Revision: 1}}
	for _, spec := range specs {
		for _, mode := range modes {
			host := Host(spec.Name, mode)
			app := spec
			app.Name = strings.ReplaceAll(strings.TrimSuffix(host, ".test"), ".", "-")
			app.Match.Hosts = []string{host}
			doc.Apps = append(doc.Apps, maintenance.App{Spec: app, Activations: []maintenance.Activation{{
				ID: "honest", Source: maintenance.SourceManual, Mode: mode, Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
			}}})
		}
	}
	return doc, nil
}

// Host returns the host on which the app of this name is in a mode.
func Host(app string, mode maintenance.Mode) string { return app + "." + string(mode) + ".test" }

// load reads a JSON file of testdata into a variable, given by a pointer.
func load(name string, into any) error {
	data, err := testdata.ReadFile(name)
	if err != nil {
		return fmt.Errorf("reading the corpus: %w", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	return nil
}

// Decide returns the core's decision on an entry that is sent to its app in a mode. The core gets
// the request as Envoy shows it to the filter, and the body if it asks for the body.
func (e *Entry) Decide(state *maintenance.State, mode maintenance.Mode, now time.Time) maintenance.Decision {
	r := &maintenance.Request{
		Method: e.Method, Authority: Host(e.App, mode), Path: e.Target, Body: e.body(), EndStream: e.streamEnds(),
	}
	for _, h := range e.Headers {
		name := strings.ToLower(h[0])
		if !e.keepsUpgrade() && (name == "upgrade" || name == "http2-settings" || name == "connection") {
			continue
		}
		r.Headers = append(r.Headers, [2]string{name, h[1]})
	}

	if e.Framing == "length" {
		r.Headers = append(r.Headers, [2]string{"content-length", fmt.Sprint(len(e.body()))})
	}

	return adversary.Judge(state, r, now)
}

// bytes returns the request as it is sent to a host over HTTP/1.1, with idHeader added.
func (e *Entry) bytes(host, id string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", e.Method, e.Target, host)
	for _, h := range e.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	fmt.Fprintf(&b, "%s: %s\r\n", idHeader, id)

	body := e.body()
	switch e.Framing {
	case "length":
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	case "chunked":
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		if len(body) > 0 {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(body), body)
		}
		b.WriteString("0\r\n\r\n")
	default:
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

// idHeader is added to every request. Its value identifies the request at the upstream.
const idHeader = "X-Honest-Id"
