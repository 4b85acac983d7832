// Package maintenance is the core of Drydock: the state that proxies follow, and the decision on a
// request under that state. The filter runs it inside Envoy. The controller runs the same code to
// validate what it publishes and to explain what would happen to a request.
//
// The package does no I/O and has no clock: time is an argument. In its JSON all durations are
// whole seconds, and all times are as in RFC 3339. A document is compiled once per revision, and
// [State.Decide] then only works on memory.
//
// From a document to a state: document.go has the types (bypass.go and claims.go have those of
// bypasses), parse.go reads their JSON by means of decode.go, compile.go makes a [State] of them,
// and check.go says what is wrong with them.
//
// From a request to a reply: request.go has the request, readings.go and pathways.go have the ways
// in which servers may read it, match.go finds its apps, and view.go knows what is on. decide.go
// asks the exemptions (pathrule.go, override.go), the bypasses (bypass.go, networks.go, claims.go)
// and the mode (mode.go, readonly.go). reply.go writes the answer, with page.go for HTML and
// accept.go for what the client accepts. rule.go has the names of what decided.
//
// Beside them: config.go is the configuration of the filter, status.go the public status, and
// sync.go what a proxy and the controller exchange; encode.go writes JSON.
package maintenance

import (
	"cmp"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// Source is the origin of an activation.
type Source string

const (
	SourceManual   Source = "manual"   // the API or the CLI
	SourceWindow   Source = "window"   // a window that has opened
	SourceFile     Source = "file"     // a file; reserved
	SourceResource Source = "resource" // a Kubernetes object; reserved
)

// DefaultApp is the name of the app that gets the requests that no other app matches. It always
// exists: a document that does not list it has one without rules.
const DefaultApp = "default"

// Bounds on a document. The whole document is in the memory of every VM, so that without them a
// mistake could become an outage of the proxy.
const (
	MaxDocumentBytes = 16 << 20 // bytes of JSON
	MaxApps          = 2000
	MaxCIDRs         = 20000   // per app
	MaxOccurrences   = 64      // per window
	MaxPlaces        = 100_000 // pairs of host and path that the apps match by, in all
	MaxMessageBytes  = 4096    // of a message and of any other string
	// MaxPageBytes bounds one page before its placeholders are replaced. For a client that reads
	// nothing the proxy keeps one page for each of its streams.
	MaxPageBytes = 128 << 10
	// MaxBodyBytes bounds graphql.max_body. Envoy's own buffer limit is 1 MiB by default; past it
	// Envoy answers 413 before the filter can decide.
	MaxBodyBytes = 16 << 20

	// DefaultMaxBody is the default of graphql.max_body, in bytes. By default Envoy buffers just as
	// much.
	DefaultMaxBody = graphql.DefaultMaxBody

	maxExtraKeys = 60  // the graphql package ignores further ones
	maxPages     = 200 // languages of an app

	// DefaultRetryAfter is in seconds. SeaTable's maintenance mode has the same default.
	DefaultRetryAfter = 3600
)

// Version orders documents: a proxy never goes back to an older one. A store that is new or was
// restored starts a higher epoch.
type Version struct {
	Epoch    uint64 `json:"epoch" doc:"Rises when the store is new or restored"`
	Revision uint64 `json:"revision" doc:"Rises with every change"`
}

// Compare returns -1 if v is older than o, 0 if they are the same, and +1 if v is newer.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Epoch, o.Epoch), cmp.Compare(v.Revision, o.Revision))
}

// Format is the newest format of a document that this package reads. It must rise when a document
// may contain what older filters cannot read.
const Format = 1

// Document is the state as it is stored and sent to proxies.
type Document struct {
	// Format 0 means 1.
	Format int `json:"format,omitempty" doc:"The format of the document; a proxy refuses a newer one than it reads, by name"`
	Version
	Apps []App `json:"apps"`
}

// App is a named part of the traffic, with its rules and its activations.
type App struct {
	Spec
	Activations []Activation `json:"activations,omitempty"`
}

// Spec is the part of an app that an operator writes.
type Spec struct {
	Name string `json:"name" doc:"A DNS label: a-z, 0-9 and -, at most 63 characters" example:"shop"`
	// Match must be empty for the default app and for no other.
	Match      Match         `json:"match,omitzero"`
	Bypass     Bypass        `json:"bypass,omitzero"`
	Exempt     []PathRule    `json:"exempt,omitempty" doc:"What passes in every mode: health checks, ACME, webhooks, sign-in"`
	GraphQL    *GraphQL      `json:"graphql,omitempty" doc:"Absent: POST /graphql is judged as GraphQL. Empty paths: nothing is"`
	ReadOnly   ReadOnlyRules `json:"read_only,omitzero"`
	Windows    []Window      `json:"windows,omitempty"`
	RetryAfter int           `json:"retry_after,omitempty" doc:"Seconds; Retry-After when no end is known. Absent: 3600"`
	// Pages are SHA-256 sums in hex by language tag. The page of the tag "" is for clients that
	// want none of the others.
	Pages map[string]string `json:"pages,omitempty" doc:"HTML pages of the app: language tag (empty: any language) to the SHA-256 of the page in hex"`
	CORS  CORS              `json:"cors,omitzero"`
}

// Match names the traffic of an app by hosts and path prefixes, or by Envoy's route or cluster
// names. A request matches if its route or cluster is listed, or if a host and a path match; an
// empty list of hosts or of paths matches any. The host is the :authority. If a server behind the
// proxy prefers X-Forwarded-Host, the proxy must remove that header from what clients send.
type Match struct {
	Hosts    []string `json:"hosts,omitempty" doc:"Exact names, or *.name for every name below it" example:"[\"shop.example.com\"]"`
	Paths    []string `json:"paths,omitempty" doc:"Prefixes, matched at a segment boundary"`
	Routes   []string `json:"routes,omitempty" doc:"Envoy route names"`
	Clusters []string `json:"clusters,omitempty" doc:"Envoy cluster names"`
}

// PathRule matches an exact path, or a prefix at a segment boundary, for the listed methods or for
// all. GET includes HEAD (RFC 9110 section 9.3.2). A rule that lets requests pass includes OPTIONS,
// because browsers send a preflight first.
//
// A rule that lets requests pass does not extend to upgrades, to method overrides that name other
// methods than its own, or to bodies of GET, HEAD, OPTIONS and TRACE, unless Allow lists them. To
// find out that a request overrides nothing, its body is awaited and read, up to graphql.max_body
// bytes. The body must then be JSON or a URL-encoded form; uploads need a rule that allows
// overrides or lists no methods.
type PathRule struct {
	Methods []string    `json:"methods,omitempty" doc:"Absent: every method"`
	Path    string      `json:"path,omitempty" doc:"Exact path"`
	Prefix  string      `json:"prefix,omitempty" doc:"Path prefix, matched at a segment boundary"`
	Allow   []Allowance `json:"allow,omitempty" doc:"What an exemption or a write-through rule lets pass besides: upgrades (WebSocket), overrides (bodies pass unread), bodies (of GET)" enum:"upgrades,overrides,bodies"`
}

// Allowance is a property of requests that pass only by a rule that lists it.
type Allowance string

const (
	AllowUpgrades  Allowance = "upgrades"
	AllowOverrides Allowance = "overrides"
	AllowBodies    Allowance = "bodies"
)

// GraphQL lists the GraphQL paths of an app and what its clients may send to them in read-only.
type GraphQL struct {
	Paths     []string `json:"paths" doc:"Path prefixes that serve GraphQL"`
	Batching  *bool    `json:"batching,omitempty" doc:"Judge batches element by element (absent: true), or refuse them (false)"`
	ExtraKeys []string `json:"extra_keys,omitempty" doc:"Further top-level keys of a request that are harmless"`
	Persisted []string `json:"persisted,omitempty" doc:"SHA-256 in hex of documents that only query, which clients may send by hash alone"`
	MaxBody   int      `json:"max_body,omitempty" doc:"Bytes; absent: 1 MiB. Envoy's own buffer limit also applies"`
	MaxTokens int      `json:"max_tokens,omitempty" doc:"Absent: 15000"`
	MaxDepth  int      `json:"max_depth,omitempty" doc:"Absent: 200"`
	MaxBatch  int      `json:"max_batch,omitempty" doc:"Absent: 50"`
	Below     Policy   `json:"below,omitempty" doc:"Requests to paths below the GraphQL paths, which for some servers name stored documents; absent: refuse" enum:"refuse,allow"`
	Upgrades  Policy   `json:"upgrades,omitempty" doc:"WebSocket upgrades on GraphQL paths; absent: refuse. Operations inside them are not visible" enum:"refuse,allow"`
}

// Policy decides requests of a kind that cannot be judged one by one.
type Policy string

const (
	PolicyRefuse Policy = "refuse"
	PolicyAllow  Policy = "allow"
)

// ReadOnlyRules say which requests write, as far as the method does not. Without them every method
// that is not safe (RFC 9110 section 9.2.1) is refused.
type ReadOnlyRules struct {
	SafeRPCs     []string   `json:"safe_rpcs,omitempty" doc:"gRPC methods that only read: /package.Service/Method"`
	WriteThrough []PathRule `json:"write_through,omitempty" doc:"Requests that pass although their method writes"`
	GetWrites    []PathRule `json:"get_writes,omitempty" doc:"Paths whose GET writes, and is therefore refused"`
	Upgrades     Policy     `json:"upgrades,omitempty" doc:"Upgrades (WebSocket) on other than GraphQL paths; absent: refuse" enum:"refuse,allow"`
	GetBodies    Policy     `json:"get_bodies,omitempty" doc:"Bodies of GET, HEAD, OPTIONS and TRACE; absent: refuse" enum:"refuse,allow"`
	EventStreams Policy     `json:"event_streams,omitempty" doc:"Server-sent events; absent: allow" enum:"refuse,allow"`
}

// CORS lists the origins whose scripts may read the reply to a refused request.
type CORS struct {
	Origins []string `json:"origins,omitempty" doc:"Exact origins; credentials are allowed to them only" example:"[\"https://app.example.com\"]"`
}

// Activation puts an app into a mode. The strictest one that is active decides; among equals the
// one that began last.
type Activation struct {
	ID      string    `json:"id"`
	Source  Source    `json:"source" enum:"manual,window,file,resource"`
	Mode    Mode      `json:"mode"`
	Message string    `json:"message,omitempty" doc:"Shown to users"`
	Since   time.Time `json:"since"`
	// Until is zero for an activation that does not end by itself.
	Until time.Time `json:"until,omitzero"`
}

// Window is a planned period of a mode. It opens and closes by itself, and by the proxy's own clock
// if the controller cannot be reached.
type Window struct {
	ID          string       `json:"id"`
	Mode        Mode         `json:"mode"`
	Message     string       `json:"message,omitempty"`
	Announce    int          `json:"announce,omitempty" doc:"Seconds before the start at which the window becomes public"`
	Occurrences []Occurrence `json:"occurrences"`
}

// Occurrence is one time that a window is open: from Start on, and before End.
type Occurrence struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}
