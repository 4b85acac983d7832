package controller_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/controller"
	"github.com/drydock-proxy/drydock/controller/cli"
	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

const (
	asDrydock = "DRYDOCK_TEST_RUN" // set: this binary is drydock
	token     = "operator-token-of-the-tests"
	syncToken = "sync-token-of-the-tests"
)

func TestMain(m *testing.M) {
	if os.Getenv(asDrydock) != "" {
		cli.Main()
	}
	os.Exit(m.Run())
}

// start runs a controller on free ports, and returns what it logged.
func start(t *testing.T, o controller.Options) (*controller.Controller, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	if o.Listen == "" {
		o.Listen, o.ProxyListen = "127.0.0.1:0", "127.0.0.1:0"
	}
	c, err := controller.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(sync.OnceFunc(func() { c.Stop(context.Background()) }))
	return c, log
}

func request(method, url, token, body string) (*http.Request, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("If-Match", "*")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

func do(t *testing.T, method, url, token, body string) (int, string) {
	t.Helper()
	req, err := request(method, url, token, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(data)
}

func TestFirstStart(t *testing.T) {
	status := func(c *controller.Controller, token string) int {
		code, _ := do(t, http.MethodGet, "http://"+c.Addr()+"/api/v1/tokens", token, "")
		return code
	}
	read := func(path string) string {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatal(path, info, err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}

	t.Run("a given token", func(t *testing.T) {
		data := t.TempDir()
		c, _ := start(t, controller.Options{Data: data, BootstrapToken: token})
		if code := status(c, token); code != http.StatusOK {
			t.Fatal(code)
		}
		c.Stop(t.Context())
		// A later start with another one changes nothing and says so.
		c, log := start(t, controller.Options{Data: data, BootstrapToken: "another-token-of-the-tests"})
		if code := status(c, "another-token-of-the-tests"); code != http.StatusUnauthorized {
			t.Error("it is good: ", code)
		}
		if code := status(c, token); code != http.StatusOK {
			t.Error(code)
		}
		if !strings.Contains(log.String(), "DRYDOCK_BOOTSTRAP_TOKEN is ignored") {
			t.Errorf("not said: %s", log)
		}
		c.Stop(t.Context())
		c, log = start(t, controller.Options{Data: data, BootstrapToken: token})
		if strings.Contains(log.String(), "DRYDOCK_BOOTSTRAP_TOKEN") {
			t.Errorf("the same token is no news: %s", log)
		}
		c.Stop(t.Context())
	})

	t.Run("a file", func(t *testing.T) {
		data := t.TempDir()
		c, log := start(t, controller.Options{Data: data})
		secret := read(filepath.Join(data, "bootstrap-token"))
		if code := status(c, secret); code != http.StatusOK {
			t.Fatal(code)
		}
		sync := read(filepath.Join(data, "sync-token"))
		if code, _ := do(t, http.MethodPost, "http://"+c.ProxyAddr()+maintenance.SyncPath, sync, "{}"); code != http.StatusOK {
			t.Error(code)
		}
		if code := status(c, sync); code != http.StatusUnauthorized {
			t.Error("the proxies' token is good for the API: ", code)
		}
		c.Stop(t.Context())
		if strings.Contains(log.String(), secret) || strings.Contains(log.String(), sync) || !strings.Contains(log.String(), "bootstrap-token") {
			t.Errorf("the log must name the file and not the token: %s", log)
		}
		// Later starts keep both.
		os.Remove(filepath.Join(data, "bootstrap-token"))
		c, _ = start(t, controller.Options{Data: data})
		if _, err := os.Stat(filepath.Join(data, "bootstrap-token")); !errors.Is(err, os.ErrNotExist) {
			t.Error("another token was made: ", err)
		}
		if code := status(c, secret); code != http.StatusOK {
			t.Error(code)
		}
		if again := read(filepath.Join(data, "sync-token")); again != sync {
			t.Error("the sync token changed")
		}
	})

	t.Run("a terminal", func(t *testing.T) {
		data := t.TempDir()
		var shown string
		c, _ := start(t, controller.Options{Data: data, ShowToken: func(s string) error { shown = s; return nil }})
		if code := status(c, shown); code != http.StatusOK {
			t.Error(code)
		}
		if _, err := os.Stat(filepath.Join(data, "bootstrap-token")); !errors.Is(err, os.ErrNotExist) {
			t.Error("it was written to a file as well: ", err)
		}
	})

	t.Run("a terminal that fails makes no token", func(t *testing.T) {
		data := t.TempDir()
		_, err := controller.New(t.Context(), controller.Options{Data: data, Listen: "127.0.0.1:0", ProxyListen: "127.0.0.1:0",
			ShowToken: func(string) error { return io.ErrClosedPipe }, Log: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Fatal(err)
		}
		start(t, controller.Options{Data: data})
		if read(filepath.Join(data, "bootstrap-token")) == "" {
			t.Error("no token")
		}
	})
}

func TestRefusesToStart(t *testing.T) {
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	running := t.TempDir()
	start(t, controller.Options{Data: running})
	empty := t.TempDir()
	if err := os.WriteFile(filepath.Join(empty, "sync-token"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const free = "127.0.0.1:0"
	for _, c := range []struct {
		name string
		o    controller.Options
		want string
	}{
		{"beyond loopback", controller.Options{Listen: "0.0.0.0:0", ProxyListen: free}, "--listen 0.0.0.0:0 is reachable from other machines"},
		{"beyond loopback, any", controller.Options{Listen: ":0", ProxyListen: free}, "--listen :0 is reachable"},
		{"beyond loopback, proxies", controller.Options{Listen: free, ProxyListen: "[::]:0"}, "--proxy-listen [::]:0 is reachable"},
		{"beyond loopback, a name", controller.Options{Listen: "example.com:7070", ProxyListen: free}, "reachable from other machines"},
		{"no port", controller.Options{Listen: "127.0.0.1", ProxyListen: free}, "must be host:port"},
		{"half a certificate", controller.Options{TLSCert: "x"}, "must be given together"},
		{"no certificate", controller.Options{TLSCert: "x", TLSKey: "y"}, "reading the certificate"},
		{"an address in use", controller.Options{Listen: occupied.Addr().String(), ProxyListen: free}, "address already in use"},
		{"no data directory", controller.Options{Data: filepath.Join(file, "data"), Listen: free, ProxyListen: free}, "creating the data directory"},
		{"a store in use", controller.Options{Data: running, Listen: free, ProxyListen: free}, "is another drydock serve running on this data directory?"},
		{"an empty sync token", controller.Options{Data: empty, Listen: free, ProxyListen: free}, "sync-token is empty"},
	} {
		if c.o.Data == "" {
			c.o.Data = t.TempDir()
		}
		c.o.Log = slog.New(slog.DiscardHandler)
		ctl, err := controller.New(t.Context(), c.o)
		if err == nil {
			ctl.Stop(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "drydock"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(cert, certPEM, 0o600), os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)); err != nil {
		t.Fatal(err)
	}
	c, _ := start(t, controller.Options{Listen: "0.0.0.0:0", ProxyListen: "0.0.0.0:0", TLSCert: cert, TLSKey: keyFile, BootstrapToken: token, SyncToken: syncToken})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: protocol == "HTTP/2.0"}
		for address, path := range map[string]string{c.Addr(): "/healthz", c.ProxyAddr(): "/.drydock/status"} {
			_, port, _ := net.SplitHostPort(address)
			res, err := (&http.Client{Transport: transport}).Get("https://127.0.0.1:" + port + path)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != http.StatusOK || res.Proto != protocol {
				t.Errorf("%s: %s %s", path, res.Proto, res.Status)
			}
		}
		transport.CloseIdleConnections()
	}
}

// Stop answers whoever waits, and is quick about it.
func TestStop(t *testing.T) {
	c, _ := start(t, controller.Options{BootstrapToken: token, SyncToken: syncToken})
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			body := fmt.Sprintf(`{"epoch":%d,"wait":25}`, time.Now().Add(time.Hour).UnixMilli())
			if code, _ := do(t, http.MethodPost, "http://"+c.ProxyAddr()+maintenance.SyncPath, syncToken, body); code != http.StatusNoContent {
				t.Error(code)
			}
		})
		waiting.Go(func() {
			if code, body := do(t, http.MethodGet, "http://"+c.Addr()+"/api/v1/apps/default/status?wait=enforced&timeout=60", token, ""); code != http.StatusOK {
				t.Error(code, body)
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	begin := time.Now()
	c.Stop(t.Context())
	waiting.Wait()
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	http.DefaultClient.CloseIdleConnections()
}

// child is a drydock serve in a process of its own.
type child struct {
	cmd        *exec.Cmd
	api, proxy string
}

var listening = regexp.MustCompile(`msg="controller started" listen=(\S+) proxy_listen=(\S+)`)

func spawn(t *testing.T, data, listen, proxyListen string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "serve", "--data", data, "--listen", listen, "--proxy-listen", proxyListen)
	cmd.Env = append(os.Environ(), asDrydock+"=1", "DRYDOCK_BOOTSTRAP_TOKEN="+token, "DRYDOCK_SYNC_TOKEN="+syncToken)
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
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			go io.Copy(io.Discard, stderr)
			return &child{cmd, m[1], m[2]}
		}
	}
	t.Fatalf("it did not start:\n%s", log.String())
	return nil
}

// TestCrash kills the controller in the middle of toggles, 20 times: what was
// acknowledged is never lost, and the version never goes back for whoever follows.
func TestCrash(t *testing.T) {
	const kills = 20
	data := t.TempDir()
	c := spawn(t, data, "127.0.0.1:0", "127.0.0.1:0")
	api, proxy := c.api, c.proxy

	// A proxy that follows all the time.
	ctx, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	var seen sync.Map // revision → document: a revision is one document, also after a crash
	following.Go(func() {
		var has maintenance.Version
		for ctx.Err() == nil {
			body, _ := json.Marshal(maintenance.SyncRequest{Version: has, Proxy: "p", Wait: 25})
			req, _ := request(http.MethodPost, "http://"+proxy+maintenance.SyncPath, syncToken, string(body))
			res, err := http.DefaultClient.Do(req.WithContext(ctx))
			if err != nil {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			doc, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != http.StatusOK {
				continue
			}
			state, err := maintenance.Parse(doc)
			if err != nil {
				t.Error(err)
				return
			}
			if state.Version().Compare(has) <= 0 || has.Epoch != 0 && state.Version().Epoch != has.Epoch {
				t.Errorf("went from %+v to %+v", has, state.Version())
				return
			}
			has = state.Version()
			if was, again := seen.LoadOrStore(has.Revision, string(doc)); again && was != string(doc) {
				t.Errorf("revision %d was two documents", has.Revision)
			}
		}
	})

	type told struct {
		revision uint64
		number   int
		on       bool
	}
	var last told
	number, acknowledged := 0, 0
	for kill := range kills {
		after := time.Duration(5+mathrand.IntN(60)) * time.Millisecond
		killed := make(chan struct{})
		time.AfterFunc(after, func() {
			c.cmd.Process.Kill()
			close(killed)
		})
		var sent told
		for {
			number++
			// Every third is an off; the message numbers them.
			sent = told{number: number, on: number%3 != 0}
			method, body := http.MethodPost, fmt.Sprintf(`{"message":"%d"}`, number)
			if !sent.on {
				method, body = http.MethodDelete, ""
			}
			req, _ := request(method, "http://"+api+"/api/v1/apps/default/activations", token, body)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				break
			}
			var st keeper.AppStatus
			err = json.NewDecoder(res.Body).Decode(&st)
			res.Body.Close()
			if err != nil {
				break
			}
			if res.StatusCode != http.StatusOK {
				t.Fatal(res.Status)
			}
			sent.revision = st.Version.Revision
			if sent.revision > last.revision {
				acknowledged++ // an off of what is off changes nothing
			}
			last = sent
		}
		<-killed
		c.cmd.Wait()
		c = spawn(t, data, api, proxy)

		code, body := do(t, http.MethodGet, "http://"+api+"/api/v1/apps/default/status", token, "")
		var st keeper.AppStatus
		if err := json.Unmarshal([]byte(body), &st); err != nil || code != http.StatusOK {
			t.Fatal(code, body)
		}
		_, doc := do(t, http.MethodPost, "http://"+proxy+maintenance.SyncPath, syncToken, "{}")
		state, err := maintenance.Parse([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		is := func(what told) bool {
			return (st.Mode != maintenance.Off) == what.on && (!what.on || st.Message == strconv.Itoa(what.number))
		}
		switch v := state.Version().Revision; {
		case v == last.revision && is(last): // all that was acknowledged
		case v == last.revision+1 && is(sent): // and the one whose answer was cut off
		default:
			t.Fatalf("kill %d: acknowledged %+v, sent %+v, but found revision %d: %s", kill, last, sent, v, body)
		}
		last.revision = state.Version().Revision
		last.on, last.number = st.Mode != maintenance.Off, 0
		if last.on {
			last.number, _ = strconv.Atoi(st.Message)
		}
	}
	if acknowledged < kills {
		t.Errorf("only %d changes were acknowledged in %d rounds: nothing was tried", acknowledged, kills)
	}
	t.Logf("%d changes acknowledged, %d kills", acknowledged, kills)

	// The file is whole, and the audit log has every acknowledged change.
	c.cmd.Process.Kill()
	c.cmd.Wait()
	db, err := store.OpenBolt(filepath.Join(data, "drydock.db"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	entries := 0
	if err := db.Audit(t.Context(), 0, func(e store.AuditEntry) bool { entries++; return true }); err != nil || entries < acknowledged {
		t.Errorf("%d audit entries for %d acknowledged changes: %v", entries, acknowledged, err)
	}
	http.DefaultClient.CloseIdleConnections()
}
