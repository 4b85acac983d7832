package controller_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A kill in the middle of a change loses no change that was acknowledged, and a proxy that follows
// never sees the version go back.
func TestKilledControllerLosesNothing(t *testing.T) {
	const kills = 20
	data := t.TempDir()
	c := serve(t, data, "127.0.0.1:0", "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan struct{})
	go func() {
		follow(ctx, t, c.proxy)
		close(followed)
	}()
	defer func() {
		cancel()
		<-followed
	}()

	toggles := &toggler{api: c.api}
	for kill := range kills {
		killed := c.killAfter(time.Duration(5+rand.IntN(60)) * time.Millisecond)
		toggles.run(t)
		<-killed

		c = serve(t, data, c.api, c.proxy)
		toggles.compare(t, kill, c)
	}
	if toggles.acknowledged < kills {
		t.Errorf("only %d changes were acknowledged before %d kills, which proves nothing", toggles.acknowledged, kills)
	}
	t.Logf("%d changes acknowledged, %d kills", toggles.acknowledged, kills)

	<-c.killAfter(0)
	expectAuditEntries(t, data, toggles.acknowledged)
	http.DefaultClient.CloseIdleConnections()
}

// process is a drydock serve in a process of its own.
type process struct {
	cmd        *exec.Cmd
	api, proxy string // addresses
}

var started = regexp.MustCompile(`msg="controller started" listen=(\S+) proxy_listen=(\S+)`)

// serve starts a process, and returns once it listens.
func serve(t *testing.T, data, listen, proxyListen string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(self, "serve", "--data", data, "--listen", listen, "--proxy-listen", proxyListen)
	cmd.Env = append(os.Environ(), runAsDrydock+"=1", "DRYDOCK_BOOTSTRAP_TOKEN="+token, "DRYDOCK_SYNC_TOKEN="+syncToken)

	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })

	lines := bufio.NewScanner(stderr)
	var log strings.Builder
	for lines.Scan() {
		log.WriteString(lines.Text() + "\n")
		if m := started.FindStringSubmatch(lines.Text()); m != nil {
			go io.Copy(io.Discard, stderr)
			return &process{cmd, m[1], m[2]}
		}
	}
	t.Fatalf("the controller did not start:\n%s", log.String())
	return nil
}

// killAfter kills the process after a time. The channel is closed when it has ended.
func (p *process) killAfter(d time.Duration) <-chan struct{} {
	ended := make(chan struct{})
	time.AfterFunc(d, func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		close(ended)
	})
	return ended
}

// follow polls for newer states as a proxy does, until ctx is done. It checks that versions only
// rise, and that a revision is one document, also after a crash.
func follow(ctx context.Context, t *testing.T, address string) {
	documents := map[uint64]string{} // by revision
	var has maintenance.Version
	for ctx.Err() == nil {
		doc, ok := poll(ctx, address, has)
		if !ok {
			time.Sleep(5 * time.Millisecond) // the controller is being restarted
			continue
		}

		state, err := maintenance.Parse(doc)
		if err != nil {
			t.Error(err)
			return
		}
		v := state.Version()
		if v.Compare(has) <= 0 || has.Epoch != 0 && v.Epoch != has.Epoch {
			t.Errorf("the version went from %+v to %+v", has, v)
			return
		}
		if before, known := documents[v.Revision]; known && before != string(doc) {
			t.Errorf("revision %d was another document before", v.Revision)
		}
		documents[v.Revision] = string(doc)
		has = v
	}
}

// poll returns the next document after a version, unless the controller does not answer with one.
func poll(ctx context.Context, address string, has maintenance.Version) (doc []byte, ok bool) {
	body, _ := json.Marshal(maintenance.SyncRequest{Version: has, Proxy: "p", Wait: 25})
	req, _ := newRequest(http.MethodPost, "http://"+address+maintenance.SyncPath, syncToken, string(body))
	res, err := http.DefaultClient.Do(req.WithContext(ctx))
	if err != nil {
		return nil, false
	}
	defer res.Body.Close()

	doc, err = io.ReadAll(res.Body)
	return doc, err == nil && res.StatusCode == http.StatusOK
}

// toggle is a change that turns the default app on, with its number as the message, or off.
type toggle struct {
	number   int
	on       bool
	revision uint64 // that the controller acknowledged
}

// toggler makes numbered changes, and knows which of them were acknowledged.
type toggler struct {
	api          string
	number       int    // of the last change
	last         toggle // that was acknowledged
	sent         toggle // after it, without an answer
	acknowledged int    // those that made a revision
}

// run makes changes until the controller no longer answers.
func (g *toggler) run(t *testing.T) {
	t.Helper()
	for {
		g.number++
		g.sent = toggle{number: g.number, on: g.number%3 != 0}
		method, body := http.MethodPost, fmt.Sprintf(`{"message":"%d"}`, g.number)
		if !g.sent.on {
			method, body = http.MethodDelete, ""
		}

		req, _ := newRequest(method, "http://"+g.api+"/api/v1/apps/default/activations", token, body)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}

		var st keeper.AppStatus
		err = json.NewDecoder(res.Body).Decode(&st)
		res.Body.Close()
		if err != nil {
			return
		}
		if res.StatusCode != http.StatusOK {
			t.Fatal(res.Status)
		}

		g.sent.revision = st.Version.Revision
		if g.sent.revision > g.last.revision {
			g.acknowledged++ // turning an app off that is off makes none
		}
		g.last = g.sent
	}
}

// compare checks that a restarted controller has all changes that were acknowledged, and besides
// them at most the one whose answer was cut off.
func (g *toggler) compare(t *testing.T, kill int, c *process) {
	t.Helper()
	code, body := do(t, http.MethodGet, "http://"+c.api+"/api/v1/apps/default/status", token, "")
	var st keeper.AppStatus
	if err := json.Unmarshal([]byte(body), &st); err != nil || code != http.StatusOK {
		t.Fatal(code, body)
	}

	_, doc := do(t, http.MethodPost, "http://"+c.proxy+maintenance.SyncPath, syncToken, "{}")
	state, err := maintenance.Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}

	found := toggle{on: st.Mode != maintenance.Off, revision: state.Version().Revision}
	if found.on {
		found.number, _ = strconv.Atoi(st.Message)
	}
	is := func(want toggle) bool { return found.on == want.on && (!want.on || found.number == want.number) }

	lastOnly := found.revision == g.last.revision && is(g.last)
	sentAsWell := found.revision == g.last.revision+1 && is(g.sent)
	if !lastOnly && !sentAsWell {
		t.Fatalf("kill %d: acknowledged %+v, sent %+v, but found %+v: %s", kill, g.last, g.sent, found, body)
	}
	g.last = found
}

// expectAuditEntries checks that the store can be read, and that its audit log has an entry for
// every acknowledged change.
func expectAuditEntries(t *testing.T, data string, atLeast int) {
	t.Helper()
	db, err := store.OpenBolt(filepath.Join(data, "drydock.db"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	entries := 0
	err = db.Audit(t.Context(), 0, func(store.AuditEntry) bool { entries++; return true })
	if err != nil || entries < atLeast {
		t.Errorf("%d audit entries for %d acknowledged changes: %v", entries, atLeast, err)
	}
}
