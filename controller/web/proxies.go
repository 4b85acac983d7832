package web

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The keeper knows the proxies that have reported which version of the state they enforce. It waits
// for a proxy that has fallen silent, which may still serve requests, until an operator makes it
// forget the proxy.

// Proxies are all proxies that the keeper knows.
type Proxies struct {
	Version maintenance.Version `json:"version" doc:"The newest state"`
	Proxies []keeper.Proxy      `json:"proxies"`
}

type forgetProxyInput struct {
	Proxy string `path:"proxy" maxLength:"128"`
}

func (a *api) registerProxies() {
	tags := []string{"proxies"}

	register(a, viewer, huma.Operation{
		OperationID: "list-proxies", Method: http.MethodGet, Path: "/api/v1/proxies", Tags: tags,
		Summary: "List the proxies, and the version that each enforces",
	}, a.listProxies)

	register(a, operator, huma.Operation{
		OperationID: "forget-proxy", Method: http.MethodDelete, Path: "/api/v1/proxies/{proxy}", Tags: tags,
		Summary:     "Stop waiting for a proxy that is gone",
		Description: "A proxy that is alive is known again after its next message.",
		Errors:      []int{http.StatusNotFound},
	}, a.forgetProxy)
}

func (a *api) listProxies(ctx context.Context, in *struct{}) (*response[Proxies], error) {
	return &response[Proxies]{Proxies{a.Keeper.Current().Version(), a.Keeper.Proxies()}}, nil
}

func (a *api) forgetProxy(ctx context.Context, in *forgetProxyInput) (*struct{}, error) {
	return nil, a.Keeper.Forget(ctx, actorOf(ctx), in.Proxy)
}
