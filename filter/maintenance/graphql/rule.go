package graphql

// A Rule names why a request is refused; "" means that it can only query. The names are stable:
// replies, logs, metrics and `drydock explain` show them.
type Rule string

// Rules about the document.
const (
	RuleMutation     Rule = "graphql.mutation"
	RuleSubscription Rule = "graphql.subscription"
	RuleNoOperation  Rule = "graphql.no-operation"
	RuleTypeSystem   Rule = "graphql.type-system"
	RuleSyntax       Rule = "graphql.syntax"
	RuleAmbiguous    Rule = "graphql.ambiguous"
	RuleLimitTokens  Rule = "graphql.limit-tokens"
	RuleLimitDepth   Rule = "graphql.limit-depth"
)

// Rules about the JSON body or the URL parameters around it.
const (
	RuleJSON              Rule = "graphql.json"
	RuleJSONAmbiguous     Rule = "graphql.json-ambiguous"
	RuleNoQuery           Rule = "graphql.no-query"
	RuleKeyType           Rule = "graphql.key-type"
	RuleDuplicateKey      Rule = "graphql.duplicate-key"
	RuleUnknownKey        Rule = "graphql.unknown-key"
	RuleDocumentID        Rule = "graphql.document-id"
	RulePersisted         Rule = "graphql.persisted"
	RulePersistedMismatch Rule = "graphql.persisted-mismatch"
	RulePersistedForm     Rule = "graphql.persisted-form"
	RuleBatch             Rule = "graphql.batch"
	RuleBatchEmpty        Rule = "graphql.batch-empty"
	RuleBatchNested       Rule = "graphql.batch-nested"
	RuleBatchElement      Rule = "graphql.batch-element"
	RuleLimitBatch        Rule = "graphql.limit-batch"
	RuleLimitBody         Rule = "graphql.limit-body"
	RuleURLEncoding       Rule = "graphql.url-encoding"
)

// Rules about the transport. Those that no function of this package returns are for its caller,
// which knows the method, the headers and whether there is a body.
const (
	RuleNoContentType   Rule = "graphql.no-content-type"
	RuleContentType     Rule = "graphql.content-type"
	RuleCharset         Rule = "graphql.charset"
	RuleContentEncoding Rule = "graphql.content-encoding"
	RulePath            Rule = "graphql.path"
	RuleURLParameter    Rule = "graphql.url-parameter"
	RuleGetBody         Rule = "graphql.get-body"
	RuleMethod          Rule = "graphql.method"
	RuleMethodOverride  Rule = "graphql.method-override"
	RuleUpgrade         Rule = "graphql.upgrade"
)

// explanations lists every rule with the sentence that [Rule.Explain] returns.
var explanations = [...]struct {
	rule Rule
	text string
}{
	{RuleMutation, "The document contains a mutation, but only queries are allowed while the service is read-only; send the queries in a separate request."},
	{RuleSubscription, "The document contains a subscription, but only queries are allowed while the service is read-only; send the queries in a separate request."},
	{RuleNoOperation, "The document has no operation; send at least one query."},
	{RuleTypeSystem, "The document contains a type definition, which is not allowed in a request; send only queries and fragments."},
	{RuleSyntax, "The document is not well-formed GraphQL to its last byte; check its brackets, strings and top-level definitions."},
	{RuleAmbiguous, "The document contains text that GraphQL servers read differently (a control or unusual line-end character; a string, number or character outside the grammar; a description before {; or, if the word mutation or subscription occurs, a comment with a character outside ASCII, \\u{…}, or a quote or backslash at the edge of a string), so it cannot be shown to be a query; move the text into variables or remove it."},
	{RuleLimitTokens, "The document has more tokens than the limit allows; send a smaller document."},
	{RuleLimitDepth, "The document or the JSON around it is nested more deeply than the limit allows; send a flatter one."},
	{RuleJSON, "The body is not JSON (RFC 8259) with a request object or an array of them: it is empty, cut short or in another format; check it with a strict parser."},
	{RuleJSONAmbiguous, "The body, or a URL parameter that must be JSON, contains text that JSON parsers read differently (a comment, an extra comma, NaN, a byte order mark, invalid UTF-8, a lone surrogate, __proto__, an array instead of the string \"query\", or text after the JSON); send strict JSON (RFC 8259)."},
	{RuleNoQuery, "The request has no document; send it as the string \"query\"."},
	{RuleKeyType, "The document has the wrong type; send \"query\" as a string."},
	{RuleDuplicateKey, "A parameter is given twice, perhaps in another letter case; send each parameter once, spelled as in the GraphQL-over-HTTP specification."},
	{RuleUnknownKey, "The request has a parameter other than \"query\", \"operationName\", \"variables\" and \"extensions\" in exactly this spelling; remove it, or ask the operator to list it as known."},
	{RuleDocumentID, "The request names a stored document by id, or has a single word instead of a document, which cannot be shown to be a query; send the document itself as \"query\"."},
	{RulePersisted, "The request names a persisted document by a hash that the operator has not listed as a query; send the document itself as \"query\"."},
	{RulePersistedMismatch, "The persisted-query hash is not the SHA-256 of the document in the request; send the document's own hash or none."},
	{RulePersistedForm, "The \"extensions\" of the request may name a stored document in an unknown way; only persistedQuery with version 1 and a sha256Hash in lower-case hexadecimal is supported."},
	{RuleBatch, "The body is an array of requests, but batching is not enabled for this path; send one request at a time."},
	{RuleBatchEmpty, "The batch has no request; send at least one."},
	{RuleBatchNested, "The batch contains another array; send a flat array of requests."},
	{RuleBatchElement, "A request in the batch is malformed, but servers would run the others; correct it or remove it."},
	{RuleLimitBatch, "The batch has more requests than the limit allows; send several smaller batches."},
	{RuleLimitBody, "The request is larger than the limit allows; send a smaller one."},
	{RuleURLEncoding, "The URL's query string is encoded in a way that servers read differently (a bare semicolon, a malformed or double percent escape, or bytes that are not UTF-8); percent-encode each parameter once, as UTF-8."},
	{RuleNoContentType, "The Content-Type is missing or is text/plain, which HTTP clients send by default; send the request as application/json."},
	{RuleContentType, "The request must have exactly one Content-Type, and it must be application/json; send the request as application/json."},
	{RuleCharset, "The charset of the body is not UTF-8; send it as UTF-8, and without other Content-Type parameters."},
	{RuleContentEncoding, "The body is compressed, so it cannot be shown to be a query; send it without Content-Encoding."},
	{RulePath, "The path is below the GraphQL path, where some servers read it as the name of a stored document; send the document to the GraphQL path itself, or ask the operator to allow the paths below it."},
	{RuleURLParameter, "The URL has a GraphQL parameter in addition to the POST body, and servers differ in which of them counts; send everything in the body."},
	{RuleGetBody, "The GET request has a body, and servers differ in whether they read it; send the query in the URL alone, or by POST."},
	{RuleMethod, "The method is neither GET nor POST; send the query by one of these."},
	{RuleMethodOverride, "A header or a parameter of the request overrides its method; remove the override."},
	{RuleUpgrade, "The request asks for another protocol, such as WebSocket, in which mutations cannot be seen; send queries by POST."},
}

// Explain returns one English sentence for the developer of the client that sent the request. It
// states what was refused and what to do. Explain returns "" for a rule of another package.
func (r Rule) Explain() string {
	for _, e := range explanations {
		if e.rule == r {
			return e.text
		}
	}
	return ""
}

// ClientError returns the HTTP status for a request that is wrong for every GraphQL server, as the
// GraphQL-over-HTTP specification defines it
// (https://graphql.github.io/graphql-over-http/draft/#sec-Status-Codes): sending such a request
// again later does not help. ClientError returns 0 for a rule that only Drydock enforces, since
// some server would run the request.
//
//   - 400 for a body that is not JSON, for a request that is not a well-formed GraphQL-over-HTTP
//     request (section "Request Parameters": "query" is missing or is not a string), and for a
//     document that cannot be parsed or has no operation. The edition of September 2026 asks for
//     422 if the request is JSON but not well-formed; its drafts until 2025, the audits of the npm
//     package graphql-http and existing servers use 400.
//   - 415 for a POST without a Content-Type (section "POST"), and for one of text/plain, which is
//     what HTTP clients send by default. Servers that read such a body as JSON also read it as
//     application/json, so the client need not wait for the end of the maintenance.
//
// Media types other than JSON that some servers support (forms, uploads, application/graphql) and a
// method that some support (PUT) are refused only during maintenance, and so is a mutation in a
// GET.
func (r Rule) ClientError() int {
	switch r {
	case RuleJSON, RuleNoQuery, RuleKeyType, RuleBatchEmpty, RuleSyntax, RuleNoOperation:
		return 400
	case RuleNoContentType:
		return 415
	}

	return 0
}

// Rules lists every rule.
func Rules() []Rule {
	rules := make([]Rule, len(explanations))
	for i, e := range explanations {
		rules[i] = e.rule
	}
	return rules
}
