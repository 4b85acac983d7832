package controller_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/controller"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// statusWith returns the status of the answer to a request that only operators may send.
func statusWith(t *testing.T, c *controller.Controller, token string) int {
	t.Helper()
	code, _ := do(t, http.MethodGet, "http://"+c.Addr()+"/api/v1/tokens", token, "")
	return code
}

// readSecret returns the token in a file that only its owner may read.
func readSecret(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Fatalf("%s has mode %o, want 600", path, mode)
	}

	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestBootstrapTokenCountsAtTheFirstStartOnly(t *testing.T) {
	data := t.TempDir()
	c, _ := start(t, controller.Options{Data: data, BootstrapToken: token})
	if code := statusWith(t, c, token); code != http.StatusOK {
		t.Fatalf("the given token is answered %d, want 200", code)
	}
	c.Stop(t.Context())

	// Another token at a later start changes nothing, and the log says so.
	c, log := start(t, controller.Options{Data: data, BootstrapToken: "another-token-of-the-tests"})
	if code := statusWith(t, c, "another-token-of-the-tests"); code != http.StatusUnauthorized {
		t.Errorf("the token of the second start is answered %d, want 401", code)
	}
	if code := statusWith(t, c, token); code != http.StatusOK {
		t.Errorf("the token of the first start is answered %d, want 200", code)
	}
	if !strings.Contains(log.String(), "DRYDOCK_BOOTSTRAP_TOKEN is ignored") {
		t.Errorf("the log does not say that the token is ignored: %s", log)
	}
	c.Stop(t.Context())

	// The same token at a later start is not worth a warning.
	c, log = start(t, controller.Options{Data: data, BootstrapToken: token})
	if strings.Contains(log.String(), "DRYDOCK_BOOTSTRAP_TOKEN") {
		t.Errorf("the log warns of the same token: %s", log)
	}
	c.Stop(t.Context())
}

func TestGeneratedTokensAreWrittenToFiles(t *testing.T) {
	data := t.TempDir()
	c, log := start(t, controller.Options{Data: data})
	operator := readSecret(t, filepath.Join(data, "bootstrap-token"))
	if code := statusWith(t, c, operator); code != http.StatusOK {
		t.Fatalf("the token in the file is answered %d, want 200", code)
	}

	sync := readSecret(t, filepath.Join(data, "sync-token"))
	if code, _ := do(t, http.MethodPost, "http://"+c.ProxyAddr()+maintenance.SyncPath, sync, "{}"); code != http.StatusOK {
		t.Errorf("the sync token in the file is answered %d, want 200", code)
	}
	if code := statusWith(t, c, sync); code != http.StatusUnauthorized {
		t.Errorf("the API answers the sync token %d, want 401", code)
	}
	c.Stop(t.Context())

	if strings.Contains(log.String(), operator) || strings.Contains(log.String(), sync) || !strings.Contains(log.String(), "bootstrap-token") {
		t.Errorf("the log must have the name of the file and not the tokens: %s", log)
	}

	// Later starts keep both tokens.
	os.Remove(filepath.Join(data, "bootstrap-token"))
	c, _ = start(t, controller.Options{Data: data})
	if _, err := os.Stat(filepath.Join(data, "bootstrap-token")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the second start wrote another token: %v", err)
	}
	if code := statusWith(t, c, operator); code != http.StatusOK {
		t.Errorf("the token of the first start is answered %d, want 200", code)
	}
	if again := readSecret(t, filepath.Join(data, "sync-token")); again != sync {
		t.Error("the second start changed the sync token")
	}
}

func TestShownTokenIsNotWritten(t *testing.T) {
	data := t.TempDir()
	var shown string
	c, _ := start(t, controller.Options{Data: data, ShowToken: func(s string) error { shown = s; return nil }})

	if code := statusWith(t, c, shown); code != http.StatusOK {
		t.Errorf("the shown token is answered %d, want 200", code)
	}
	if _, err := os.Stat(filepath.Join(data, "bootstrap-token")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the shown token was written to a file as well: %v", err)
	}
}

func TestTokenThatCannotBeShownIsNotCreated(t *testing.T) {
	data := t.TempDir()
	_, err := controller.New(t.Context(), controller.Options{
		Data: data, Listen: "127.0.0.1:0", ProxyListen: "127.0.0.1:0",
		ShowToken: func(string) error { return io.ErrClosedPipe }, Log: slog.New(slog.DiscardHandler),
	})
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("%v, want the error of ShowToken", err)
	}

	// So the next start is still the first one.
	start(t, controller.Options{Data: data})
	if readSecret(t, filepath.Join(data, "bootstrap-token")) == "" {
		t.Error("the token's file is empty")
	}
}
