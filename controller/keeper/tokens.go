package keeper

// This file has the API tokens. A client of the API sends the secret of a token as a bearer token
// (Authorization: Bearer SECRET). Only the hash of a secret is stored. All tokens are in one record
// of the store, which [Keeper.CreateToken] and [Keeper.RevokeToken] replace as a whole.

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Role is what the bearer of an API token may do.
type Role string

const (
	Viewer   Role = "viewer"   // may read
	Operator Role = "operator" // may read and change
)

// Includes reports whether the role may do all that the other role may do.
func (r Role) Includes(other Role) bool { return r == Operator || r == other }

// Token describes an API token. It does not contain the secret.
type Token struct {
	ID        string    `json:"id"`
	Name      string    `json:"name" doc:"Names the user of the token in the audit log"`
	Role      Role      `json:"role" enum:"viewer,operator"`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

// storedToken is a token in the store, with the hash of its secret. A generated secret has 256
// random bits, so that it cannot be guessed from its SHA-256, and no slow hash is necessary.
type storedToken struct {
	Token
	SHA256 string `json:"sha256"` // in hex
}

// tokenSet is the record of all tokens, at one revision. It never changes.
type tokenSet struct {
	revision uint64 // of the record; 0 if no token was ever created
	list     []storedToken
	byHash   map[string]Token // by storedToken.SHA256
}

// newTokenSet returns the set of the tokens in a list, which must not change afterwards.
func newTokenSet(revision uint64, list []storedToken) *tokenSet {
	s := &tokenSet{revision: revision, list: list, byHash: make(map[string]Token, len(list))}
	for _, t := range list {
		s.byHash[t.SHA256] = t.Token
	}
	return s
}

// loadTokens reads the stored tokens.
func (k *Keeper) loadTokens(ctx context.Context) error {
	rec, err := k.store.Get(ctx, recordTokens)
	if err != nil {
		return storeError(ctx, err)
	}

	var list []storedToken
	if rec.Revision > 0 {
		if err := json.Unmarshal(rec.Data, &list); err != nil {
			return fmt.Errorf("reading the stored tokens: %w", err)
		}
	}
	k.tokens.Store(newTokenSet(rec.Revision, list))
	return nil
}

// Authenticate returns the token with that secret, and whether there is one.
func (k *Keeper) Authenticate(secret string) (Token, bool) {
	t, ok := k.tokens.Load().byHash[hashSecret(secret)]
	return t, ok
}

// hashSecret returns the SHA-256 of a secret in hex. Secrets are looked up by their hashes, so that
// the time of a lookup reveals nothing about them.
func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Tokens returns all tokens. It is never nil.
func (k *Keeper) Tokens() []Token {
	tokens := []Token{}
	for _, t := range k.tokens.Load().list {
		tokens = append(tokens, t.Token)
	}
	return tokens
}

// HasTokens reports whether a token was ever created in this store. There is one from then on,
// since the last operator token cannot be revoked.
func (k *Keeper) HasTokens() bool { return k.tokens.Load().revision > 0 }

// NewSecret returns a new secret for a token, with 256 random bits. Its prefix is for scanners that
// look for leaked secrets.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:]) // never returns an error
	return "drydock_" + hex.EncodeToString(b[:])
}

// maxTokenName is the largest number of bytes of a token's name.
const maxTokenName = 100

// CreateToken creates a token with the given secret, which may be any string that is hard to guess
// ([NewSecret]). The name must have 1 to 100 bytes and no control characters.
func (k *Keeper) CreateToken(ctx context.Context, by Actor, name string, role Role, secret string) (Token, error) {
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	switch {
	case name == "" || len(name) > maxTokenName || strings.ContainsFunc(name, isControl):
		return Token{}, &maintenance.FieldError{Field: "name", Problem: fmt.Sprintf("must be 1 to %d bytes of one line, such as deploy-pipeline", maxTokenName)}
	case role != Viewer && role != Operator:
		return Token{}, &maintenance.FieldError{Field: "role", Problem: fmt.Sprintf("%q must be viewer or operator", role)}
	}

	t := Token{ID: newID(), Name: name, Role: role, Created: k.now().UTC().Truncate(time.Second), CreatedBy: by.Name}
	err := k.changeTokens(ctx, by, "token.create", nil, t, func(list []storedToken) ([]storedToken, error) {
		return append(slices.Clip(list), storedToken{t, hashSecret(secret)}), nil
	})
	return t, err
}

// RevokeToken deletes a token, whose secret then no longer authenticates. It returns [ErrNotFound]
// for an unknown ID, and [ErrLastOperator] if no operator token would be left.
func (k *Keeper) RevokeToken(ctx context.Context, by Actor, id string) error {
	i := slices.IndexFunc(k.Tokens(), func(t Token) bool { return t.ID == id })
	if i < 0 {
		return fmt.Errorf("token %q: %w", id, ErrNotFound)
	}

	return k.changeTokens(ctx, by, "token.revoke", k.Tokens()[i], nil, func(list []storedToken) ([]storedToken, error) {
		rest := slices.DeleteFunc(slices.Clone(list), func(t storedToken) bool { return t.ID == id })
		if len(rest) == len(list) { // it was revoked meanwhile
			return nil, fmt.Errorf("token %q: %w", id, ErrNotFound)
		}
		if !slices.ContainsFunc(rest, func(t storedToken) bool { return t.Role == Operator }) {
			return nil, fmt.Errorf("token %q is %w: create another one first", id, ErrLastOperator)
		}
		return rest, nil
	})
}

// changeTokens replaces the list of tokens by what edit returns for it, and stores it by
// compare-and-swap. The audit entry says that the token described by from became the one described
// by to: from is nil for a new token, and to for a revoked one. edit may run more than once, and
// must not write into the list that it gets.
func (k *Keeper) changeTokens(ctx context.Context, by Actor, action string, from, to any, edit func([]storedToken) ([]storedToken, error)) error {
	k.tokensMu.Lock()
	defer k.tokensMu.Unlock()

	c, _ := diffResources(noApp, from, to)
	entry := mustMarshal(Entry{Time: k.now(), Actor: by, Action: action, Change: c})
	for {
		before := k.tokens.Load()
		list, err := edit(before.list)
		if err != nil {
			return err
		}

		err = k.store.Swap(ctx, recordTokens, before.revision, mustMarshal(list), entry)
		if errors.Is(err, store.ErrConflict) { // as in [Keeper.update]: edit the list that was stored
			if err := k.loadTokens(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return storeError(ctx, err)
		}

		k.tokens.Store(newTokenSet(before.revision+1, list))
		k.log.Info("tokens changed", "action", action, "actor", by.Name, "role", by.Role, "remote", by.Remote)
		return nil
	}
}
