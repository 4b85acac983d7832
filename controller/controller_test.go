package controller_test

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
	runAsDrydock = "DRYDOCK_TEST_RUN" // if this variable is set, the test binary is drydock
	token        = "operator-token-of-the-tests"
	syncToken    = "sync-token-of-the-tests"
)

func TestMain(m *testing.M) {
	if os.Getenv(runAsDrydock) != "" {
		cli.Main()
	}
	os.Exit(m.Run())
}

// start runs a controller on free ports, and returns it with what it logs.
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

func newRequest(method, url, token, body string) (*http.Request, error) {
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

// do sends a request, and returns the status and body of the answer.
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

func TestNewRefusesBadOptions(t *testing.T) {
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
	emptyToken := t.TempDir()
	if err := os.WriteFile(filepath.Join(emptyToken, "sync-token"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	const free = "127.0.0.1:0"
	for _, c := range []struct {
		name string
		o    controller.Options
		want string
	}{
		{"an address of all interfaces", controller.Options{Listen: "0.0.0.0:0", ProxyListen: free}, "--listen 0.0.0.0:0 is reachable from other machines"},
		{"an address without a host", controller.Options{Listen: ":0", ProxyListen: free}, "--listen :0 is reachable"},
		{"an address of all interfaces for proxies", controller.Options{Listen: free, ProxyListen: "[::]:0"}, "--proxy-listen [::]:0 is reachable"},
		{"a name that is not localhost", controller.Options{Listen: "example.com:7070", ProxyListen: free}, "reachable from other machines"},
		{"an address without a port", controller.Options{Listen: "127.0.0.1", ProxyListen: free}, "must be host:port"},
		{"a certificate without a key", controller.Options{TLSCert: "x"}, "must be given together"},
		{"a certificate that does not exist", controller.Options{TLSCert: "x", TLSKey: "y"}, "reading the certificate"},
		{"an address in use", controller.Options{Listen: occupied.Addr().String(), ProxyListen: free}, "address already in use"},
		{"a data directory below a file", controller.Options{Data: filepath.Join(file, "data"), Listen: free, ProxyListen: free}, "creating the data directory"},
		{"a store in use", controller.Options{Data: running, Listen: free, ProxyListen: free}, "is another drydock serve running on this data directory?"},
		{"an empty sync token", controller.Options{Data: emptyToken, Listen: free, ProxyListen: free}, "sync-token is empty"},
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

func TestTLSOnBothListeners(t *testing.T) {
	cert, key, roots := selfSigned(t)
	c, _ := start(t, controller.Options{
		Listen: "0.0.0.0:0", ProxyListen: "0.0.0.0:0", TLSCert: cert, TLSKey: key,
		BootstrapToken: token, SyncToken: syncToken,
	})

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
				t.Errorf("%s: %s %s, want 200 by %s", path, res.Proto, res.Status, protocol)
			}
		}
		transport.CloseIdleConnections()
	}
}

// selfSigned writes a certificate for 127.0.0.1 and its key to files.
func selfSigned(t *testing.T) (certFile, keyFile string, roots *x509.CertPool) {
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

func TestStopAnswersRequestsThatWait(t *testing.T) {
	c, _ := start(t, controller.Options{BootstrapToken: token, SyncToken: syncToken})
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			body := fmt.Sprintf(`{"epoch":%d,"wait":25}`, time.Now().Add(time.Hour).UnixMilli())
			if code, _ := do(t, http.MethodPost, "http://"+c.ProxyAddr()+maintenance.SyncPath, syncToken, body); code != http.StatusNoContent {
				t.Errorf("a poll was answered %d, want 204", code)
			}
		})
		waiting.Go(func() {
			if code, body := do(t, http.MethodGet, "http://"+c.Addr()+"/api/v1/apps/default/status?wait=enforced&timeout=60", token, ""); code != http.StatusOK {
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
