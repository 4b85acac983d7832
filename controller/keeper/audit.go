package keeper

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Actor is who changes something, and from where.
type Actor struct {
	Name   string `json:"actor" doc:"Name of the token, or the part of the controller that acted"`
	Role   Role   `json:"role,omitempty"`
	Remote string `json:"remote,omitempty" doc:"The client's address"`
}

// schedule is the actor of what happens by itself.
var schedule = Actor{Name: "schedule"}

// Entry is a line of the audit log.
type Entry struct {
	Seq  uint64    `json:"seq" doc:"Increases with every entry"`
	Time time.Time `json:"time"`
	Actor
	Action  string              `json:"action" example:"on"`
	Version maintenance.Version `json:"version,omitzero" doc:"The version of the state that the change made"`
	Change
}

// Audit returns at most limit entries older than before (0: the newest), newest first.
// With app only those about it.
func (k *Keeper) Audit(ctx context.Context, app string, before uint64, limit int) ([]Entry, error) {
	entries := []Entry{}
	var bad error
	err := k.store.Audit(ctx, before, func(a store.AuditEntry) bool {
		var e Entry
		if bad = json.Unmarshal(a.Data, &e); bad != nil {
			bad = fmt.Errorf("reading entry %d of the audit log: %w", a.Seq, bad)
			return false
		}
		e.Seq = a.Seq
		if app == "" || e.App == app {
			entries = append(entries, e)
		}
		return len(entries) < limit
	})
	return entries, cmp.Or(bad, err)
}
