package maintenance

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// This file has what proxies and the controller exchange, and what the VMs of one proxy share.
//
// Envoy runs one VM of the filter for each of its worker threads. Of all VMs in a process one
// leads. It asks the controller for the document, by a long poll, and writes it into the shared
// data of the process, from which the others take it. Every VM tells the controller which version
// it enforces.

// The paths of the proxy listener of the controller, and the bounds on what is exchanged. Every
// request to the listener, except for the public status, has "Authorization: Bearer <sync token>".
const (
	// SyncPath takes a POST of a [SyncRequest]. It answers 200 with a [Document] as soon as there
	// is a newer one than the request names, or 204 after the wait.
	SyncPath = "/proxy/v1/sync"
	// AckPath takes a POST of an [Ack] and answers 204.
	AckPath = "/proxy/v1/ack"
	// PagePath, followed by the SHA-256 of a page in hex, answers the HTML of the page.
	PagePath = "/proxy/v1/pages/"
	// EdgePrefix begins the public paths, which both the filter and the proxy listener answer.
	EdgePrefix = "/.drydock/"

	// SyncWait bounds how long the listener keeps a long poll unanswered, in seconds.
	SyncWait = 25
	// HeartbeatSeconds is the pause between two acks of a VM that enforces the same version. A VM
	// that was silent for SilentSeconds counts as crashed.
	HeartbeatSeconds = 1
	SilentSeconds    = 3

	// LeaseTime is how long a VM leads the others of its proxy, unless it renews its lease.
	LeaseTime = time.Second
)

// SyncRequest asks for a document that is newer than the version that a proxy has. The zero version
// asks for any document.
type SyncRequest struct {
	Version
	Proxy string `json:"proxy"` // random, one per Envoy process
	Wait  int    `json:"wait"`  // seconds, at most SyncWait
}

// Ack says that a VM enforces a version: it decides every request that it sees from now on by this
// version.
type Ack struct {
	Version
	Proxy string `json:"proxy"`
	VM    string `json:"vm"`             // random, one per VM and plugin
	Node  string `json:"node,omitempty"` // Envoy's node id, for people
	Time  int64  `json:"time"`           // the proxy's clock, Unix milliseconds
	// Requests is the number of requests, of any version, that passed and are not answered yet.
	Requests int `json:"requests"`
}

// AppendJSON appends the message to b as JSON, and returns the extended slice.
func (r SyncRequest) AppendJSON(b []byte) []byte {
	o := jsonObject(append(b, '{'))
	o.version(r.Version)
	o.text("proxy", r.Proxy)
	o.number("wait", int64(r.Wait))
	return append(o, '}')
}

// AppendJSON appends the message to b as JSON, and returns the extended slice.
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

// Head is a small record in the shared data of a proxy. Every VM reads it at each tick, to notice
// that there is a newer version. The shared document, which is large, is only read then. It also
// begins with a head, so that it cannot be mistaken for a document of another version.
type Head struct {
	Version
	Contact int64 // when the controller last answered, in Unix milliseconds
}

// HeadSize is the length of an encoded Head, in bytes: three numbers of 64 bits.
const HeadSize = 3 * 8

// Append appends the encoded head.
func (h Head) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, h.Epoch)
	b = binary.BigEndian.AppendUint64(b, h.Revision)
	return binary.BigEndian.AppendUint64(b, uint64(h.Contact))
}

// ParseHead decodes the head that b begins with. ok is false if b is too short.
func ParseHead(b []byte) (h Head, ok bool) {
	if len(b) < HeadSize {
		return h, false
	}

	h.Epoch = binary.BigEndian.Uint64(b)
	h.Revision = binary.BigEndian.Uint64(b[8:])
	h.Contact = int64(binary.BigEndian.Uint64(b[16:]))
	return h, true
}

// ParseShared decodes the document in the shared data of a proxy, a head with the document after
// it, and returns the compiled state. For a head alone, it returns nil and no error.
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
		err = fmt.Errorf("it has version %d/%d, but its head has %d/%d", state.Version().Epoch, state.Version().Revision, head.Epoch, head.Revision)
	}

	return state, err
}

// SharedIsNewer reports whether a value in the shared data of a proxy has a newer version than v,
// so that a document of version v must not replace it. A value that cannot be decoded may be
// replaced.
func SharedIsNewer(value []byte, v Version) bool {
	head, ok := ParseHead(value)
	if !ok || head.Compare(v) <= 0 {
		return false
	}

	_, err := ParseShared(value)
	return err == nil
}

// VersionOf returns the version of a document that may be invalid in all other respects, so that
// the filter can tell which version it rejected. It relies on the controller, which writes the
// epoch and the revision first. The version is zero if they are not there.
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

// Lease is a record in the shared data of a proxy. It names the VM that leads until the lease
// expires. The leader renews it before that. If the leader is gone, another VM takes it.
type Lease struct {
	VM      string
	Expires time.Time
}

// Append appends the encoded lease.
func (l Lease) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(l.Expires.UnixMilli()))
	return append(b, l.VM...)
}

// ParseLease decodes a lease. If b has none, it returns the zero Lease.
func ParseLease(b []byte) (l Lease) {
	if len(b) > 8 { // the time, and at least one byte of a name
		l.VM, l.Expires = string(b[8:]), time.UnixMilli(int64(binary.BigEndian.Uint64(b)))
	}
	return l
}

// AllowsOther reports whether a VM that the lease does not name may take it, because it has
// expired. A lease that runs for longer than LeaseTime may be taken too: then the clock was set
// back.
func (l Lease) AllowsOther(now time.Time) bool {
	left := l.Expires.Sub(now)
	return left <= 0 || left > LeaseTime
}
