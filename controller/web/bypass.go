package web

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
)

// IPs is an app's allowlist: the addresses and CIDRs that bypass maintenance.
type IPs struct {
	IPs []string `json:"ips" maxItems:"20000" example:"[\"192.0.2.7\",\"10.0.0.0/8\"]"`
}

type allowInput struct {
	ChangeApp
	Body IPs
}

type disallowInput struct {
	ChangeApp
	IP []string `query:"ip,explode" required:"true" minItems:"1" doc:"May be repeated"`
}

func (a *api) registerBypass() {
	const path = "/api/v1/apps/{app}/bypass/ips"
	tags := []string{"bypass"}

	register(a, viewer, huma.Operation{
		OperationID: "list-ips", Method: http.MethodGet, Path: path, Tags: tags,
		Summary: "List the addresses and CIDRs that bypass maintenance", Errors: []int{http.StatusNotFound},
	}, a.listIPs)

	register(a, operator, huma.Operation{
		OperationID: "allow", Method: http.MethodPost, Path: path, Tags: tags, DefaultStatus: http.StatusOK,
		Summary:     "Add addresses and CIDRs to the allowlist",
		Description: "Entries that are listed already, in any notation, are not added again.",
		Errors:      changeErrors(),
	}, a.allow)

	register(a, operator, huma.Operation{
		OperationID: "disallow", Method: http.MethodDelete, Path: path, Tags: tags,
		Summary:     "Remove addresses and CIDRs from the allowlist",
		Description: "All of them must be listed: for one that is not, the answer is 404 and says whether a listed CIDR contains it.",
		Errors:      changeErrors(),
	}, a.disallow)
}

func (a *api) listIPs(ctx context.Context, in *InApp) (*resource[IPs], error) {
	return allowlist(a.Keeper.Current(), in.App)
}

func (a *api) allow(ctx context.Context, in *allowInput) (*resource[IPs], error) {
	cond, err := in.Precondition.parse()
	if err != nil {
		return nil, err
	}

	s, err := a.Keeper.Allow(ctx, actorOf(ctx), cond, in.App, in.Body.IPs)
	if err != nil {
		return nil, err
	}
	return allowlist(s, in.App)
}

func (a *api) disallow(ctx context.Context, in *disallowInput) (*resource[IPs], error) {
	cond, err := in.Precondition.parse()
	if err != nil {
		return nil, err
	}

	s, err := a.Keeper.Disallow(ctx, actorOf(ctx), cond, in.App, in.IP)
	if err != nil {
		return nil, err
	}
	return allowlist(s, in.App)
}

// allowlist returns the allowlist of the app of that name in a snapshot of the state, with its
// ETag.
func allowlist(s *keeper.Snapshot, name string) (*resource[IPs], error) {
	app, err := s.App(name)
	if err != nil {
		return nil, err
	}

	ips := keeper.AllowedIPs(app)
	return &resource[IPs]{keeper.ETag(ips), IPs{ips}}, nil
}
