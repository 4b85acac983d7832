package keeper

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

// storedToken is a token in the store, with the hash of its secret. A secret has 256 random bits,
// so that it cannot be found from a plain SHA-256.
type storedToken struct {
	Token
	SHA256 string `json:"sha256"`
}

// tokenSet is the stored record of all tokens. It never changes.
type tokenSet struct {
	revision uint64
	list     []storedToken
	byHash   map[string]Token
}

func newTokenSet(revision uint64, list []storedToken) *tokenSet {
	s := &tokenSet{revision: revision, list: list, byHash: make(map[string]Token, len(list))}
	for _, t := range list {
		s.byHash[t.SHA256] = t.Token
	}
	return s
}

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
	t, ok := k.tokens.Load().byHash[hash(secret)]
	return t, ok
}

// hash returns the SHA-256 of a secret in hex. Secrets are looked up by it, so that the time that
// a lookup takes reveals nothing about them.
func hash(secret string) string {
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

// HasTokens reports whether a token was ever created in this store.
func (k *Keeper) HasTokens() bool { return k.tokens.Load().revision > 0 }

// NewSecret returns a new secret for a token, with 256 random bits. Its prefix is for scanners that
// look for leaked secrets.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return "drydock_" + hex.EncodeToString(b[:])
}

// CreateToken creates a token with the given secret. The name must have 1 to 100 bytes and no
// control characters.
func (k *Keeper) CreateToken(ctx context.Context, by Actor, name string, role Role, secret string) (Token, error) {
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	switch {
	case name == "" || len(name) > 100 || strings.ContainsFunc(name, isControl):
		return Token{}, &maintenance.FieldError{Field: "name", Problem: "must be 1 to 100 characters of one line, such as deploy-pipeline"}
	case role != Viewer && role != Operator:
		return Token{}, &maintenance.FieldError{Field: "role", Problem: fmt.Sprintf("%q must be viewer or operator", role)}
	}

	t := Token{ID: newID(), Name: name, Role: role, Created: k.now().UTC().Truncate(time.Second), CreatedBy: by.Name}
	err := k.changeTokens(ctx, by, "token.create", nil, t, func(list []storedToken) ([]storedToken, error) {
		return append(slices.Clip(list), storedToken{t, hash(secret)}), nil
	})
	return t, err
}

// RevokeToken ends a token at once. It returns [ErrNotFound] for an unknown ID, and
// [ErrLastOperator] if no operator token would be left.
func (k *Keeper) RevokeToken(ctx context.Context, by Actor, id string) error {
	i := slices.IndexFunc(k.Tokens(), func(t Token) bool { return t.ID == id })
	if i < 0 {
		return fmt.Errorf("token %q: %w", id, ErrNotFound)
	}

	return k.changeTokens(ctx, by, "token.revoke", k.Tokens()[i], nil, func(list []storedToken) ([]storedToken, error) {
		rest := slices.DeleteFunc(slices.Clone(list), func(t storedToken) bool { return t.ID == id })
		if len(rest) == len(list) {
			return nil, fmt.Errorf("token %q: %w", id, ErrNotFound)
		}
		if !slices.ContainsFunc(rest, func(t storedToken) bool { return t.Role == Operator }) {
			return nil, fmt.Errorf("token %q is %w: create another one first", id, ErrLastOperator)
		}
		return rest, nil
	})
}

// changeTokens edits the list of tokens and stores it by compare-and-swap, together with an audit
// entry for the change from one description of a token to another.
func (k *Keeper) changeTokens(ctx context.Context, by Actor, action string, from, to any, edit func([]storedToken) ([]storedToken, error)) error {
	k.tokensMu.Lock()
	defer k.tokensMu.Unlock()

	c, _ := diffResources("", from, to)
	entry := mustMarshal(Entry{Time: k.now(), Actor: by, Action: action, Change: c})
	for {
		before := k.tokens.Load()
		list, err := edit(before.list)
		if err != nil {
			return err
		}

		err = k.store.Swap(ctx, recordTokens, before.revision, mustMarshal(list), entry)
		if errors.Is(err, store.ErrConflict) {
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
