package controller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/drydock-proxy/drydock/controller/keeper"
)

// Files of generated tokens in the data directory.
const (
	bootstrapTokenFile = "bootstrap-token"
	syncTokenFile      = "sync-token"
)

// minTokenLength is the number of bytes below which a given token is reported as short.
const minTokenLength = 16

// bootstrap creates the first operator token in a new store.
func (c *Controller) bootstrap(ctx context.Context, o Options) error {
	if c.keeper.HasTokens() {
		_, known := c.keeper.Authenticate(o.BootstrapToken)
		if !known && o.BootstrapToken != "" {
			c.log.Warn("DRYDOCK_BOOTSTRAP_TOKEN is ignored, since this store already has tokens and it is not one of them; create tokens with drydock token create")
		}
		return nil
	}

	token := o.BootstrapToken
	if token == "" {
		var err error
		if token, err = c.handOutToken(o); err != nil {
			return err
		}
	} else if len(token) < minTokenLength {
		c.log.Warn("DRYDOCK_BOOTSTRAP_TOKEN is short and easy to guess", "characters", len(token), "at_least", minTokenLength)
	}

	_, err := c.keeper.CreateToken(ctx, keeper.Actor{Name: "bootstrap"}, "bootstrap", keeper.Operator, token)
	return err
}

// handOutToken generates the first operator token and shows it, or writes it to a file. The token
// is handed out before it is stored: after a crash in between, the next start hands out another.
func (c *Controller) handOutToken(o Options) (string, error) {
	token := keeper.NewSecret()
	if o.ShowToken != nil {
		if err := o.ShowToken(token); err != nil {
			return "", fmt.Errorf("showing the first operator token: %w", err)
		}
		return token, nil
	}

	path := filepath.Join(o.Data, bootstrapTokenFile)
	if err := writeSecret(path, token); err != nil {
		return "", fmt.Errorf("writing the first operator token: %w", err)
	}
	c.log.Info("the first operator token was written to a file; read it, then delete the file", "path", path)
	return token, nil
}

// syncToken returns the sync token that is given, or the one in the data directory, which it
// generates if it does not exist.
func (c *Controller) syncToken(o Options) (string, error) {
	if o.SyncToken != "" {
		return o.SyncToken, nil
	}

	path := filepath.Join(o.Data, syncTokenFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		token := keeper.NewSecret()
		if err := writeSecret(path, token); err != nil {
			return "", fmt.Errorf("writing the sync token: %w", err)
		}
		c.log.Info("the sync token was written to a file; set DRYDOCK_SYNC_TOKEN in the environment of Envoy to it", "path", path)
		return token, nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the sync token: %w", err)
	}

	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("the sync token file %s is empty: delete it, and the next start creates a new token", path)
	}
	return token, nil
}

// writeSecret writes a file that only its owner may read. After an error or a crash the file has
// either all of the new content or none of it.
func writeSecret(path, secret string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())

	_, err = f.WriteString(secret + "\n")
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
