package keeper

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestAuditEntry(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, Message: "why"})

		entries, err := k.Audit(t.Context(), anyApp, fromNewest, 10)
		if err != nil || len(entries) != 1 {
			t.Fatalf("%d entries, %v; want 1", len(entries), err)
		}

		got, _ := json.Marshal(entries[0])
		id := k.Current().Apps()[0].Activations[0].ID // random
		// Fake time begins at 2000-01-01, and the epoch is that time in milliseconds.
		want := `{"seq":1,"time":"2000-01-01T00:00:00Z","actor":"alice","role":"operator","remote":"192.0.2.7","action":"on",` +
			`"version":{"epoch":946684800000,"revision":1},"app":"default",` +
			`"after":{"activations":[{"id":"` + id + `","message":"why","mode":"no-access","since":"2000-01-01T00:00:00Z","source":"manual"}]}}`
		if string(got) != want {
			t.Fatalf("%s\nwant %s", got, want)
		}
	})
}

func TestAuditReturnsTheEntriesThatAreAskedFor(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustPut(t, k, shopSpec())                                                 // entry 1
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess}) // entry 2
		mustTurnOn(t, k, "shop", ManualActivation{Mode: maintenance.NoAccess})    // entry 3

		for _, c := range []struct {
			name   string
			app    string
			before uint64
			limit  int
			want   []uint64 // the numbers of the entries
		}{
			{"all, newest first", anyApp, fromNewest, 10, []uint64{3, 2, 1}},
			{"about one app", "default", fromNewest, 10, []uint64{2}},
			{"before entry 3, at most one", anyApp, 3, 1, []uint64{2}},
		} {
			entries, err := k.Audit(t.Context(), c.app, c.before, c.limit)
			if err != nil {
				t.Fatal(err)
			}

			var got []uint64
			for _, e := range entries {
				got = append(got, e.Seq)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: entries %v, want %v", c.name, got, c.want)
			}
		}
	})
}
