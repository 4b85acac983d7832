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

// Request is a request whose decision is to be explained.
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
		Summary:      "Explain what would happen to a request",
		Description:  "The code that decides is the same as in the proxies.",
		MaxBodyBytes: 2 * maintenance.MaxBodyBytes, BodyReadTimeout: bodyTime,
	}, a.explain)
}

func (a *api) explain(ctx context.Context, in *explainInput) (*response[Explanation], error) {
	now := in.Body.At
	if now.IsZero() {
		now = a.Now()
	}

	req, err := in.Body.forFilter()
	if err != nil {
		return nil, err
	}

	d := a.Keeper.Current().State.Decide(req, now)
	out := Explanation{Verdict: d.Verdict.String(), App: d.App, Mode: d.Mode, Rule: d.Rule, Explanation: d.Rule.Explain(), Bypass: d.Rule.Bypass()}
	if d.Activation != nil {
		out.Activation = string(d.Activation.Source) + " " + d.Activation.ID
	}

	if d.Verdict == maintenance.Refuse {
		out.Reply = newReply(d.Reply(req, func(sha string) []byte {
			html, err := a.Keeper.Page(ctx, sha)
			if err != nil {
				return nil // the built-in page is shown, as in a proxy that has not fetched the page
			}
			return html
		}, now))
	}
	return &response[Explanation]{out}, nil
}

// forFilter returns the request as the filter would see it.
func (r *Request) forFilter() (*maintenance.Request, error) {
	claims, err := verifiedClaims(r.Claims)
	if err != nil {
		return nil, err
	}

	req := &maintenance.Request{
		Method: r.Method, Authority: r.Host, Path: r.Path,
		EndStream: r.Body == "", Body: []byte(r.Body), BodyRead: true,
		Attributes: givenAttributes{r, claims},
	}

	for name, values := range r.Headers {
		for _, v := range values {
			req.Headers = append(req.Headers, [2]string{strings.ToLower(name), v})
		}
	}
	slices.SortStableFunc(req.Headers, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return req, nil
}

// verifiedClaims returns the claims that a proxy would read from a verified token with a payload.
func verifiedClaims(payload map[string]any) (maintenance.Claims, error) {
	if payload == nil {
		return "", nil
	}

	object, err := structpb.NewValue(payload)
	if err == nil {
		var claims []byte
		if claims, err = proto.Marshal(object); err == nil {
			return maintenance.Claims(claims), nil
		}
	}
	return "", &maintenance.FieldError{Field: "claims", Problem: err.Error()}
}

// givenAttributes answers the filter's questions about a request from the fields of a [Request],
// where a proxy would answer them from the connection and the verified token.
type givenAttributes struct {
	*Request
	claims maintenance.Claims
}

func (g givenAttributes) SourceAddress() string      { return g.IP }
func (g givenAttributes) Principal() string          { return g.Request.Principal }
func (g givenAttributes) Route() string              { return g.Request.Route }
func (g givenAttributes) Cluster() string            { return g.Request.Cluster }
func (g givenAttributes) Claims() maintenance.Claims { return g.claims }

func newReply(reply maintenance.Reply) *Reply {
	out := &Reply{Status: reply.Status, Headers: make(map[string]string, len(reply.Headers)), Body: string(reply.Body)}
	for _, h := range reply.Headers {
		out.Headers[h[0]] = h[1]
	}

	if reply.GRPCStatus >= 0 {
		out.Status, out.GRPCStatus = http.StatusOK, &reply.GRPCStatus
	}
	return out
}
