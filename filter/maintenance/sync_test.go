package maintenance_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests what proxies and the controller exchange, and what the VMs of one proxy share: a
// Head names a version, a shared value is a head with its document, and a Lease names the VM that
// leads.

// The messages must be JSON as encoding/json writes it.
func TestMessagesAreJSON(t *testing.T) {
	version := maintenance.Version{Epoch: 1<<64 - 1, Revision: 7}
	for _, m := range []interface{ AppendJSON([]byte) []byte }{
		maintenance.SyncRequest{},
		maintenance.SyncRequest{Version: version, Proxy: "p", Wait: maintenance.SyncWait},
		maintenance.Ack{},
		maintenance.Ack{Version: version, Proxy: "p", VM: "v", Node: "sidecar~10.0.0.1~\"quoted\"\\~\n", Time: 1763726400123, Requests: 12},
		maintenance.Ack{Node: "Größe \U0001f6a2 \u2028"},
	} {
		got := string(m.AppendJSON([]byte("before ")))
		var want strings.Builder
		encoder := json.NewEncoder(&want)
		encoder.SetEscapeHTML(false)

		if err := encoder.Encode(m); err != nil {
			t.Fatal(err)
		}

		// encoding/json also escapes U+2028, which is not required.
		if w := "before " + strings.ReplaceAll(strings.TrimSuffix(want.String(), "\n"), `\u2028`, "\u2028"); got != w {
			t.Errorf("got  %s\nwant %s", got, w)
		}
	}

	// A node id may contain any bytes. Those that are not UTF-8 become U+FFFD.
	var back maintenance.Ack

	if err := json.Unmarshal(maintenance.Ack{Node: "a\xffb"}.AppendJSON(nil), &back); err != nil || back.Node != "a\ufffdb" {
		t.Errorf("%q, %v", back.Node, err)
	}
}

func TestHeadSurvivesEncoding(t *testing.T) {
	for _, h := range []maintenance.Head{
		{},
		{Version: maintenance.Version{Epoch: 1, Revision: 2}, Contact: 1763726400123},
		{Version: maintenance.Version{Epoch: 1<<64 - 1, Revision: 1 << 63}, Contact: -1},
	} {
		b := h.Append([]byte{})
		if len(b) != maintenance.HeadSize {
			t.Fatalf("%d bytes", len(b))
		}
		if got, ok := maintenance.ParseHead(append(b, `{"epoch":1}`...)); !ok || got != h {
			t.Errorf("%+v became %+v", h, got)
		}
		if _, ok := maintenance.ParseHead(b[:len(b)-1]); ok {
			t.Error("half a head was accepted")
		}
	}

	if _, ok := maintenance.ParseHead(nil); ok {
		t.Error("nothing was accepted as a head")
	}
}

// The version of a document can be read even if the rest of it is invalid, so that the filter
// recognises the document when it comes again. The controller writes the epoch first and the
// revision second, and other fields after them; of anything else the version is not known.
func TestVersionOfInvalidDocumentsIsRead(t *testing.T) {
	for document, want := range map[string]maintenance.Version{
		`{"epoch":3,"revision":7,"apps":[{"name":"?"}]}`: {Epoch: 3, Revision: 7},
		`{"epoch":3,"revision":7,"news":1`:               {Epoch: 3, Revision: 7},
		`{"epoch":3,"revision":7}`:                       {},
		`{"revision":7,"epoch":3,"apps":[]}`:             {},
		`{"epoch":x,"revision":7,"apps":[]}`:             {Revision: 7},
		``:                                               {},
	} {
		if got := maintenance.VersionOf([]byte(document)); got != want {
			t.Errorf("%s: %v, want %v", document, got, want)
		}
	}
}

// A shared value is a head alone, or a head and the document of the same version.
func TestSharedValuesAreReadWithTheirHead(t *testing.T) {
	head := maintenance.Head{Version: maintenance.Version{Epoch: 1, Revision: 2}, Contact: 3}
	alone := head.Append(nil)
	whole := append(head.Append(nil), `{"epoch":1,"revision":2}`...)
	other := append(head.Append(nil), `{"epoch":1,"revision":3}`...)
	damaged := append(head.Append(nil), `{"epoch":1`...)

	if state, err := maintenance.ParseShared(alone); state != nil || err != nil {
		t.Errorf("a head alone: %v, %v", state, err)
	}
	if state, err := maintenance.ParseShared(whole); err != nil || state.Version() != head.Version {
		t.Errorf("a head with its document: %v, %v", state, err)
	}
	for _, value := range [][]byte{nil, alone[:5], other, damaged} {
		if _, err := maintenance.ParseShared(value); err == nil {
			t.Errorf("%q was accepted", value)
		}
	}

	older, newer := maintenance.Version{Epoch: 1, Revision: 1}, maintenance.Version{Epoch: 2}
	for _, value := range [][]byte{alone, whole} {
		if !maintenance.SharedIsNewer(value, older) {
			t.Errorf("%q is not newer than %v", value, older)
		}
		if maintenance.SharedIsNewer(value, head.Version) || maintenance.SharedIsNewer(value, newer) {
			t.Errorf("%q is newer than its own version, or than %v", value, newer)
		}
	}
	if maintenance.SharedIsNewer(damaged, older) {
		t.Error("a value that cannot be read counts as newer, and so cannot be replaced")
	}
}

// Another VM may lead when the lease has run out, or when it runs longer than any lease does.
func TestLeaseAllowsOtherVMsWhenItEnds(t *testing.T) {
	lease := maintenance.Lease{VM: "a", Expires: noon.Add(maintenance.LeaseTime)}
	if got := maintenance.ParseLease(lease.Append(nil)); got.VM != lease.VM || !got.Expires.Equal(lease.Expires) {
		t.Errorf("%v became %v", lease, got)
	}
	for now, want := range map[time.Time]bool{
		noon: false,
		noon.Add(maintenance.LeaseTime - time.Millisecond): false,
		noon.Add(maintenance.LeaseTime):                    true,
		noon.Add(-time.Millisecond):                        true,
	} {
		if got := lease.AllowsOther(now); got != want {
			t.Errorf("at %v: %v, want %v", now, got, want)
		}
	}

	for _, damaged := range []string{"", "1234567", "12345678"} {
		none := maintenance.ParseLease([]byte(damaged))
		if none.VM != "" || !none.AllowsOther(noon) {
			t.Errorf("%q is the lease %v", damaged, none)
		}
	}
}
