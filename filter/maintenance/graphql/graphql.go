// Package graphql decides whether a GraphQL request can do nothing but query, on any server that
// may stand behind the proxy.
//
// A parser that follows the specification is not enough, because servers do not: they disagree
// about where a comment or a block string ends, which of two equal JSON keys counts, and which
// charset a body is in. The package is therefore an allow-list. It passes what every server reads
// as a query, and refuses the rest with a [Rule] that tells the developer of the client what to
// change. What a server does after parsing (validation, execution) does not matter here: a document
// that no server accepts may pass, so that the server itself reports what is wrong with it.
//
// For a request to a GraphQL path, ask in this order; the first rule decides:
//
//  1. any method: [RuleMethodOverride], [RuleUpgrade];
//  2. GET and HEAD: [RuleGetBody], then [Query] of the URL's query string;
//  3. POST: [HasParameter] ([RuleURLParameter]), [ContentEncoding], [ContentType], then [JSON] of
//     the whole body;
//  4. any other method: [RuleMethod].
//
// All functions are safe for concurrent use, keep no reference to their arguments, run in time
// linear in the input, and allocate nothing once warm.
//
// A request goes through the files in this order: http.go reads the headers and the query string,
// request.go the parameters of a request in JSON or in a URL, with json.go as the reader of strict
// JSON, and document.go judges the document in them with the lexer of lexer.go. bytes.go holds the
// classes of bytes that all of them use, rule.go the rules and their explanations.
package graphql

import "crypto/sha256"

// Limits that a zero field of [Options] stands for.
const (
	DefaultMaxBody   = 1 << 20 // bytes
	DefaultMaxBatch  = 50      // requests in one batch
	DefaultMaxTokens = 15_000  // lexical tokens in one document, the default of graphql-java
	DefaultMaxDepth  = 200     // nested brackets, in a document and in JSON
)

// MaxNesting is the greatest depth that can be allowed. A larger [Options.MaxDepth] counts as
// MaxNesting.
const MaxNesting = 1024

// Options are the GraphQL settings of an app. The zero value and nil refuse batches and use the
// default limits. Options that are in use must not be changed.
type Options struct {
	// Batching allows a JSON array of requests and judges it element by element. Without it, an
	// array is refused.
	Batching bool
	// MaxBody is the maximum size of a JSON body or of a URL's query string, in bytes.
	MaxBody int
	// MaxBatch is the maximum number of requests in one array, MaxTokens that of tokens in one
	// document, and MaxDepth that of its nested brackets.
	MaxBatch, MaxTokens, MaxDepth int
	// ExtraKeys are request parameters besides query, operationName, variables and extensions that
	// the operator knows to be harmless: no server behind the proxy reads a document from them.
	// They match exactly. Those after the 60th are ignored.
	ExtraKeys []string
	// Persisted holds the SHA-256 of each document that the operator has listed as a query. A
	// request may send the hash of one of them (extensions.persistedQuery.sha256Hash) instead of
	// the document.
	Persisted map[[sha256.Size]byte]struct{}
}

// defaults are the options for which nil stands.
var defaults Options

// maxBody, maxBatch, maxTokens and maxDepth return the limits, or their defaults for a zero field.
func (o *Options) maxBody() int   { return limit(o.MaxBody, DefaultMaxBody) }
func (o *Options) maxBatch() int  { return limit(o.MaxBatch, DefaultMaxBatch) }
func (o *Options) maxTokens() int { return limit(o.MaxTokens, DefaultMaxTokens) }
func (o *Options) maxDepth() int  { return min(limit(o.MaxDepth, DefaultMaxDepth), MaxNesting) }

// limit returns n, or def if n is not positive.
func limit(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}
