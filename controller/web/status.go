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
	Proxies keeper.ProxyCount   `json:"proxies" doc:"How many proxies are known, and how many of them enforce the newest state"`
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
		Summary: "Get the status of all apps, and how many proxies enforce it",
	}, a.getStatus)

	register(a, viewer, huma.Operation{
		OperationID: "app-status", Method: http.MethodGet, Path: "/api/v1/apps/{app}/status", Tags: tags,
		Summary: "Get the status of an app, at once or after waiting for it",
		Description: "With wait=enforced, the answer comes when every proxy enforces the newest state of the app; with wait=active, when the app is active, or off everywhere. " +
			"It comes earlier when the app's mode changes, and at the latest after the timeout: check mode, enforced and phase.",
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
	first, _, err := a.appStatus(app)
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
	st, app, err := a.appStatus(name)
	if err != nil {
		return nil, err
	}
	return &resource[keeper.AppStatus]{keeper.ActivationsETag(app), st}, nil
}

func (a *api) appStatus(name string) (keeper.AppStatus, *maintenance.App, error) {
	app, err := a.Keeper.Current().App(name)
	if err != nil {
		return keeper.AppStatus{}, nil, err
	}
	st, err := a.Keeper.Status(name)
	return st, app, err
}
