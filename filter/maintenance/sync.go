package maintenance

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"
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

	// LeaseTime is how long a VM leads the others of its proxy unless it renews its lease.
	LeaseTime = time.Second
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

// AppendJSON appends the message as JSON.
func (r SyncRequest) AppendJSON(b []byte) []byte {
	o := jsonObject(append(b, '{'))
	o.version(r.Version)
	o.text("proxy", r.Proxy)
	o.number("wait", int64(r.Wait))
	return append(o, '}')
}

// AppendJSON appends the message as JSON.
func (a Ack) AppendJSON(b []byte) []byte {
	o := jsonObject(append(b, '{'))
	o.version(a.Version)
	o.text("proxy", a.Proxy)
	o.text("vm", a.VM)
	if a.Node != "" {
		o.text("node", a.Node)
	}
	o.number("time", a.Time)
	o.number("requests", int64(a.Requests))
	return append(o, '}')
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

// ParseShared decodes a value of the proxy's shared data: a head, and the state that
// follows it, which is nil where the head stands alone.
func ParseShared(value []byte) (*State, error) {
	head, ok := ParseHead(value)
	if !ok {
		return nil, errors.New("it is cut off")
	}
	if len(value) == HeadSize {
		return nil, nil
	}

	state, err := Parse(value[HeadSize:])
	if err == nil && state.Version() != head.Version {
		err = fmt.Errorf("it is of version %d/%d, its head of %d/%d", state.Version().Epoch, state.Version().Revision, head.Epoch, head.Revision)
	}
	return state, err
}

// SharedIsNewer reports whether a value of the proxy's shared data is of a newer version
// than v. A value that cannot be decoded is not, so that it can be replaced.
func SharedIsNewer(value []byte, v Version) bool {
	head, ok := ParseHead(value)
	if !ok || head.Compare(v) <= 0 {
		return false
	}

	_, err := ParseShared(value)
	return err == nil
}

// VersionOf returns the version of a document that may be unusable otherwise. The
// controller writes it first. The version is zero where it cannot be read.
func VersionOf(document []byte) (v Version) {
	rest, hasEpoch := bytes.CutPrefix(document, []byte(`{"epoch":`))
	epoch, rest, hasRevision := bytes.Cut(rest, []byte(`,"revision":`))
	revision, _, ends := bytes.Cut(rest, []byte(","))
	if hasEpoch && hasRevision && ends {
		v.Epoch, _ = strconv.ParseUint(string(epoch), 10, 64)
		v.Revision, _ = strconv.ParseUint(string(revision), 10, 64)
	}
	return v
}

// Lease is the record in the proxy's shared data that names the VM which leads: the one
// that follows the controller for the others.
type Lease struct {
	VM      string
	Expires time.Time
}

// Append appends the encoded lease.
func (l Lease) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(l.Expires.UnixMilli()))
	return append(b, l.VM...)
}

// ParseLease decodes a lease. It returns the zero lease where b names no VM.
func ParseLease(b []byte) (l Lease) {
	if len(b) > 8 {
		l.VM, l.Expires = string(b[8:]), time.UnixMilli(int64(binary.BigEndian.Uint64(b)))
	}
	return l
}

// AllowsOther reports whether a VM other than the one that the lease names may take it. It
// may if the lease runs longer than LeaseTime, because then the clock was set back.
func (l Lease) AllowsOther(now time.Time) bool {
	left := l.Expires.Sub(now)
	return left <= 0 || left > LeaseTime
}
