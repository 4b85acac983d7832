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

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Status is how everything stands.
type Status struct {
	Version maintenance.Version `json:"version"`
	Apps    []keeper.AppStatus  `json:"apps"`
	Proxies keeper.ProxyCount   `json:"proxies" doc:"Those that enforce the newest state among them"`
}

// Proxies are all that are known.
type Proxies struct {
	Version maintenance.Version `json:"version" doc:"The newest state"`
	Proxies []keeper.Proxy      `json:"proxies"`
}

// Request is one to be explained.
type Request struct {
	Method    string              `json:"method,omitempty" default:"GET"`
	Host      string              `json:"host,omitempty" example:"shop.example.com"`
	Path      string              `json:"path,omitempty" default:"/" doc:"With the query" example:"/graphql"`
	Headers   map[string][]string `json:"headers,omitempty"`
	Body      string              `json:"body,omitempty" maxLength:"16777216"`
	IP        string              `json:"ip,omitempty" doc:"The client's address, as the proxy determines it" example:"192.0.2.7"`
	Principal string              `json:"principal,omitempty" doc:"The peer's mesh identity"`
	Claims    map[string]any      `json:"claims,omitempty" doc:"The payload of a JWT that the proxy verified; iss is its issuer"`
	Route     string              `json:"route,omitempty" doc:"Envoy's route name"`
	Cluster   string              `json:"cluster,omitempty" doc:"Envoy's cluster name"`
	At        time.Time           `json:"at,omitzero" doc:"Absent: now"`
}

// Explanation is what would happen to a request, and why.
type Explanation struct {
	Verdict     string           `json:"verdict" enum:"pass,refuse"`
	App         string           `json:"app"`
	Mode        maintenance.Mode `json:"mode" enum:"off,read-only,no-access"`
	Rule        maintenance.Rule `json:"rule" doc:"Stable name of what decided"`
	Explanation string           `json:"explanation"`
	Bypass      string           `json:"bypass,omitempty" doc:"By what it passes: ip, principal or claim"`
	Activation  string           `json:"activation,omitempty" doc:"What holds the app in its mode"`
	Reply       *Reply           `json:"reply,omitempty" doc:"What the client would get"`
}

// Reply is the answer to a refused request.
type Reply struct {
	Status     int               `json:"status"`
	GRPCStatus *int              `json:"grpc_status,omitempty"`
	Headers    map[string]string `json:"headers"`
	Body       string            `json:"body,omitempty"`
}

func (a *api) status(name string) (keeper.AppStatus, *maintenance.App, error) {
	app, err := a.Keeper.Current().App(name)
	if err != nil {
		return keeper.AppStatus{}, nil, err
	}
	st, err := a.Keeper.Status(name)
	return st, app, err
}

func (a *api) statusResource(name string) (*resource[keeper.AppStatus], error) {
	st, app, err := a.status(name)
	if err != nil {
		return nil, err
	}
	return &resource[keeper.AppStatus]{keeper.ActivationsETag(app), st}, nil
}

func (a *api) registerStatus() {
	tags := []string{"maintenance"}
	register(a, viewer, huma.Operation{
		OperationID: "status", Method: http.MethodGet, Path: "/api/v1/status", Tags: tags,
		Summary: "What is on and why, and which proxies enforce it",
	}, func(ctx context.Context, in *struct{}) (*struct{ Body Status }, error) {
		count := a.Keeper.ProxyCount()
		return &struct{ Body Status }{Status{a.Keeper.Current().Version(), a.Keeper.Statuses(), count}}, nil
	})

	register(a, viewer, huma.Operation{
		OperationID: "app-status", Method: http.MethodGet, Path: "/api/v1/apps/{app}/status", Tags: tags,
		Summary: "How an app stands, at once or when it stands as asked for",
		Description: "With wait the answer comes when every proxy enforces the newest state of the app (enforced), or when the app is active, or off everywhere (active). " +
			"It comes earlier when the app's mode changes meanwhile, and at the latest after the timeout: look at mode, enforced and phase.",
		Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		InApp
		Wait    string `query:"wait" enum:"enforced,active"`
		Timeout int    `query:"timeout" minimum:"0" maximum:"300" default:"30" doc:"Seconds"`
	}) (*resource[keeper.AppStatus], error) {
		if in.Wait != "" {
			ctx, cancel := context.WithTimeout(ctx, time.Duration(in.Timeout)*time.Second)
			defer cancel()
			defer context.AfterFunc(a.Stopping, cancel)()
			first, _, err := a.status(in.App)
			if err != nil {
				return nil, err
			}
			_, err = a.Keeper.Await(ctx, in.App, func(st keeper.AppStatus) bool {
				switch {
				case st.Mode != first.Mode:
					return true
				case in.Wait == "active":
					return st.Phase == keeper.PhaseActive || st.Mode == maintenance.Off && st.Enforced
				}
				return st.Enforced
			})
			if err != nil {
				return nil, err
			}
		}
		return a.statusResource(in.App)
	})

	register(a, viewer, huma.Operation{
		OperationID: "explain", Method: http.MethodPost, Path: "/api/v1/explain", Tags: tags, DefaultStatus: http.StatusOK,
		Summary:      "What would happen to a request, by the code that runs in the proxies",
		MaxBodyBytes: 2 * maintenance.MaxBodyBytes, BodyReadTimeout: bodyTime,
	}, func(ctx context.Context, in *struct{ Body Request }) (*struct{ Body Explanation }, error) {
		out, err := a.explain(ctx, &in.Body)
		if err != nil {
			return nil, err
		}
		return &struct{ Body Explanation }{*out}, nil
	})

	register(a, viewer, huma.Operation{
		OperationID: "list-proxies", Method: http.MethodGet, Path: "/api/v1/proxies", Tags: []string{"proxies"},
		Summary: "Which proxies there are, and what they enforce",
	}, func(ctx context.Context, in *struct{}) (*struct{ Body Proxies }, error) {
		return &struct{ Body Proxies }{Proxies{a.Keeper.Current().Version(), a.Keeper.Proxies()}}, nil
	})

	register(a, operator, huma.Operation{
		OperationID: "forget-proxy", Method: http.MethodDelete, Path: "/api/v1/proxies/{proxy}", Tags: []string{"proxies"},
		Summary:     "Wait no longer for a proxy that is gone",
		Description: "One that is alive comes back with its next word.",
		Errors:      []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		Proxy string `path:"proxy" maxLength:"128"`
	}) (*struct{}, error) {
		return nil, a.Keeper.Forget(ctx, actor(ctx), in.Proxy)
	})
}

// explain asks the core.
func (a *api) explain(ctx context.Context, in *Request) (*Explanation, error) {
	now := in.At
	if now.IsZero() {
		now = a.Now()
	}
	claims, err := verified(in.Claims)
	if err != nil {
		return nil, err
	}
	req := &maintenance.Request{
		Method: in.Method, Authority: in.Host, Path: in.Path,
		EndStream: in.Body == "", Body: []byte(in.Body), BodyRead: true,
		Attributes: supposed{in, claims},
	}
	for name, values := range in.Headers {
		for _, v := range values {
			req.Headers = append(req.Headers, [2]string{strings.ToLower(name), v})
		}
	}
	slices.SortStableFunc(req.Headers, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	state := a.Keeper.Current().State
	d := state.Decide(req, now)
	out := &Explanation{Verdict: d.Verdict.String(), App: d.App, Mode: d.Mode, Rule: d.Rule, Explanation: d.Rule.Explain(), Bypass: d.Rule.Bypass()}
	if d.Held != nil {
		out.Activation = string(d.Held.Source) + " " + d.Held.ID
	}
	if d.Verdict != maintenance.Refuse {
		return out, nil
	}
	reply := d.Reply(req, func(sha string) []byte {
		html, err := a.Keeper.Page(ctx, sha)
		if err != nil {
			return nil // the built-in page is shown, as a proxy without it would do
		}
		return html
	}, now)
	out.Reply = &Reply{Status: reply.Status, Headers: make(map[string]string, len(reply.Headers)), Body: string(reply.Body)}
	for _, h := range reply.Headers {
		out.Reply.Headers[h[0]] = h[1]
	}
	if reply.GRPCStatus >= 0 {
		out.Reply.Status, out.Reply.GRPCStatus = http.StatusOK, &reply.GRPCStatus
	}
	return out, nil
}

// verified are the claims that a proxy would have read from a token with this payload.
func verified(payload map[string]any) (maintenance.Claims, error) {
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

// supposed are the attributes that a request to be explained says it has.
type supposed struct {
	*Request
	claims maintenance.Claims
}

func (s supposed) SourceAddress() string { return s.IP }
func (s supposed) Principal() string     { return s.Request.Principal }
func (s supposed) Route() string         { return s.Request.Route }
func (s supposed) Cluster() string       { return s.Request.Cluster }

func (s supposed) Claims() maintenance.Claims { return s.claims }
