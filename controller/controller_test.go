package controller_test

// These tests run a whole controller, with its store and both listeners, in the process of the test
// or, in crash_test.go, in one of its own: the test binary is then the drydock program. This file
// also has what all of them share.

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/controller"
	"github.com/drydock-proxy/drydock/controller/cli"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

const (
	// runAsDrydock is an environment variable. If it is set, the test binary runs as drydock.
	runAsDrydock = "DRYDOCK_TEST_RUN"

	operatorToken = "operator-token-of-the-tests"
	syncToken     = "sync-token-of-the-tests" // of the proxies

	freePort = "127.0.0.1:0" // an address to listen on; the kernel chooses the port
)

func TestMain(m *testing.M) {
	if os.Getenv(runAsDrydock) != "" {
		cli.Main() // does not return
	}
	os.Exit(m.Run())
}

// start runs a controller until the end of the test, and returns it with what it logs. Without
// other options, it has a new data directory and free ports. Read the log only after Stop.
func start(t *testing.T, o controller.Options) (c *controller.Controller, log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	if o.Listen == "" {
		o.Listen, o.ProxyListen = freePort, freePort
	}

	c, err := controller.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(func() { c.Stop(context.Background()) }) // harmless if the test has stopped it
	return c, log
}

// newRequest returns a request with a bearer token, and with a JSON body unless it is empty.
func newRequest(method, url, token, body string) (*http.Request, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}

	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("If-Match", "*") // the API requires it for changes; * accepts every state
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// do sends the request that newRequest returns, and returns the status and body of the answer.
func do(t *testing.T, method, url, token, body string) (int, string) {
	t.Helper()
	req, err := newRequest(method, url, token, body)
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

// expectNewToFail checks that the error of New contains wantInError. Without Data, it uses a new
// data directory.
func expectNewToFail(t *testing.T, name string, o controller.Options, wantInError string) {
	t.Helper()
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	o.Log = slog.New(slog.DiscardHandler)

	c, err := controller.New(t.Context(), o)
	if err == nil {
		c.Stop(t.Context())
	}
	if err == nil || !strings.Contains(err.Error(), wantInError) {
		t.Errorf("%s: %v, want %q", name, err, wantInError)
	}
}

func TestNewRefusesBadAddresses(t *testing.T) {
	occupied, err := net.Listen("tcp", freePort)
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()

	for _, c := range []struct {
		name                string
		listen, proxyListen string
		wantInError         string
	}{
		{"all interfaces", "0.0.0.0:0", freePort, "--listen 0.0.0.0:0 is reachable from other machines"},
		{"no host", ":0", freePort, "--listen :0 is reachable"},
		{"all interfaces for proxies", freePort, "[::]:0", "--proxy-listen [::]:0 is reachable"},
		{"a name that is not localhost", "example.com:7070", freePort, "reachable from other machines"},
		{"no port", "127.0.0.1", freePort, "must be host:port"},
		{"in use", occupied.Addr().String(), freePort, "address already in use"},
	} {
		expectNewToFail(t, c.name, controller.Options{Listen: c.listen, ProxyListen: c.proxyListen}, c.wantInError)
	}
}

func TestNewRefusesBadFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	dataInUse := t.TempDir()
	start(t, controller.Options{Data: dataInUse})
	dataWithEmptyToken := t.TempDir()
	if err := os.WriteFile(filepath.Join(dataWithEmptyToken, "sync-token"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name        string
		o           controller.Options
		wantInError string
	}{
		{"a certificate without a key", controller.Options{TLSCert: "x"}, "must be given together"},
		{"a certificate that does not exist", controller.Options{TLSCert: "x", TLSKey: "y"}, "reading the certificate"},
		{"a data directory below a file", controller.Options{Data: filepath.Join(file, "data")}, "creating the data directory"},
		{"a store in use", controller.Options{Data: dataInUse}, "is another drydock serve running on this data directory?"},
		{"an empty sync token", controller.Options{Data: dataWithEmptyToken}, "sync-token is empty"},
	} {
		c.o.Listen, c.o.ProxyListen = freePort, freePort
		expectNewToFail(t, c.name, c.o, c.wantInError)
	}
}

// With TLS, addresses that other machines can reach are accepted. Both listeners speak HTTP/1.1 and
// HTTP/2.
func TestTLSOnBothListeners(t *testing.T) {
	cert, key, roots := writeSelfSigned(t)
	c, _ := start(t, controller.Options{
		Listen: "0.0.0.0:0", ProxyListen: "0.0.0.0:0", TLSCert: cert, TLSKey: key,
		BootstrapToken: operatorToken, SyncToken: syncToken,
	})

	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: protocol == "HTTP/2.0"}
		publicPaths := map[string]string{c.Addr(): "/healthz", c.ProxyAddr(): "/.drydock/status"}
		for address, path := range publicPaths {
			_, port, _ := net.SplitHostPort(address)
			res, err := (&http.Client{Transport: transport}).Get("https://127.0.0.1:" + port + path)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != http.StatusOK || res.Proto != protocol {
				t.Errorf("%s: %s %s, want 200 by %s", path, res.Proto, res.Status, protocol)
			}
		}
		transport.CloseIdleConnections()
	}
}

// writeSelfSigned writes a certificate for 127.0.0.1 and its key to files. roots are for clients
// that are to trust the certificate.
func writeSelfSigned(t *testing.T) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "drydock"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}

	certDER, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}

	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := errors.Join(os.WriteFile(certFile, certPEM, 0o600), os.WriteFile(keyFile, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}

	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, roots
}

// Without Stop, the polls of the proxies would wait for 25 s, and the requests to the API for 60 s.
func TestStopAnswersRequestsThatWait(t *testing.T) {
	c, _ := start(t, controller.Options{BootstrapToken: operatorToken, SyncToken: syncToken})

	// A poll waits for a newer version than the proxy has. The epoch of this one is in the future,
	// so that the controller has none.
	poll := fmt.Sprintf(`{"epoch":%d,"wait":25}`, time.Now().Add(time.Hour).UnixMilli())
	// This waits until every proxy enforces the state, which never happens without a proxy.
	const waitPath = "/api/v1/apps/default/status?wait=enforced&timeout=60"

	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			if code, _ := do(t, http.MethodPost, "http://"+c.ProxyAddr()+maintenance.SyncPath, syncToken, poll); code != http.StatusNoContent {
				t.Errorf("a poll was answered %d, want 204", code)
			}
		})
		waiting.Go(func() {
			if code, body := do(t, http.MethodGet, "http://"+c.Addr()+waitPath, operatorToken, ""); code != http.StatusOK {
				t.Errorf("a wait was answered %d, want 200: %s", code, body)
			}
		})
	}
	time.Sleep(300 * time.Millisecond) // until all of them wait

	began := time.Now()
	c.Stop(t.Context())
	waiting.Wait()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("Stop took %s, want at most 3s", took)
	}
	http.DefaultClient.CloseIdleConnections()
}
