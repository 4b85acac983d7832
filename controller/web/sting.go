package web

import (
	"cmp"
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// PublicStatus is what anybody may know, in one flat object for a banner.
type PublicStatus struct {
	Maintenance bool `json:"maintenance"`
	maintenance.Status
}

// Toggle is an [On] with its app.
type Toggle struct {
	App string `json:"app,omitempty" default:"default"`
	On
}

// registerSTING adds STING's three paths: a public status, and two calls that scripts
// which know nothing of ETags can make.
func (a *api) registerSTING() {
	tags := []string{"toggle"}
	register(a, public, huma.Operation{
		OperationID: "public-status", Method: http.MethodGet, Path: "/api/system/maintenance/status", Tags: tags,
		Summary: "Is an app in maintenance? For everybody: nothing before its announcement, and nobody's name",
		Errors:  []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		App string `query:"app" default:"default" maxLength:"63"`
	}) (*struct{ Body PublicStatus }, error) {
		return a.publicStatus(in.App)
	})
	register(a, operator, huma.Operation{
		OperationID: "enable", Method: http.MethodPost, Path: "/api/admin/maintenance/enable", Tags: tags, DefaultStatus: http.StatusOK,
		Summary: "Put an app into maintenance, whatever is there",
		Errors:  []int{http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct{ Body *Toggle }) (*struct{ Body PublicStatus }, error) {
		t := in.Body
		if t == nil {
			t = &Toggle{}
		}
		t.App, t.Mode = cmp.Or(t.App, maintenance.DefaultApp), cmp.Or(t.Mode, maintenance.NoAccess)
		if _, err := a.Keeper.On(ctx, actor(ctx), keeper.Always, t.App, t.activate()); err != nil {
			return nil, err
		}
		return a.publicStatus(t.App)
	})
	register(a, operator, huma.Operation{
		OperationID: "disable", Method: http.MethodPost, Path: "/api/admin/maintenance/disable", Tags: tags, DefaultStatus: http.StatusOK,
		Summary: "End an app's maintenance, whatever is there",
		Errors:  []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *struct {
		Body *struct {
			App string `json:"app,omitempty" default:"default"`
		}
	}) (*struct{ Body PublicStatus }, error) {
		app := maintenance.DefaultApp
		if in.Body != nil {
			app = cmp.Or(in.Body.App, app)
		}
		if _, err := a.Keeper.Off(ctx, actor(ctx), keeper.Always, app); err != nil {
			return nil, err
		}
		return a.publicStatus(app)
	})
}

func (a *api) publicStatus(app string) (*struct{ Body PublicStatus }, error) {
	s := a.Keeper.Current()
	if _, err := s.App(app); err != nil {
		return nil, err
	}
	st, _ := s.State.Status(app, a.Now())
	return &struct{ Body PublicStatus }{PublicStatus{st.Mode != maintenance.Off, st}}, nil
}
