package keeper

// This file has the entries of the audit log. An entry says who changed what and when. The store
// keeps entries as JSON, in the order in which they were written, and numbers them.

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Actor is the author of a change.
type Actor struct {
	Name   string `json:"actor" doc:"Name of the token, or the part of the controller that acted"`
	Role   Role   `json:"role,omitempty"`
	Remote string `json:"remote,omitempty" doc:"The client's address"`
}

// scheduleActor is the actor of the changes that the schedule makes.
var scheduleActor = Actor{Name: "schedule"}

// Entry is an entry of the audit log. It is written in the same transaction as what it describes.
// The store sets Seq, so Seq is 0 in an entry that is not stored yet.
type Entry struct {
	Seq  uint64    `json:"seq" doc:"Increases with every entry"`
	Time time.Time `json:"time"`
	Actor
	Action  string              `json:"action" example:"on"`
	Version maintenance.Version `json:"version,omitzero" doc:"The version of the state that the change made"`
	Change
}

// Audit returns at most limit entries whose Seq is lower than before, newest first. With before 0
// it starts at the newest entry. If app is not empty, only entries about that app are returned.
func (k *Keeper) Audit(ctx context.Context, app string, before uint64, limit int) ([]Entry, error) {
	entries := []Entry{}
	var decodeErr error
	err := k.store.Audit(ctx, before, func(stored store.AuditEntry) bool {
		var e Entry
		if err := json.Unmarshal(stored.Data, &e); err != nil {
			decodeErr = fmt.Errorf("reading entry %d of the audit log: %w", stored.Seq, err)
			return false
		}

		e.Seq = stored.Seq
		if app == "" || e.App == app {
			entries = append(entries, e)
		}
		return len(entries) < limit
	})
	return entries, cmp.Or(decodeErr, err)
}
