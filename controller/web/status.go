package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The status of an app says which mode it is in and why, and how far the proxies have followed. The
// app is enforced once every proxy has reported that it enforces the newest state of the app. The
// phase of an app that is on is pending at first, and active once every proxy enforces the app's
// mode and no report is in doubt, for example because the clock of a proxy is wrong. Package keeper
// decides that.

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
	proxies := a.Keeper.ProxyCount()
	return &response[Status]{Status{a.Keeper.Current().Version(), a.Keeper.Statuses(), proxies}}, nil
}

func (a *api) getAppStatus(ctx context.Context, in *appStatusInput) (*resource[keeper.AppStatus], error) {
	if in.Wait != "" {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(in.Timeout)*time.Second)
		defer cancel()
		// The wait also ends when the controller stops.
		stopWatching := context.AfterFunc(a.Stopping, cancel)
		defer stopWatching()

		if err := a.awaitStatus(ctx, in.App, in.Wait); err != nil {
			return nil, err
		}
	}
	return a.statusResource(in.App)
}

// Values of the query parameter wait.
const (
	waitEnforced = "enforced"
	waitActive   = "active"
)

// awaitStatus waits until an app has reached what the client waits for, or until it cannot reach
// that any more because its mode has changed. It returns nil when ctx is done, too.
func (a *api) awaitStatus(ctx context.Context, app, wait string) error {
	first, _, err := a.appStatus(app)
	if err != nil {
		return err
	}

	_, err = a.Keeper.Await(ctx, app, func(st keeper.AppStatus) bool {
		if st.Mode != first.Mode {
			return true
		}
		// An app that is off is never active. A client that waits for active then waits until the
		// app is off in every proxy.
		if wait == waitEnforced || st.Mode == maintenance.Off {
			return st.Enforced
		}
		return st.Phase == keeper.PhaseActive // wait is waitActive
	})
	return err
}

// statusResource returns the status of an app. The ETag is that of the app's activations, and not
// of the status, because a client names it in the If-Match of on and off, which change the
// activations.
func (a *api) statusResource(name string) (*resource[keeper.AppStatus], error) {
	st, app, err := a.appStatus(name)
	if err != nil {
		return nil, err
	}
	return &resource[keeper.AppStatus]{keeper.ActivationsETag(app), st}, nil
}

// appStatus returns the status of an app, and the app itself.
func (a *api) appStatus(name string) (keeper.AppStatus, *maintenance.App, error) {
	app, err := a.Keeper.Current().App(name)
	if err != nil {
		return keeper.AppStatus{}, nil, err
	}
	st, err := a.Keeper.Status(name)
	return st, app, err
}
