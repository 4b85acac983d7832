package controller

// This file creates the two kinds of tokens that a first start needs: the first operator token,
// with which people use the API and create further tokens, and the sync token, which all proxies
// share.

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

// minTokenLength is the number of bytes below which a bootstrap token is reported as short. It is a
// warning only.
const minTokenLength = 16

// bootstrap creates the first operator token in a new store. In a store that has tokens it creates
// none, and warns of a bootstrap token that is not one of them.
func (c *Controller) bootstrap(ctx context.Context, o Options) error {
	if c.keeper.HasTokens() {
		_, known := c.keeper.Authenticate(o.BootstrapToken)
		if o.BootstrapToken != "" && !known {
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
		c.log.Warn("DRYDOCK_BOOTSTRAP_TOKEN is short and easy to guess", "bytes", len(token), "at_least", minTokenLength)
	}

	_, err := c.keeper.CreateToken(ctx, keeper.Actor{Name: "bootstrap"}, "bootstrap", keeper.Operator, token)
	return err
}

// handOutToken generates the first operator token, gives it to the operator, and returns it: it
// shows the token, or writes it to a file. The caller stores the token afterwards. After a crash in
// between, the next start finds no token in the store and hands out another; the other way round,
// nobody would have the token that is stored.
func (c *Controller) handOutToken(o Options) (token string, err error) {
	token = keeper.NewSecret()
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

// syncToken returns o.SyncToken, or if that is empty the token in the file sync-token of the data
// directory. If the file does not exist, syncToken creates it with a new token. The controller
// keeps no other copy, so the file must stay.
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

// writeSecret writes a secret and a newline to a file that only its owner may read. It writes to a
// temporary file and renames it, so that after an error or a crash the file has either all of the
// new content or none of it.
func writeSecret(path, secret string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // does nothing after the rename

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
