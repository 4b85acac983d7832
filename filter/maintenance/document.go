// Package maintenance is Drydock's core: the state that proxies follow, and the
// decision about one request under it. The filter runs it inside Envoy, and the
// controller runs the very same code to validate what it publishes and to explain
// what would happen to a request.
//
// The package is pure. It does no I/O and has no clock: time is an argument. All
// durations in its JSON are whole seconds, all times are RFC 3339.
// Configuration is compiled once per revision by [Compile]; [State.Decide] then
// works on memory only.
package maintenance

import (
	"cmp"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// Source is the origin of an activation.
type Source string

const (
	SourceManual   Source = "manual"   // API, CLI, console
	SourceWindow   Source = "window"   // a planned window that has opened
	SourceFile     Source = "file"     // the MAINTENANCE file
	SourceResource Source = "resource" // a Kubernetes object
)

// DefaultApp is the name of the app that catches what no other app matches. It
// always exists; a document that does not list it means one without rules.
const DefaultApp = "default"

// Bounds of a document. They keep a mistake from becoming an outage of the proxy:
// the whole document lives in the memory of every VM.
const (
	MaxDocumentBytes = 16 << 20 // bytes of JSON
	MaxApps          = 2000
	MaxCIDRs         = 20000   // per app
	MaxOccurrences   = 64      // per window
	MaxPlaces        = 100_000 // pairs of host and path that the apps match by, in all
	MaxMessageBytes  = 4096    // no other string may be longer either
	// MaxPageBytes bounds one page, before its placeholders are filled in. A client that
	// reads nothing makes the proxy keep one for each of its streams.
	MaxPageBytes = 128 << 10
	// MaxBodyBytes bounds graphql.max_body: past Envoy's own buffer limit (1 MiB by
	// default) Envoy answers 413 before the filter can judge.
	MaxBodyBytes = 16 << 20

	// DefaultMaxBody is how many bytes of a body are looked at unless graphql.max_body says
	// otherwise. Envoy buffers as much by default.
	DefaultMaxBody = graphql.DefaultMaxBody

	maxExtraKeys = 60  // as many as the graphql package looks at
	maxPages     = 200 // languages of an app

	// DefaultRetryAfter is SeaTable's, in seconds.
	DefaultRetryAfter = 3600
)

// Version orders documents. A restored or new store starts a higher epoch, and a
// proxy never goes back.
type Version struct {
	Epoch    uint64 `json:"epoch" doc:"Rises when the store is new or restored"`
	Revision uint64 `json:"revision" doc:"Rises with every change"`
}

// Compare is -1, 0 or +1 as v is older than, the same as or newer than o.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Epoch, o.Epoch), cmp.Compare(v.Revision, o.Revision))
}

// Format is the newest format of a document that this package reads. It rises when a
// document may hold what an older filter does not know.
const Format = 1

// Document is the state as it travels and is stored.
type Document struct {
	// Format is that of the document; 0 stands for 1.
	Format int `json:"format,omitempty" doc:"The format of the document; a proxy refuses a newer one than it reads, by name"`
	Version
	Apps []App `json:"apps"`
}

// App is a named part of the traffic with its rules and the causes that hold it in
// maintenance now.
type App struct {
	Spec
	Activations []Activation `json:"activations,omitempty"`
}

// Spec is what an operator writes about an app.
type Spec struct {
	Name string `json:"name" doc:"A DNS label: a-z, 0-9 and -, at most 63 characters" example:"shop"`
	// Match is empty for the default app and for no other.
	Match  Match  `json:"match,omitzero"`
	Bypass Bypass `json:"bypass,omitzero"`
	// Exempt passes in every mode: health checks, ACME, webhooks, login.
	Exempt   []PathRule    `json:"exempt,omitempty" doc:"What passes in every mode: health checks, ACME, webhooks, sign-in"`
	GraphQL  *GraphQL      `json:"graphql,omitempty" doc:"Absent: POST /graphql is judged as GraphQL. Empty paths: nothing is"`
	ReadOnly ReadOnlyRules `json:"read_only,omitzero"`
	Windows  []Window      `json:"windows,omitempty"`
	// RetryAfter is said when no end is known.
	RetryAfter int `json:"retry_after,omitempty" doc:"Seconds; Retry-After when no end is known. Absent: 3600"`
	// Pages are HTML pages by language tag ("" is the fallback) as SHA-256 in hex.
	Pages map[string]string `json:"pages,omitempty" doc:"Own HTML pages: language tag (empty: any language) to the page's SHA-256 in hex"`
	CORS  CORS              `json:"cors,omitzero"`
}

// Match names an app's traffic: hosts and path prefixes, or Envoy route or cluster
// names. A request matches when its route or cluster is listed, or when a host and
// a path match (none listed: any). The host is the :authority; where a server behind
// prefers X-Forwarded-Host, the edge has to remove what clients send in it.
type Match struct {
	Hosts    []string `json:"hosts,omitempty" doc:"Exact names, or *.name for every name below it" example:"[\"shop.example.com\"]"`
	Paths    []string `json:"paths,omitempty" doc:"Prefixes, matched at a segment boundary"`
	Routes   []string `json:"routes,omitempty" doc:"Envoy route names"`
	Clusters []string `json:"clusters,omitempty" doc:"Envoy cluster names"`
}

// Bypass says who passes.
type Bypass struct {
	IPs        []string    `json:"ips,omitempty" doc:"Addresses and CIDRs"`
	Claims     []ClaimRule `json:"claims,omitempty" doc:"Claims of a JWT that the proxy verified"`
	Principals []string    `json:"principals,omitempty" doc:"Mesh identities of the peer (SPIFFE ids); a trailing * matches any rest"`
}

// ClaimRule lets the holder of a verified JWT pass. Issuer is required: all issuers
// of a proxy share one metadata key, so a rule without it would trust them all.
type ClaimRule struct {
	Issuer   string   `json:"issuer" doc:"The token's iss, exactly"`
	Audience string   `json:"audience,omitempty" doc:"One of the token's aud"`
	Claim    []string `json:"claim,omitempty" doc:"Path to the claim. Absent: any verified token of the issuer passes"`
	Values   []any    `json:"values,omitempty" doc:"Strings, numbers or booleans, any of which must be the claim or an element of it. Absent: the claim's presence is enough"`
}

// PathRule matches an exact path or a prefix (at a segment boundary), for some
// methods or for all. GET includes HEAD (RFC 9110 section 9.3.2), and a rule that lets
// requests pass includes OPTIONS, by which browsers ask before they send.
//
// Such a rule says nothing of upgrades, of method overrides to other
// methods than its own, or of bodies of GET, HEAD, OPTIONS and TRACE: requests with
// these do not pass by it unless Allow lists them. To know that a request
// overrides nothing, its body is held and read, up to graphql.max_body, and has to be JSON or a
// URL-encoded form; uploads need a rule that allows overrides or names no methods.
type PathRule struct {
	Methods []string    `json:"methods,omitempty" doc:"Absent: every method"`
	Path    string      `json:"path,omitempty" doc:"Exact path"`
	Prefix  string      `json:"prefix,omitempty" doc:"Path prefix, matched at a segment boundary"`
	Allow   []Allowance `json:"allow,omitempty" doc:"What else passes by an exemption or a write-through rule: upgrades (WebSocket), overrides (bodies pass unread), bodies (of GET)" enum:"upgrades,overrides,bodies"`
}

// An Allowance is what a rule that lets requests pass has to name before it passes.
type Allowance string

const (
	AllowUpgrades  Allowance = "upgrades"
	AllowOverrides Allowance = "overrides"
	AllowBodies    Allowance = "bodies"
)

// GraphQL tells where an app speaks GraphQL and what its clients may send in read-only.
type GraphQL struct {
	Paths     []string `json:"paths" doc:"Path prefixes that speak GraphQL"`
	Batching  *bool    `json:"batching,omitempty" doc:"Judge batches element by element (absent: true), or refuse them (false)"`
	ExtraKeys []string `json:"extra_keys,omitempty" doc:"Further top-level keys of the request that are known to be harmless"`
	Persisted []string `json:"persisted,omitempty" doc:"SHA-256 in hex of documents known to be queries, which may be sent by hash alone"`
	MaxBody   int      `json:"max_body,omitempty" doc:"Bytes; absent: 1 MiB. Envoy's own buffer limit also holds"`
	MaxTokens int      `json:"max_tokens,omitempty" doc:"Absent: 15000"`
	MaxDepth  int      `json:"max_depth,omitempty" doc:"Absent: 200"`
	MaxBatch  int      `json:"max_batch,omitempty" doc:"Absent: 50"`
	Below     Policy   `json:"below,omitempty" doc:"Documents sent to paths below the GraphQL paths, which name stored documents to some servers; absent: refuse" enum:"refuse,allow"`
	Upgrades  Policy   `json:"upgrades,omitempty" doc:"WebSocket upgrades on GraphQL paths; absent: refuse. Operations inside them cannot be seen" enum:"refuse,allow"`
}

// Policy opens or shuts what cannot be judged.
type Policy string

const (
	PolicyRefuse Policy = "refuse"
	PolicyAllow  Policy = "allow"
)

// ReadOnlyRules are an operator's knowledge of which requests write. Without them
// every method that is not safe (RFC 9110 section 9.2.1) is refused.
type ReadOnlyRules struct {
	SafeRPCs     []string   `json:"safe_rpcs,omitempty" doc:"gRPC methods that only read: /package.Service/Method"`
	WriteThrough []PathRule `json:"write_through,omitempty" doc:"Requests that pass although their method writes"`
	GetWrites    []PathRule `json:"get_writes,omitempty" doc:"Paths whose GET writes; refused"`
	Upgrades     Policy     `json:"upgrades,omitempty" doc:"Upgrades (WebSocket) away from GraphQL paths; absent: refuse" enum:"refuse,allow"`
	GetBodies    Policy     `json:"get_bodies,omitempty" doc:"Bodies of GET, HEAD, OPTIONS and TRACE; absent: refuse" enum:"refuse,allow"`
	EventStreams Policy     `json:"event_streams,omitempty" doc:"Server-sent events; absent: allow" enum:"refuse,allow"`
}

// CORS lets the listed origins read the reply from a browser's script.
type CORS struct {
	Origins []string `json:"origins,omitempty" doc:"Exact origins; credentials are allowed to them only" example:"[\"https://app.example.com\"]"`
}

// Activation is one cause that holds an app in a mode. The strictest active one
// decides; among equals the one that began last.
type Activation struct {
	ID      string    `json:"id"`
	Source  Source    `json:"source" enum:"manual,window,file,resource"`
	Mode    Mode      `json:"mode"`
	Message string    `json:"message,omitempty" doc:"What people read"`
	Since   time.Time `json:"since"`
	// Until is zero for an activation that somebody has to end.
	Until time.Time `json:"until,omitzero"`
}

// Window is a planned period of a mode. It opens and closes by itself, on the
// proxy's own clock when the controller is away.
type Window struct {
	ID          string       `json:"id"`
	Mode        Mode         `json:"mode"`
	Message     string       `json:"message,omitempty"`
	Announce    int          `json:"announce,omitempty" doc:"Seconds before the start at which the window becomes public"`
	Occurrences []Occurrence `json:"occurrences"`
}

// Occurrence is [Start, End).
type Occurrence struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}
