package web

import (
	"cmp"
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The three operations in this file have the paths of the system maintenance of another product,
// STING, so that scripts for that work with Drydock too: a public status, and two operations that
// turn maintenance on and off. These require no If-Match, because scripts replace whatever state
// there is.

// PublicStatus is the status of an app for everybody. In JSON it is one object, which has the
// fields of [maintenance.Status] beside the field maintenance.
type PublicStatus struct {
	Maintenance bool `json:"maintenance"`
	maintenance.Status
}

// Toggle is the request to put an app into maintenance: the fields of an [On], and the name of the
// app, which is not in the path here.
type Toggle struct {
	App string `json:"app,omitempty" default:"default"`
	On
}

// DisableRequest is the request to end an app's maintenance.
type DisableRequest struct {
	App string `json:"app,omitempty" default:"default"`
}

type publicStatusInput struct {
	App string `query:"app" default:"default" maxLength:"63"`
}

// The bodies are pointers, because both requests may be sent without a body. It is nil then.
type (
	enableInput  struct{ Body *Toggle }
	disableInput struct{ Body *DisableRequest }
)

func (a *api) registerCompat() {
	tags := []string{"toggle"}

	register(a, public, huma.Operation{
		OperationID: "public-status", Method: http.MethodGet, Path: "/api/system/maintenance/status", Tags: tags,
		Summary:     "Get the public status of an app",
		Description: "Omits windows that are not announced yet, and who made changes.",
		Errors:      []int{http.StatusNotFound},
	}, a.publicStatus)

	register(a, operator, huma.Operation{
		OperationID: "enable", Method: http.MethodPost, Path: "/api/admin/maintenance/enable", Tags: tags, DefaultStatus: http.StatusOK,
		Summary: "Put an app into maintenance, without If-Match",
		Errors:  []int{http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable},
	}, a.enable)

	register(a, operator, huma.Operation{
		OperationID: "disable", Method: http.MethodPost, Path: "/api/admin/maintenance/disable", Tags: tags, DefaultStatus: http.StatusOK,
		Summary: "End an app's maintenance, without If-Match",
		Errors:  []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
	}, a.disable)
}

func (a *api) enable(ctx context.Context, in *enableInput) (*response[PublicStatus], error) {
	toggle := in.Body
	if toggle == nil {
		toggle = &Toggle{}
	}
	// Huma sets the defaults of fields that are missing, but not those of a body that is missing.
	toggle.App = cmp.Or(toggle.App, maintenance.DefaultApp)
	toggle.Mode = cmp.Or(toggle.Mode, maintenance.NoAccess)

	if _, err := a.Keeper.On(ctx, actorOf(ctx), keeper.Always, toggle.App, toggle.manualActivation()); err != nil {
		return nil, err
	}
	return a.publicStatusOf(toggle.App)
}

func (a *api) publicStatus(_ context.Context, in *publicStatusInput) (*response[PublicStatus], error) {
	return a.publicStatusOf(in.App)
}

func (a *api) disable(ctx context.Context, in *disableInput) (*response[PublicStatus], error) {
	app := maintenance.DefaultApp
	if in.Body != nil {
		app = cmp.Or(in.Body.App, app)
	}

	if _, err := a.Keeper.Off(ctx, actorOf(ctx), keeper.Always, app); err != nil {
		return nil, err
	}
	return a.publicStatusOf(app)
}

// publicStatusOf returns the public status of the app of that name.
func (a *api) publicStatusOf(app string) (*response[PublicStatus], error) {
	s := a.Keeper.Current()
	if _, err := s.App(app); err != nil {
		return nil, err
	}
	st, _ := s.State.Status(app, a.Now()) // the app exists, as the line above has shown
	isOn := st.Mode != maintenance.Off
	return &response[PublicStatus]{PublicStatus{isOn, st}}, nil
}
