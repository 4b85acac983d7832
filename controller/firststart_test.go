package controller_test

// This file tests the tokens that a first start creates: the first operator token, which opens the
// API, and the sync token of the proxies. Both are given, or generated and handed out.

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

// answerTo returns the status of the answer to a request that only operators may send: 200 for an
// operator token, and 401 for what is not a token.
func answerTo(t *testing.T, c *controller.Controller, token string) (status int) {
	t.Helper()
	status, _ = do(t, http.MethodGet, "http://"+c.Addr()+"/api/v1/tokens", token, "")
	return status
}

// readSecret returns the token in a file, and checks that only the owner of the file may read it.
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
	c, _ := start(t, controller.Options{Data: data, BootstrapToken: operatorToken})
	if code := answerTo(t, c, operatorToken); code != http.StatusOK {
		t.Fatalf("the given token is answered %d, want 200", code)
	}
	c.Stop(t.Context())

	// Another token at a later start changes nothing, and the log says so.
	const otherToken = "another-token-of-the-tests"
	c, log := start(t, controller.Options{Data: data, BootstrapToken: otherToken})
	if code := answerTo(t, c, otherToken); code != http.StatusUnauthorized {
		t.Errorf("the token of the second start is answered %d, want 401", code)
	}
	if code := answerTo(t, c, operatorToken); code != http.StatusOK {
		t.Errorf("the token of the first start is answered %d, want 200", code)
	}
	c.Stop(t.Context())
	if !strings.Contains(log.String(), "DRYDOCK_BOOTSTRAP_TOKEN is ignored") {
		t.Errorf("the log does not say that the token is ignored: %s", log)
	}
}

// A service manager gives the same token at every start.
func TestSameBootstrapTokenIsNotWarnedOf(t *testing.T) {
	data := t.TempDir()
	c, _ := start(t, controller.Options{Data: data, BootstrapToken: operatorToken})
	c.Stop(t.Context())

	c, log := start(t, controller.Options{Data: data, BootstrapToken: operatorToken})
	c.Stop(t.Context())
	if strings.Contains(log.String(), "DRYDOCK_BOOTSTRAP_TOKEN") {
		t.Errorf("the log warns of the token: %s", log)
	}
}

func TestGeneratedTokensAreWrittenToFiles(t *testing.T) {
	data := t.TempDir()
	c, log := start(t, controller.Options{Data: data})
	operator := readSecret(t, filepath.Join(data, "bootstrap-token"))
	if code := answerTo(t, c, operator); code != http.StatusOK {
		t.Fatalf("the token in bootstrap-token is answered %d, want 200", code)
	}

	sync := readSecret(t, filepath.Join(data, "sync-token"))
	if code, _ := do(t, http.MethodPost, "http://"+c.ProxyAddr()+maintenance.SyncPath, sync, "{}"); code != http.StatusOK {
		t.Errorf("a proxy with the token in sync-token is answered %d, want 200", code)
	}
	if code := answerTo(t, c, sync); code != http.StatusUnauthorized {
		t.Errorf("the API answers the sync token %d, want 401", code)
	}
	c.Stop(t.Context())

	if !strings.Contains(log.String(), "bootstrap-token") {
		t.Errorf("the log does not name the file: %s", log)
	}
	if strings.Contains(log.String(), operator) || strings.Contains(log.String(), sync) {
		t.Errorf("the log has a token: %s", log)
	}
}

func TestLaterStartsKeepGeneratedTokens(t *testing.T) {
	data := t.TempDir()
	c, _ := start(t, controller.Options{Data: data})
	operator := readSecret(t, filepath.Join(data, "bootstrap-token"))
	sync := readSecret(t, filepath.Join(data, "sync-token"))
	c.Stop(t.Context())

	os.Remove(filepath.Join(data, "bootstrap-token")) // as the log asks for
	c, _ = start(t, controller.Options{Data: data})
	if _, err := os.Stat(filepath.Join(data, "bootstrap-token")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the second start wrote another token: %v", err)
	}
	if code := answerTo(t, c, operator); code != http.StatusOK {
		t.Errorf("the token of the first start is answered %d, want 200", code)
	}
	if again := readSecret(t, filepath.Join(data, "sync-token")); again != sync {
		t.Error("the second start changed the sync token")
	}
}

func TestShownTokenIsNotWritten(t *testing.T) {
	data := t.TempDir()
	var shown string
	show := func(token string) error {
		shown = token
		return nil
	}
	c, _ := start(t, controller.Options{Data: data, ShowToken: show})

	if code := answerTo(t, c, shown); code != http.StatusOK {
		t.Errorf("the shown token is answered %d, want 200", code)
	}
	if _, err := os.Stat(filepath.Join(data, "bootstrap-token")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the shown token was written to a file as well: %v", err)
	}
}

func TestTokenThatCannotBeShownIsNotCreated(t *testing.T) {
	data := t.TempDir()
	failToShow := func(string) error { return io.ErrClosedPipe }
	_, err := controller.New(t.Context(), controller.Options{
		Data: data, Listen: freePort, ProxyListen: freePort,
		ShowToken: failToShow, Log: slog.New(slog.DiscardHandler),
	})
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("%v, want the error of ShowToken", err)
	}

	// The next start is still the first one, and so it creates a token.
	start(t, controller.Options{Data: data})
	if readSecret(t, filepath.Join(data, "bootstrap-token")) == "" {
		t.Error("bootstrap-token is empty")
	}
}
