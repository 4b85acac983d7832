package maintenance

import (
	"encoding/binary"
	"strconv"

	"github.com/tidwall/gjson"
)

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

// AppendJSON appends the message as JSON. The filter has no need of a marshaller
// that would grow the module.
func (r SyncRequest) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = r.Version.appendFields(b)
	b = append(b, `,"proxy":`...)
	b = gjson.AppendJSONString(b, r.Proxy)
	b = append(b, `,"wait":`...)
	b = strconv.AppendInt(b, int64(r.Wait), 10)
	return append(b, '}')
}

// AppendJSON appends the message as JSON.
func (a Ack) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = a.Version.appendFields(b)
	b = append(b, `,"proxy":`...)
	b = gjson.AppendJSONString(b, a.Proxy)
	b = append(b, `,"vm":`...)
	b = gjson.AppendJSONString(b, a.VM)
	b = append(b, `,"node":`...)
	b = gjson.AppendJSONString(b, a.Node)
	b = append(b, `,"time":`...)
	b = strconv.AppendInt(b, a.Time, 10)
	b = append(b, `,"requests":`...)
	b = strconv.AppendInt(b, int64(a.Requests), 10)
	return append(b, '}')
}

func (v Version) appendFields(b []byte) []byte {
	b = append(b, `"epoch":`...)
	b = strconv.AppendUint(b, v.Epoch, 10)
	b = append(b, `,"revision":`...)
	return strconv.AppendUint(b, v.Revision, 10)
}

// Head is the small record in the proxy's shared data by which every VM notices
// within a tick that there is something new: the version, and when the controller
// last answered, in Unix milliseconds.
type Head struct {
	Version
	Contact int64
}

// HeadSize is the length of an encoded Head, in bytes. The shared document begins
// with one, so that neither can be mistaken for another version's.
const HeadSize = 24

// Append appends the encoded head.
func (h Head) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, h.Epoch)
	b = binary.BigEndian.AppendUint64(b, h.Revision)
	return binary.BigEndian.AppendUint64(b, uint64(h.Contact))
}

// ParseHead decodes a head; false where b is too short to begin with one.
func ParseHead(b []byte) (h Head, ok bool) {
	if len(b) < HeadSize {
		return h, false
	}
	h.Epoch = binary.BigEndian.Uint64(b)
	h.Revision = binary.BigEndian.Uint64(b[8:])
	h.Contact = int64(binary.BigEndian.Uint64(b[16:]))
	return h, true
}
