package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Status is the status of all apps and proxies.
type Status struct {
	Version maintenance.Version `json:"version"`
	Apps    []keeper.AppStatus  `json:"apps"`
	Proxies keeper.ProxyCount   `json:"proxies" doc:"Those that enforce the newest state among them"`
}

type appStatusInput struct {
	InApp
	Wait    string `query:"wait" enum:"enforced,active"`
	Timeout int    `query:"timeout" minimum:"0" maximum:"300" default:"30" doc:"Seconds"`
}

func (a *api) registerStatus() {
	tags := []string{"maintenance"}

	register(a, viewer, huma.Operation{
		OperationID: "status", Method: http.MethodGet, Path: "/api/v1/status", Tags: tags,
		Summary: "What is on and why, and which proxies enforce it",
	}, a.getStatus)

	register(a, viewer, huma.Operation{
		OperationID: "app-status", Method: http.MethodGet, Path: "/api/v1/apps/{app}/status", Tags: tags,
		Summary: "How an app stands, at once or when it stands as asked for",
		Description: "With wait the answer comes when every proxy enforces the newest state of the app (enforced), or when the app is active, or off everywhere (active). " +
			"It comes earlier when the app's mode changes meanwhile, and at the latest after the timeout: look at mode, enforced and phase.",
		Errors: []int{http.StatusNotFound},
	}, a.getAppStatus)
}

func (a *api) getStatus(ctx context.Context, in *struct{}) (*response[Status], error) {
	count := a.Keeper.ProxyCount()
	return &response[Status]{Status{a.Keeper.Current().Version(), a.Keeper.Statuses(), count}}, nil
}

func (a *api) getAppStatus(ctx context.Context, in *appStatusInput) (*resource[keeper.AppStatus], error) {
	if in.Wait != "" {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(in.Timeout)*time.Second)
		defer cancel()
		defer context.AfterFunc(a.Stopping, cancel)()

		if err := a.awaitStatus(ctx, in.App, in.Wait); err != nil {
			return nil, err
		}
	}
	return a.statusResource(in.App)
}

// awaitStatus waits until an app is enforced or active, as the client asked for, until its mode
// changes, or until ctx is done.
func (a *api) awaitStatus(ctx context.Context, app, wait string) error {
	first, _, err := a.status(app)
	if err != nil {
		return err
	}

	_, err = a.Keeper.Await(ctx, app, func(st keeper.AppStatus) bool {
		switch {
		case st.Mode != first.Mode:
			return true
		case wait == "active":
			return st.Phase == keeper.PhaseActive || st.Mode == maintenance.Off && st.Enforced
		}
		return st.Enforced
	})
	return err
}

// statusResource answers with an app's status. Its ETag is that of the app's activations, because
// on and off are made from it.
func (a *api) statusResource(name string) (*resource[keeper.AppStatus], error) {
	st, app, err := a.status(name)
	if err != nil {
		return nil, err
	}
	return &resource[keeper.AppStatus]{keeper.ActivationsETag(app), st}, nil
}

func (a *api) status(name string) (keeper.AppStatus, *maintenance.App, error) {
	app, err := a.Keeper.Current().App(name)
	if err != nil {
		return keeper.AppStatus{}, nil, err
	}
	st, err := a.Keeper.Status(name)
	return st, app, err
}
