package controller_test

// This file kills controllers in the middle of changes. Each controller is a process of its own:
// the test binary, which runs as drydock (TestMain). One client makes changes, and another one
// follows the state as a proxy does. After each kill, the test compares what the next controller
// has with what the client knows.

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
	c := serve(t, data, freePort, freePort)
	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan struct{})
	go func() {
		follow(ctx, t, c.proxyAddr)
		close(followed)
	}()
	defer func() {
		cancel()
		<-followed
	}()

	toggles := &toggler{apiAddr: c.apiAddr}
	for kill := range kills {
		// The time is random, so that kills come at every step of a change.
		killed := c.killAfter(time.Duration(5+rand.IntN(60)) * time.Millisecond)
		toggles.run(t)
		<-killed

		c = serve(t, data, c.apiAddr, c.proxyAddr)
		toggles.compareWith(t, c, kill)
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
	cmd       *exec.Cmd
	apiAddr   string // host:port of the API
	proxyAddr string // host:port of the listener for proxies
}

// startedLine is the line of the log that says where a controller listens.
var startedLine = regexp.MustCompile(`msg="controller started" listen=(\S+) proxy_listen=(\S+)`)

// serve starts a process, and returns once it listens. It ends with the test, if it was not killed
// before.
func serve(t *testing.T, data, listen, proxyListen string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(self, "serve", "--data", data, "--listen", listen, "--proxy-listen", proxyListen)
	cmd.Env = append(os.Environ(), runAsDrydock+"=1", "DRYDOCK_BOOTSTRAP_TOKEN="+operatorToken, "DRYDOCK_SYNC_TOKEN="+syncToken)

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
		if m := startedLine.FindStringSubmatch(lines.Text()); m != nil {
			go io.Copy(io.Discard, stderr) // a full pipe would block the controller
			return &process{cmd: cmd, apiAddr: m[1], proxyAddr: m[2]}
		}
	}
	t.Fatalf("the controller did not start:\n%s", log.String())
	return nil
}

// killAfter returns at once, and kills the process after a time. ended is closed when the process
// has ended.
func (p *process) killAfter(d time.Duration) (ended chan struct{}) {
	ended = make(chan struct{})
	time.AfterFunc(d, func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		close(ended)
	})
	return ended
}

// follow polls for newer states as a proxy does, until ctx is done. It checks that versions only
// rise, and that each revision always has the same document, also after a crash.
func follow(ctx context.Context, t *testing.T, address string) {
	documents := map[uint64]string{} // that follow got, by revision
	var has maintenance.Version
	for ctx.Err() == nil {
		doc, ok := poll(ctx, address, has)
		if !ok {
			time.Sleep(5 * time.Millisecond) // the controller may be starting again
			continue
		}

		state, err := maintenance.Parse(doc)
		if err != nil {
			t.Error(err)
			return
		}
		v := state.Version()
		otherEpoch := has.Epoch != 0 && v.Epoch != has.Epoch // would be another store
		if v.Compare(has) <= 0 || otherEpoch {
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

// poll returns the first document that is newer than the version has. ok is false if the controller
// does not answer, or answers after a while that there is none.
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

// toggle is a change that turns the default app on or off. If it turns the app on, its number is
// the message of the activation.
type toggle struct {
	number   int
	on       bool
	revision uint64 // of the state after the change; 0 until the answer
}

// toggler makes numbered changes, and knows which of them were acknowledged: the controller
// answered that the change was made.
type toggler struct {
	apiAddr      string
	number       int    // of the last change that was sent
	last         toggle // the last one that was acknowledged
	sent         toggle // the last one that was sent
	acknowledged int    // number of acknowledged changes that made a revision
}

// run makes changes until the controller no longer answers. Two of three turn the app on, the third
// one turns it off.
func (g *toggler) run(t *testing.T) {
	t.Helper()
	for {
		g.number++
		g.sent = toggle{number: g.number, on: g.number%3 != 0}
		method, body := http.MethodPost, fmt.Sprintf(`{"message":"%d"}`, g.number)
		if !g.sent.on {
			method, body = http.MethodDelete, ""
		}

		req, _ := newRequest(method, "http://"+g.apiAddr+"/api/v1/apps/default/activations", operatorToken, body)
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

		// The status has the version of the last change of the app, and no other app changes.
		g.sent.revision = st.Version.Revision
		if g.sent.revision > g.last.revision { // turning off an app that is off makes no revision
			g.acknowledged++
		}
		g.last = g.sent
	}
}

// compareWith checks that the controller c, which started after a kill, has the last change that
// was acknowledged, or the one that was sent after it and whose answer was cut off. The next
// changes build on what it has.
func (g *toggler) compareWith(t *testing.T, c *process, kill int) {
	t.Helper()
	code, body := do(t, http.MethodGet, "http://"+c.apiAddr+"/api/v1/apps/default/status", operatorToken, "")
	var st keeper.AppStatus
	if err := json.Unmarshal([]byte(body), &st); err != nil || code != http.StatusOK {
		t.Fatal(code, body)
	}

	const anyVersion = "{}"
	_, doc := do(t, http.MethodPost, "http://"+c.proxyAddr+maintenance.SyncPath, syncToken, anyVersion)
	state, err := maintenance.Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}

	found := toggle{on: st.Mode != maintenance.Off, revision: state.Version().Revision}
	if found.on {
		found.number, _ = strconv.Atoi(st.Message)
	}
	// An app that is off has no message, so the number of the change that turned it off is unknown.
	foundIs := func(want toggle) bool {
		return found.on == want.on && (!want.on || found.number == want.number)
	}

	hasLast := found.revision == g.last.revision && foundIs(g.last)
	hasSent := found.revision == g.last.revision+1 && foundIs(g.sent)
	if !hasLast && !hasSent {
		t.Fatalf("kill %d: acknowledged %+v, sent %+v, but found %+v: %s", kill, g.last, g.sent, found, body)
	}
	g.last = found
}

// expectAuditEntries checks that the store can be read, and that its audit log has an entry for
// every acknowledged change. There may be more, for changes whose answers were cut off.
func expectAuditEntries(t *testing.T, data string, atLeast int) {
	t.Helper()
	const fromNewest = 0
	db, err := store.OpenBolt(filepath.Join(data, "drydock.db"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	entries := 0
	err = db.Audit(t.Context(), fromNewest, func(store.AuditEntry) bool { entries++; return true })
	if err != nil || entries < atLeast {
		t.Errorf("%d audit entries for %d acknowledged changes: %v", entries, atLeast, err)
	}
}
