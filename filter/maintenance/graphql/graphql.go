// Package graphql decides whether a GraphQL request can do nothing but query, on any server that may stand behind the
// proxy.
//
// A parser that is right by the specification is not enough, because servers are not: they disagree about where a
// comment or a block string ends, which of two equal JSON keys counts, and which charset a body is in. So this package
// is an allow-list. It passes what no server can read as anything but a query, and refuses the rest by a [Rule] that
// tells the developer at the other end what to change. What a server does after parsing (validation, execution) is not
// its business: a document that no server accepts may pass, so that the server itself says what is wrong with it.
//
// For a request to a GraphQL path, ask in this order, and let the first rule decide:
//
//  1. any method: [RuleMethodOverride], [RuleUpgrade];
//  2. GET and HEAD: [RuleGetBody], then [Query] of the URL's query string;
//  3. POST: [HasParameter] ([RuleURLParameter]), [ContentEncoding], [ContentType], then [JSON] of the whole body;
//  4. any other method: [RuleMethod].
//
// All functions are safe for concurrent use, keep nothing of their arguments, run in time linear in the input, and
// allocate nothing once warm.
package graphql

import (
	"crypto/sha256"
)

// Limits that a zero field of [Options] stands for.
const (
	DefaultMaxBody   = 1 << 20 // bytes
	DefaultMaxBatch  = 50      // operations in one batch
	DefaultMaxTokens = 15_000  // lexical tokens in one document, as graphql-java's default
	DefaultMaxDepth  = 200     // nested brackets, in a document as in JSON
)

// MaxNesting is the greatest depth that can be allowed; a larger [Options.MaxDepth] counts as this.
const MaxNesting = 1024

// Options are an app's GraphQL settings. The zero value, and nil, refuse batches and use the default limits.
// A value in use must not be changed.
type Options struct {
	// Batching judges a JSON array of requests element by element; without it an array is refused.
	Batching bool
	// MaxBody bounds a JSON body or a URL's query string, in bytes.
	MaxBody int
	// MaxBatch bounds the requests in one array, MaxTokens the tokens of one document, MaxDepth its nested brackets.
	MaxBatch, MaxTokens, MaxDepth int
	// ExtraKeys are request parameters beside query, operationName, variables and extensions that the operator knows
	// to be harmless: no server behind reads a document from them. They match exactly; those past the 60th are ignored.
	ExtraKeys []string
	// Persisted holds the SHA-256 of each document that the operator vouches for as a query. A request may name one
	// of them by hash alone (extensions.persistedQuery.sha256Hash).
	Persisted map[[sha256.Size]byte]struct{}
}

func limit(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}

func (o *Options) maxBody() int { return limit(o.MaxBody, DefaultMaxBody) }

func (o *Options) maxBatch() int { return limit(o.MaxBatch, DefaultMaxBatch) }

func (o *Options) maxTokens() int { return limit(o.MaxTokens, DefaultMaxTokens) }

func (o *Options) maxDepth() int { return min(limit(o.MaxDepth, DefaultMaxDepth), MaxNesting) }

var defaults Options
