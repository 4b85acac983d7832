package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Audit is a part of the audit log.
type Audit struct {
	Entries []keeper.Entry `json:"entries" doc:"Newest first"`
	Next    uint64         `json:"next,omitempty" doc:"The before of the next, older part; absent at the end"`
}

// Tokens are all API tokens.
type Tokens struct {
	Tokens []keeper.Token `json:"tokens"`
}

// NewToken is the only time that a token is shown.
type NewToken struct {
	keeper.Token
	Secret string `json:"token" doc:"The token itself. It is shown this once, and stored only as a hash"`
}

// Page names a stored page.
type Page struct {
	SHA256 string `json:"sha256"`
	Bytes  int    `json:"bytes"`
}

func (a *api) registerAdmin() {
	register(a, viewer, huma.Operation{
		OperationID: "audit", Method: http.MethodGet, Path: "/api/v1/audit", Tags: []string{"audit"},
		Summary: "Who changed what, when and from where",
	}, func(ctx context.Context, in *struct {
		App    string `query:"app" doc:"Only changes of this app"`
		Before uint64 `query:"before" doc:"Only entries with a lower seq"`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50"`
	}) (*struct{ Body Audit }, error) {
		entries, err := a.Keeper.Audit(ctx, in.App, in.Before, in.Limit)
		if err != nil {
			return nil, err
		}
		out := Audit{Entries: entries}
		if len(entries) == in.Limit && entries[in.Limit-1].Seq > 1 {
			out.Next = entries[in.Limit-1].Seq
		}
		return &struct{ Body Audit }{out}, nil
	})

	const pages = "/api/v1/pages/{sha256}"
	type InPage struct {
		SHA256 string `path:"sha256" pattern:"^[0-9a-f]{64}$" doc:"Of the page's bytes, in lower-case hex"`
	}
	register(a, viewer, huma.Operation{
		OperationID: "get-page", Method: http.MethodGet, Path: pages, Tags: []string{"pages"},
		Summary: "A stored page", Errors: []int{http.StatusNotFound},
		Responses: map[string]*huma.Response{"200": {Description: "The page", Content: map[string]*huma.MediaType{"text/html": {Schema: &huma.Schema{Type: "string"}}}}},
	}, func(ctx context.Context, in *InPage) (*struct {
		ContentType string `header:"Content-Type"`
		// Somebody's page must not run on the API's origin.
		Policy string `header:"Content-Security-Policy"`
		Body   []byte
	}, error) {
		html, err := a.Keeper.Page(ctx, in.SHA256)
		if err != nil {
			return nil, err
		}
		return &struct {
			ContentType string `header:"Content-Type"`
			Policy      string `header:"Content-Security-Policy"`
			Body        []byte
		}{"text/html; charset=utf-8", "sandbox", html}, nil
	})
	register(a, operator, huma.Operation{
		OperationID: "put-page", Method: http.MethodPut, Path: pages, Tags: []string{"pages"},
		Summary:      "Store an HTML page, for an app to name it",
		Description:  "At most 128 KiB of UTF-8. The same page again changes nothing, so no If-Match is asked for.",
		MaxBodyBytes: maintenance.MaxPageBytes + 1, BodyReadTimeout: bodyTime,
		Errors: []int{http.StatusBadRequest, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct {
		InPage
		RawBody []byte `contentType:"text/html"`
	}) (*struct{ Body Page }, error) {
		if sum := sha256.Sum256(in.RawBody); hex.EncodeToString(sum[:]) != in.SHA256 {
			return nil, &maintenance.FieldError{Field: "path.sha256", Problem: fmt.Sprintf("the page's SHA-256 is %x", sum)}
		}
		sha, err := a.Keeper.PutPage(ctx, actor(ctx), in.RawBody)
		if err != nil {
			return nil, err
		}
		return &struct{ Body Page }{Page{sha, len(in.RawBody)}}, nil
	})

	tags := []string{"tokens"}
	register(a, operator, huma.Operation{
		OperationID: "list-tokens", Method: http.MethodGet, Path: "/api/v1/tokens", Tags: tags,
		Summary: "Which API tokens there are",
	}, func(ctx context.Context, in *struct{}) (*struct{ Body Tokens }, error) {
		return &struct{ Body Tokens }{Tokens{a.Keeper.Tokens()}}, nil
	})
	register(a, operator, huma.Operation{
		OperationID: "create-token", Method: http.MethodPost, Path: "/api/v1/tokens", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "Make an API token; it is shown this once",
		Errors:  []int{http.StatusBadRequest, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct {
		Body struct {
			Name string      `json:"name" doc:"Who or what uses it; the actor in the audit log" minLength:"1" maxLength:"100" example:"deploy-pipeline"`
			Role keeper.Role `json:"role" enum:"viewer,operator"`
		}
	}) (*struct{ Body NewToken }, error) {
		secret := keeper.NewSecret()
		token, err := a.Keeper.CreateToken(ctx, actor(ctx), in.Body.Name, in.Body.Role, secret)
		if err != nil {
			return nil, err
		}
		return &struct{ Body NewToken }{NewToken{token, secret}}, nil
	})
	register(a, operator, huma.Operation{
		OperationID: "revoke-token", Method: http.MethodDelete, Path: "/api/v1/tokens/{token}", Tags: tags,
		Summary: "End an API token at once", Description: "The last operator token stays: 409.",
		Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct {
		Token string `path:"token" maxLength:"64" doc:"Its id, not the token itself"`
	}) (*struct{}, error) {
		return nil, a.Keeper.RevokeToken(ctx, actor(ctx), in.Token)
	})
}
