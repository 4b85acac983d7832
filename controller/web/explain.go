package web

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// In a proxy, the filter decides on every request, with the code of the core, package maintenance.
// The operation in this file lets the same code decide on a request that a client describes, by the
// controller's newest state, and returns the decision with its reasons.

// Request describes the request to decide on.
type Request struct {
	Method    string              `json:"method,omitempty" default:"GET"`
	Host      string              `json:"host,omitempty" example:"shop.example.com"`
	Path      string              `json:"path,omitempty" default:"/" doc:"Including the query" example:"/graphql"`
	Headers   map[string][]string `json:"headers,omitempty"`
	Body      string              `json:"body,omitempty" maxLength:"16777216"`
	IP        string              `json:"ip,omitempty" doc:"The client's address, as the proxy determines it" example:"192.0.2.7"`
	Principal string              `json:"principal,omitempty" doc:"The peer's mesh identity"`
	Claims    map[string]any      `json:"claims,omitempty" doc:"The payload of a JWT that the proxy verified; iss names its issuer"`
	Route     string              `json:"route,omitempty" doc:"Envoy's route name"`
	Cluster   string              `json:"cluster,omitempty" doc:"Envoy's cluster name"`
	At        time.Time           `json:"at,omitzero" doc:"When the request is made; absent: now"`
}

// Explanation is the decision about a [Request], with its reasons.
type Explanation struct {
	Verdict     string           `json:"verdict" enum:"pass,refuse"`
	App         string           `json:"app"`
	Mode        maintenance.Mode `json:"mode"`
	Rule        maintenance.Rule `json:"rule" doc:"Stable name of the rule that decided"`
	Explanation string           `json:"explanation"`
	Bypass      string           `json:"bypass,omitempty" doc:"The kind of bypass that lets the request pass, as in the rule's name"`
	Activation  string           `json:"activation,omitempty" doc:"Source and id of the activation that puts the app into its mode"`
	Reply       *Reply           `json:"reply,omitempty" doc:"What the client would receive"`
}

// Reply is the answer to a refused request.
type Reply struct {
	Status     int               `json:"status"`
	GRPCStatus *int              `json:"grpc_status,omitempty"`
	Headers    map[string]string `json:"headers"`
	Body       string            `json:"body,omitempty"`
}

type explainInput struct{ Body Request }

func (a *api) registerExplain() {
	register(a, viewer, huma.Operation{
		OperationID: "explain", Method: http.MethodPost, Path: "/api/v1/explain", Tags: []string{"maintenance"}, DefaultStatus: http.StatusOK,
		Summary:     "Explain what would happen to a request",
		Description: "The code that decides is the same as in the proxies.",
		// The body of the described request may become longer in JSON.
		MaxBodyBytes: 2 * maintenance.MaxBodyBytes, BodyReadTimeout: bodyTimeout,
	}, a.explain)
}

func (a *api) explain(ctx context.Context, in *explainInput) (*response[Explanation], error) {
	now := in.Body.At
	if now.IsZero() {
		now = a.Now()
	}

	req, err := in.Body.asFilterRequest()
	if err != nil {
		return nil, err
	}

	d := a.Keeper.Current().State.Decide(req, now)
	out := Explanation{
		Verdict: d.Verdict.String(), App: d.App, Mode: d.Mode,
		Rule: d.Rule, Explanation: d.Rule.Explain(), Bypass: d.Rule.Bypass(),
	}
	if d.Activation != nil {
		out.Activation = string(d.Activation.Source) + " " + d.Activation.ID
	}

	if d.Verdict == maintenance.Refuse {
		storedPage := func(sha256 string) []byte {
			html, err := a.Keeper.Page(ctx, sha256)
			if err != nil {
				return nil // the reply has the built-in page, as in a proxy that has not fetched the page
			}
			return html
		}
		out.Reply = newReply(d.Reply(req, storedPage, now))
	}
	return &response[Explanation]{out}, nil
}

// asFilterRequest returns the request as the filter would see it: header names are in lower case,
// and the whole body is there already, so that the decision never has to wait for it.
func (r *Request) asFilterRequest() (*maintenance.Request, error) {
	claims, err := verifiedClaims(r.Claims)
	if err != nil {
		return nil, err
	}

	req := &maintenance.Request{
		Method: r.Method, Authority: r.Host, Path: r.Path,
		EndStream: r.Body == "", Body: []byte(r.Body), BodyRead: true,
		Attributes: givenAttributes{Request: r, claims: claims},
	}

	for name, values := range r.Headers {
		for _, v := range values {
			req.Headers = append(req.Headers, [2]string{strings.ToLower(name), v})
		}
	}
	// The order of a map is random. Sort the headers, so that the same request always gets the same
	// answer; the order of the values of one header stays.
	slices.SortStableFunc(req.Headers, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return req, nil
}

// verifiedClaims returns the claims of a JWT with this payload in the form in which Envoy's JWT
// filter passes them on after it has verified the token: as an encoded google.protobuf.Struct.
func verifiedClaims(payload map[string]any) (maintenance.Claims, error) {
	if payload == nil {
		return "", nil
	}

	object, err := structpb.NewValue(payload)
	if err != nil {
		return "", claimsError(err)
	}
	claims, err := proto.Marshal(object)
	if err != nil {
		return "", claimsError(err)
	}
	return maintenance.Claims(claims), nil
}

func claimsError(err error) error {
	return &maintenance.FieldError{Field: "claims", Problem: err.Error()}
}

// givenAttributes implements [maintenance.Attributes], which the core asks for what is not in the
// headers of a request. In a proxy the answers come from the connection and the verified token;
// here they are the fields of a [Request].
type givenAttributes struct {
	maintenance.NoAttributes
	*Request
	claims maintenance.Claims
}

func (g givenAttributes) SourceAddress() string      { return g.IP }
func (g givenAttributes) Principal() string          { return g.Request.Principal }
func (g givenAttributes) Route() string              { return g.Request.Route }
func (g givenAttributes) Cluster() string            { return g.Request.Cluster }
func (g givenAttributes) Claims() maintenance.Claims { return g.claims }

// newReply returns a reply of the core for the API. A repeated header is reported once; the core
// sets none twice.
func newReply(reply maintenance.Reply) *Reply {
	headers := make(map[string]string, len(reply.Headers))
	for _, h := range reply.Headers {
		name, value := h[0], h[1]
		headers[name] = value
	}

	// A gRPC client gets the gRPC status in a response whose HTTP status is 200. The core gives -1
	// as the gRPC status of all other replies.
	out := &Reply{Status: reply.Status, Headers: headers, Body: string(reply.Body)}
	if reply.GRPCStatus >= 0 {
		out.Status, out.GRPCStatus = http.StatusOK, &reply.GRPCStatus
	}
	return out
}
