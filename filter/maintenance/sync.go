package maintenance

// The paths and messages between a proxy and the controller's proxy listener. Every
// request carries "Authorization: Bearer <sync token>".
const (
	// SyncPath answers a POST of [SyncRequest] with 200 and a [Document] as soon as
	// there is a newer one than the request names, or with 204 after the wait.
	SyncPath = "/proxy/v1/sync"
	// AckPath takes a POST of [Ack] and answers 204.
	AckPath = "/proxy/v1/ack"
	// PagePath, followed by a page's SHA-256 in hex, answers the page's HTML.
	PagePath = "/proxy/v1/pages/"
	// EdgePrefix is the public prefix that filter and proxy listener both answer.
	EdgePrefix = "/.drydock/"

	// SyncWait bounds a long poll, in seconds.
	SyncWait = 25
	// HeartbeatSeconds is the pause between two acks of a VM that has nothing new to
	// say. A VM silent for SilentSeconds is taken for crashed.
	HeartbeatSeconds = 1
	SilentSeconds    = 3
)

// SyncRequest names the state that a proxy has. A zero version asks for any state.
type SyncRequest struct {
	Version
	Proxy string `json:"proxy"` // random, one per Envoy process
	Wait  int    `json:"wait"`  // seconds, at most SyncWait
}

// Ack is one VM's word that it enforces a version: every request that it sees from
// now on is decided by it.
type Ack struct {
	Version
	Proxy string `json:"proxy"`
	VM    string `json:"vm"`             // random, one per VM and plugin
	Node  string `json:"node,omitempty"` // Envoy's node id, for people
	Time  int64  `json:"time"`           // the proxy's clock, Unix milliseconds
	// Requests were let through and are not answered yet, of any revision.
	Requests int `json:"requests"`
}
