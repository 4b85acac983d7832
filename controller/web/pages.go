package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A page is an HTML page that browsers get from an app in maintenance. Its name is the SHA-256 of
// its bytes, so a stored page never changes. The definition of an app refers to pages by these
// names.

// Page identifies a stored page.
type Page struct {
	SHA256 string `json:"sha256"`
	Bytes  int    `json:"bytes"`
}

// InPage is embedded in the input of every operation on one page.
type InPage struct {
	SHA256 string `path:"sha256" pattern:"^[0-9a-f]{64}$" doc:"SHA-256 of the page's bytes, in lower-case hex"`
}

type getPageOutput struct {
	ContentType string `header:"Content-Type"`
	Policy      string `header:"Content-Security-Policy"`
	Body        []byte
}

type putPageInput struct {
	InPage
	RawBody []byte `contentType:"text/html"`
}

func (a *api) registerPages() {
	const path = "/api/v1/pages/{sha256}"
	tags := []string{"pages"}

	register(a, viewer, huma.Operation{
		OperationID: "get-page", Method: http.MethodGet, Path: path, Tags: tags,
		Summary: "Get a stored page", Errors: []int{http.StatusNotFound},
		Responses: map[string]*huma.Response{"200": {Description: "The page", Content: map[string]*huma.MediaType{"text/html": {Schema: &huma.Schema{Type: "string"}}}}},
	}, a.getPage)

	register(a, operator, huma.Operation{
		OperationID: "put-page", Method: http.MethodPut, Path: path, Tags: tags,
		Summary:     "Store an HTML page, which definitions of apps can then refer to",
		Description: "At most 128 KiB of UTF-8. Storing a page again changes nothing, so If-Match is not required.",
		// For a page that is too large by a byte, the keeper's error names the limit.
		MaxBodyBytes: maintenance.MaxPageBytes + 1, BodyReadTimeout: bodyTimeout,
		Errors: []int{http.StatusBadRequest, http.StatusServiceUnavailable},
	}, a.putPage)
}

func (a *api) getPage(ctx context.Context, in *InPage) (*getPageOutput, error) {
	html, err := a.Keeper.Page(ctx, in.SHA256)
	if err != nil {
		return nil, err
	}
	// The policy "sandbox" keeps scripts in the page from running with the API's origin.
	return &getPageOutput{ContentType: "text/html; charset=utf-8", Policy: "sandbox", Body: html}, nil
}

func (a *api) putPage(ctx context.Context, in *putPageInput) (*response[Page], error) {
	if sum := sha256.Sum256(in.RawBody); hex.EncodeToString(sum[:]) != in.SHA256 {
		return nil, &maintenance.FieldError{Field: "path.sha256", Problem: fmt.Sprintf("must be the page's SHA-256, %x", sum)}
	}

	sha, err := a.Keeper.PutPage(ctx, actorOf(ctx), in.RawBody)
	if err != nil {
		return nil, err
	}
	return &response[Page]{Page{sha, len(in.RawBody)}}, nil
}
