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

// Role says what a token may do.
type Role string

const (
	Viewer   Role = "viewer"   // may read
	Operator Role = "operator" // may read and change
)

// Includes tells whether the role includes another one.
func (r Role) Includes(other Role) bool { return r == Operator || r == other }

// Token is what is known of an API token: not the token.
type Token struct {
	ID        string    `json:"id"`
	Name      string    `json:"name" doc:"Names the user of the token in the audit log"`
	Role      Role      `json:"role" enum:"viewer,operator"`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

// storedToken holds the hash. The token has 256 random bits, so a plain SHA-256 gives
// nothing away.
type storedToken struct {
	Token
	SHA256 string `json:"sha256"`
}

// tokenSet is the record of all tokens. It never changes.
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

// Authenticate finds the token of a secret.
func (k *Keeper) Authenticate(secret string) (Token, bool) {
	t, ok := k.tokens.Load().byHash[hash(secret)]
	return t, ok
}

// hash is what is compared: looking it up tells nothing about the token by its timing.
func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Tokens lists all tokens.
func (k *Keeper) Tokens() []Token {
	tokens := []Token{}
	for _, t := range k.tokens.Load().list {
		tokens = append(tokens, t.Token)
	}
	return tokens
}

// HasTokens tells whether there ever was a token.
func (k *Keeper) HasTokens() bool { return k.tokens.Load().revision > 0 }

// NewSecret is a token of 256 random bits. The prefix lets scanners of leaked secrets
// know it.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return "drydock_" + hex.EncodeToString(b[:])
}

// CreateToken stores a token of the given secret.
func (k *Keeper) CreateToken(ctx context.Context, by Actor, name string, role Role, secret string) (Token, error) {
	switch {
	case name == "" || len(name) > 100 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return Token{}, &maintenance.FieldError{Field: "name", Problem: "must be 1 to 100 characters of one line, such as deploy-pipeline"}
	case role != Viewer && role != Operator:
		return Token{}, &maintenance.FieldError{Field: "role", Problem: fmt.Sprintf("%q must be viewer or operator", role)}
	}
	t := Token{ID: strings.ToLower(rand.Text()[:10]), Name: name, Role: role, Created: k.now().UTC().Truncate(time.Second), CreatedBy: by.Name}
	return t, k.changeTokens(ctx, by, "token.create", nil, t, func(list []storedToken) ([]storedToken, error) {
		return append(slices.Clip(list), storedToken{t, hash(secret)}), nil
	})
}

// RevokeToken ends a token at once. The last operator token stays: ErrLastOperator.
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

func (k *Keeper) changeTokens(ctx context.Context, by Actor, action string, was, is any, edit func([]storedToken) ([]storedToken, error)) error {
	k.tokensMu.Lock()
	defer k.tokensMu.Unlock()
	c, _ := difference("", was, is)
	line := mustMarshal(Entry{Time: k.now(), Actor: by, Action: action, Change: c})
	for {
		before := k.tokens.Load()
		list, err := edit(before.list)
		if err != nil {
			return err
		}
		err = k.store.Swap(ctx, recordTokens, before.revision, mustMarshal(list), line)
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
