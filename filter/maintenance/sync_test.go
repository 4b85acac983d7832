package maintenance_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

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

	// A node id may contain any bytes.
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
