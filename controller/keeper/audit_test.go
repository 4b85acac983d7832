package keeper

import (
	"encoding/json"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestAuditEntry(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		put(t, k, shopSpec())
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, Message: "why"})
		on(t, k, "shop", ManualActivation{Mode: maintenance.NoAccess})

		entries, err := k.Audit(t.Context(), "default", 0, 10)
		if err != nil || len(entries) != 1 {
			t.Fatalf("%d entries about the default app, %v; want 1", len(entries), err)
		}
		got, _ := json.Marshal(entries[0])
		id := k.Current().Apps()[0].Activations[0].ID
		want := `{"seq":2,"time":"2000-01-01T00:00:00Z","actor":"alice","role":"operator","remote":"192.0.2.7","action":"on",` +
			`"version":{"epoch":946684800000,"revision":2},"app":"default",` +
			`"after":{"activations":[{"id":"` + id + `","message":"why","mode":"no-access","since":"2000-01-01T00:00:00Z","source":"manual"}]}}`
		if string(got) != want {
			t.Fatalf("%s\nwant %s", got, want)
		}

		entries, err = k.Audit(t.Context(), "", 3, 1)
		if err != nil || len(entries) != 1 || entries[0].Seq != 2 {
			t.Fatalf("%+v, %v; want the entry before 3", entries, err)
		}
	})
}
