package web

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
)

// Audit is a page of the audit log, which has an entry for each change that anybody made.
type Audit struct {
	Entries []keeper.Entry `json:"entries" doc:"Newest first"`
	Next    uint64         `json:"next,omitempty" doc:"Value of before for the next page of older entries; absent on the last page"`
}

type auditInput struct {
	App    string `query:"app" doc:"Only changes of this app"`
	Before uint64 `query:"before" doc:"Only entries with a lower seq"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50"`
}

func (a *api) registerAudit() {
	register(a, viewer, huma.Operation{
		OperationID: "audit", Method: http.MethodGet, Path: "/api/v1/audit", Tags: []string{"audit"},
		Summary: "List who changed what, when and from where",
	}, a.listAudit)
}

func (a *api) listAudit(ctx context.Context, in *auditInput) (*response[Audit], error) {
	entries, err := a.Keeper.Audit(ctx, in.App, in.Before, in.Limit)
	if err != nil {
		return nil, err
	}

	// A page that is not full is the last one, and so is one that ends with the first entry of the
	// log, whose Seq is 1.
	out := Audit{Entries: entries}
	if len(entries) == in.Limit && entries[in.Limit-1].Seq > 1 {
		out.Next = entries[in.Limit-1].Seq
	}
	return &response[Audit]{out}, nil
}
