package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// AppSet is all apps together, as applied from a file.
type AppSet struct {
	Apps []maintenance.Spec `json:"apps"`
}

// Applied is what applying a set changed, or would change.
type Applied struct {
	Version maintenance.Version `json:"version"`
	DryRun  bool                `json:"dry_run,omitempty"`
	Changes []keeper.Change     `json:"changes"`
}

// On is what puts an app into maintenance.
type On struct {
	Mode     maintenance.Mode `json:"mode,omitempty" enum:"read-only,no-access" default:"no-access"`
	Message  string           `json:"message,omitempty" doc:"What people read" example:"Database migration"`
	Until    time.Time        `json:"until,omitzero" doc:"When it ends by itself. Absent: when somebody says off"`
	Duration int              `json:"duration,omitempty" minimum:"1" maximum:"31622400" doc:"Seconds from now, instead of until"`
}

func (o On) activate() keeper.ManualActivation {
	return keeper.ManualActivation{Mode: o.Mode, Message: o.Message, Until: o.Until, For: time.Duration(o.Duration) * time.Second}
}

// IPs are addresses and CIDRs that pass.
type IPs struct {
	IPs []string `json:"ips" maxItems:"20000" example:"[\"192.0.2.7\",\"10.0.0.0/8\"]"`
}

// Activations are what holds an app in maintenance.
type Activations struct {
	Activations []keeper.ActivationStatus `json:"activations"`
}

type resource[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

type created[T any] struct {
	Status int
	ETag   string `header:"ETag"`
	Body   T
}

// InApp is the input of whatever is about one app.
type InApp struct {
	App string `path:"app" maxLength:"63" doc:"The app's name; default is the one that catches what no other app matches" example:"shop"`
}

// ChangeApp is the input of whatever changes an app.
type ChangeApp struct {
	InApp
	Precondition
}

// bodyTime is for bodies that may be large.
const bodyTime = 30 * time.Second

var changeErrors = []int{http.StatusBadRequest, http.StatusNotFound, http.StatusPreconditionFailed, http.StatusPreconditionRequired, http.StatusServiceUnavailable}

func (a *api) registerApps() {
	tags := []string{"apps"}
	register(a, viewer, huma.Operation{
		OperationID: "list-apps", Method: http.MethodGet, Path: "/api/v1/apps", Tags: tags,
		Summary: "What operators wrote about all apps",
	}, func(ctx context.Context, in *struct{}) (*resource[AppSet], error) {
		s := a.Keeper.Current()
		return &resource[AppSet]{s.SpecsETag(), AppSet{s.Specs()}}, nil
	})

	register(a, operator, huma.Operation{
		OperationID: "apply-apps", Method: http.MethodPut, Path: "/api/v1/apps", Tags: tags,
		Summary:      "Replace all apps, at once or not at all",
		Description:  "Apps that are not in the set are deleted; one that is in maintenance cannot be, and the answer is 409. Activations stay.",
		MaxBodyBytes: maintenance.MaxDocumentBytes, BodyReadTimeout: bodyTime, SkipValidateBody: true,
		Errors: append(changeErrors, http.StatusConflict),
	}, func(ctx context.Context, in *struct {
		Precondition
		DryRun bool `query:"dry_run" doc:"Tell what would change, and change nothing. Whether pages are stored is not asked"`
		Body   raw[AppSet]
	}) (*resource[Applied], error) {
		on, err := in.condition()
		if err != nil {
			return nil, err
		}
		specs, err := parseSet(in.Body)
		if err != nil {
			return nil, err
		}
		s, changes, err := a.Keeper.PutAll(ctx, actor(ctx), on, specs, in.DryRun)
		if err != nil {
			return nil, err
		}
		return &resource[Applied]{s.SpecsETag(), Applied{s.Version(), in.DryRun, append([]keeper.Change{}, changes...)}}, nil
	})

	register(a, viewer, huma.Operation{
		OperationID: "get-app", Method: http.MethodGet, Path: "/api/v1/apps/{app}", Tags: tags,
		Summary: "What operators wrote about an app", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *InApp) (*resource[maintenance.Spec], error) {
		app, err := a.Keeper.Current().App(in.App)
		if err != nil {
			return nil, err
		}
		return &resource[maintenance.Spec]{keeper.ETag(app.Spec), app.Spec}, nil
	})

	register(a, operator, huma.Operation{
		OperationID: "put-app", Method: http.MethodPut, Path: "/api/v1/apps/{app}", Tags: tags,
		Summary:      "Create an app, or replace what is written about it",
		Description:  "Activations stay. With If-None-Match: * only a new app is written, with If-Match: * also over what is there.",
		MaxBodyBytes: maintenance.MaxDocumentBytes, BodyReadTimeout: bodyTime, SkipValidateBody: true,
		Errors: changeErrors,
		Responses: map[string]*huma.Response{
			"201": {Description: "Created", Content: map[string]*huma.MediaType{"application/json": {Schema: schemaOf[maintenance.Spec](a.huma.OpenAPI().Components.Schemas)}}},
		},
	}, func(ctx context.Context, in *struct {
		ChangeApp
		Body raw[maintenance.Spec]
	}) (*created[maintenance.Spec], error) {
		on, err := in.condition()
		if err != nil {
			return nil, err
		}
		spec, err := maintenance.ParseSpec(in.Body)
		if err != nil {
			return nil, err
		}
		if spec.Name != in.App {
			return nil, &maintenance.FieldError{Field: "name", Problem: fmt.Sprintf("%q is not the app of the path, %q", spec.Name, in.App)}
		}
		status := http.StatusOK
		if _, err := a.Keeper.Current().App(in.App); err != nil {
			status = http.StatusCreated
		}
		s, err := a.Keeper.PutSpec(ctx, actor(ctx), on, spec)
		if err != nil {
			return nil, err
		}
		app, err := s.App(in.App)
		if err != nil {
			return nil, err
		}
		return &created[maintenance.Spec]{status, keeper.ETag(app.Spec), app.Spec}, nil
	})

	register(a, operator, huma.Operation{
		OperationID: "delete-app", Method: http.MethodDelete, Path: "/api/v1/apps/{app}", Tags: tags,
		Summary: "Delete an app that is off; its traffic falls to the next best match",
		Errors:  append(changeErrors, http.StatusConflict),
	}, func(ctx context.Context, in *ChangeApp) (*struct{}, error) {
		on, err := in.condition()
		if err != nil {
			return nil, err
		}
		_, err = a.Keeper.DeleteApp(ctx, actor(ctx), on, in.App)
		return nil, err
	})

	a.registerActivations()
	a.registerIPs()
}

func (a *api) registerActivations() {
	const path = "/api/v1/apps/{app}/activations"
	tags := []string{"maintenance"}
	register(a, viewer, huma.Operation{
		OperationID: "list-activations", Method: http.MethodGet, Path: path, Tags: tags,
		Summary: "What holds an app in maintenance", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *InApp) (*resource[Activations], error) {
		st, app, err := a.status(in.App)
		if err != nil {
			return nil, err
		}
		return &resource[Activations]{keeper.ActivationsETag(app), Activations{st.Activations}}, nil
	})

	register(a, operator, huma.Operation{
		OperationID: "on", Method: http.MethodPost, Path: path, Tags: tags, DefaultStatus: http.StatusOK,
		Summary:     "Put an app into maintenance",
		Description: "There is one manual activation an app: a second one changes the mode, message and end of the first. If-Match is the ETag of the app's activations.",
		Errors:      changeErrors,
	}, func(ctx context.Context, in *struct {
		ChangeApp
		Body On
	}) (*resource[keeper.AppStatus], error) {
		on, err := in.condition()
		if err != nil {
			return nil, err
		}
		if _, err := a.Keeper.On(ctx, actor(ctx), on, in.App, in.Body.activate()); err != nil {
			return nil, err
		}
		return a.statusResource(in.App)
	})

	register(a, operator, huma.Operation{
		OperationID: "off", Method: http.MethodDelete, Path: path, Tags: tags,
		Summary: "End an app's maintenance",
		Description: "Ends its manual activation and the running occurrences of its windows. While a file or a Kubernetes resource holds it the answer is 409, which names it, and nothing is ended. " +
			"If-Match is the ETag of the app's activations.",
		Errors: append(changeErrors, http.StatusConflict),
	}, func(ctx context.Context, in *ChangeApp) (*resource[keeper.AppStatus], error) {
		on, err := in.condition()
		if err != nil {
			return nil, err
		}
		if _, err := a.Keeper.Off(ctx, actor(ctx), on, in.App); err != nil {
			return nil, err
		}
		return a.statusResource(in.App)
	})
}

func (a *api) registerIPs() {
	const path = "/api/v1/apps/{app}/bypass/ips"
	tags := []string{"bypass"}
	answer := func(app *maintenance.App) *resource[IPs] {
		ips := keeper.AllowedIPs(app)
		return &resource[IPs]{keeper.ETag(ips), IPs{ips}}
	}
	register(a, viewer, huma.Operation{
		OperationID: "list-ips", Method: http.MethodGet, Path: path, Tags: tags,
		Summary: "Addresses and CIDRs that pass", Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *InApp) (*resource[IPs], error) {
		app, err := a.Keeper.Current().App(in.App)
		if err != nil {
			return nil, err
		}
		return answer(app), nil
	})
	type edit func(context.Context, keeper.Actor, keeper.Condition, string, []string) (*keeper.Snapshot, error)
	change := func(ctx context.Context, in ChangeApp, ips []string, do edit) (*resource[IPs], error) {
		on, err := in.condition()
		if err != nil {
			return nil, err
		}
		s, err := do(ctx, actor(ctx), on, in.App, ips)
		if err != nil {
			return nil, err
		}
		app, err := s.App(in.App)
		if err != nil {
			return nil, err
		}
		return answer(app), nil
	}
	register(a, operator, huma.Operation{
		OperationID: "allow", Method: http.MethodPost, Path: path, Tags: tags, DefaultStatus: http.StatusOK,
		Summary:     "Let addresses and CIDRs pass",
		Description: "Those that are listed already, in whatever spelling, are not added again.",
		Errors:      changeErrors,
	}, func(ctx context.Context, in *struct {
		ChangeApp
		Body IPs
	}) (*resource[IPs], error) {
		return change(ctx, in.ChangeApp, in.Body.IPs, a.Keeper.Allow)
	})
	register(a, operator, huma.Operation{
		OperationID: "disallow", Method: http.MethodDelete, Path: path, Tags: tags,
		Summary:     "Let addresses and CIDRs pass no longer",
		Description: "All of them must be on the list: the answer for one that is not is 404, and says whether it passes through a listed CIDR.",
		Errors:      changeErrors,
	}, func(ctx context.Context, in *struct {
		ChangeApp
		IP []string `query:"ip,explode" required:"true" minItems:"1" doc:"May be given several times"`
	}) (*resource[IPs], error) {
		return change(ctx, in.ChangeApp, in.IP, a.Keeper.Disallow)
	})
}

// parseSet reads a set of apps, each with the core's strict reader.
func parseSet(body []byte) ([]maintenance.Spec, error) {
	var list []json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, &maintenance.FieldError{Problem: `must be an object: {"apps": […]}`}
	}
	for dec.More() {
		field, _ := dec.Token() // the body is known to be JSON
		switch {
		case field != "apps":
			return nil, &maintenance.FieldError{Field: fmt.Sprint(field), Problem: "unknown field"}
		case list != nil:
			return nil, &maintenance.FieldError{Field: "apps", Problem: "given twice"}
		}
		if err := dec.Decode(&list); err != nil || list == nil {
			return nil, &maintenance.FieldError{Field: "apps", Problem: "must be a list"}
		}
	}
	if list == nil {
		return nil, &maintenance.FieldError{Field: "apps", Problem: "is required"}
	}
	specs := make([]maintenance.Spec, len(list))
	for i, item := range list {
		spec, err := maintenance.ParseSpec(item)
		var fe *maintenance.FieldError
		if errors.As(err, &fe) {
			at := fmt.Sprintf("apps[%d]", i)
			if fe.Field != "" {
				at += "." + fe.Field
			}
			return nil, &maintenance.FieldError{Field: at, Problem: fe.Problem}
		}
		if err != nil {
			return nil, err
		}
		specs[i] = spec
	}
	return specs, nil
}
