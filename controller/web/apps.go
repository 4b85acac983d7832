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

// An app is a part of the traffic that goes into maintenance on its own. The operations in this
// file are about its definition ([maintenance.Spec]): which requests belong to it, and who bypasses
// its maintenance. The activations that put it into maintenance are in activations.go.

// AppSet is the set of the definitions of all apps.
type AppSet struct {
	Apps []maintenance.Spec `json:"apps"`
}

// Applied says what applying an [AppSet] changed or, in a dry run, would change.
type Applied struct {
	Version maintenance.Version `json:"version"`
	DryRun  bool                `json:"dry_run,omitempty"`
	Changes []keeper.Change     `json:"changes"`
}

// InApp is embedded in the input of every operation on one app.
type InApp struct {
	App string `path:"app" maxLength:"63" doc:"The app's name. The app named default handles what no other app matches" example:"shop"`
}

// ChangeApp is embedded in the input of every operation that changes one app.
type ChangeApp struct {
	InApp
	Precondition
}

type applyAppsInput struct {
	Precondition
	DryRun bool `query:"dry_run" doc:"Report what would change, without changing it or checking that pages are stored"`
	Body   rawBody[AppSet]
}

type putAppInput struct {
	ChangeApp
	Body rawBody[maintenance.Spec]
}

type putAppOutput struct {
	Status int    // of the response: 200 if the app was replaced, 201 if it was created
	ETag   string `header:"ETag"`
	Body   maintenance.Spec
}

// bodyTimeout bounds the time that a client takes to send a body that may be large. Huma allows
// other bodies 1 MiB and 5 s.
const bodyTimeout = 30 * time.Second

// changeErrors returns the statuses of the errors of an operation that changes an app: those that
// all of these operations have, and more.
func changeErrors(more ...int) []int {
	return append([]int{
		http.StatusBadRequest, http.StatusNotFound, http.StatusPreconditionFailed,
		http.StatusPreconditionRequired, http.StatusServiceUnavailable,
	}, more...)
}

func (a *api) registerApps() {
	tags := []string{"apps"}
	spec := schemaOf[maintenance.Spec](a.humaAPI.OpenAPI().Components.Schemas)

	register(a, viewer, huma.Operation{
		OperationID: "list-apps", Method: http.MethodGet, Path: "/api/v1/apps", Tags: tags,
		Summary: "List the definitions of all apps",
	}, a.listApps)

	register(a, operator, huma.Operation{
		OperationID: "apply-apps", Method: http.MethodPut, Path: "/api/v1/apps", Tags: tags,
		Summary:      "Replace the definitions of all apps",
		Description:  "Either all definitions take effect or none. Apps that are not in the set are deleted; when one of them is in maintenance, the answer is 409. Activations stay.",
		MaxBodyBytes: maintenance.MaxDocumentBytes, BodyReadTimeout: bodyTimeout,
		SkipValidateBody: true, // the core does that, see rawBody
		Errors:           changeErrors(http.StatusConflict),
	}, a.applyApps)

	register(a, viewer, huma.Operation{
		OperationID: "get-app", Method: http.MethodGet, Path: "/api/v1/apps/{app}", Tags: tags,
		Summary: "Get the definition of an app", Errors: []int{http.StatusNotFound},
	}, a.getApp)

	register(a, operator, huma.Operation{
		OperationID: "put-app", Method: http.MethodPut, Path: "/api/v1/apps/{app}", Tags: tags,
		Summary:      "Create an app or replace its definition",
		Description:  "Activations stay. With If-None-Match: * the app is only created; with If-Match: * it is created or replaced.",
		MaxBodyBytes: maintenance.MaxDocumentBytes, BodyReadTimeout: bodyTimeout,
		SkipValidateBody: true, // the core does that, see rawBody
		Errors:           changeErrors(),
		Responses: map[string]*huma.Response{ // besides the 200 that huma adds
			"201": {Description: "Created", Content: map[string]*huma.MediaType{"application/json": {Schema: spec}}},
		},
	}, a.putApp)

	register(a, operator, huma.Operation{
		OperationID: "delete-app", Method: http.MethodDelete, Path: "/api/v1/apps/{app}", Tags: tags,
		Summary: "Delete an app that is off; the next best match handles its traffic",
		Errors:  changeErrors(http.StatusConflict),
	}, a.deleteApp)
}

func (a *api) listApps(ctx context.Context, in *struct{}) (*resource[AppSet], error) {
	s := a.Keeper.Current()
	return &resource[AppSet]{s.SpecsETag(), AppSet{s.Specs()}}, nil
}

func (a *api) applyApps(ctx context.Context, in *applyAppsInput) (*resource[Applied], error) {
	cond, err := in.Precondition.parse()
	if err != nil {
		return nil, err
	}
	specs, err := parseAppSet(in.Body)
	if err != nil {
		return nil, err
	}

	s, changes, err := a.Keeper.PutAll(ctx, actorOf(ctx), cond, specs, in.DryRun)
	if err != nil {
		return nil, err
	}
	if changes == nil {
		changes = []keeper.Change{} // JSON has an empty list, not null
	}
	return &resource[Applied]{s.SpecsETag(), Applied{s.Version(), in.DryRun, changes}}, nil
}

func (a *api) getApp(ctx context.Context, in *InApp) (*resource[maintenance.Spec], error) {
	app, err := a.Keeper.Current().App(in.App)
	if err != nil {
		return nil, err
	}
	return &resource[maintenance.Spec]{keeper.ETag(app.Spec), app.Spec}, nil
}

func (a *api) putApp(ctx context.Context, in *putAppInput) (*putAppOutput, error) {
	cond, err := in.Precondition.parse()
	if err != nil {
		return nil, err
	}
	spec, err := maintenance.ParseSpec(in.Body)
	if err != nil {
		return nil, err
	}

	if spec.Name != in.App {
		return nil, &maintenance.FieldError{Field: "name", Problem: fmt.Sprintf("%q must be %q, the name in the path", spec.Name, in.App)}
	}

	// Another client may create or delete the app between this and PutSpec. Then the status is
	// wrong, but not the change.
	status := http.StatusOK
	if _, err := a.Keeper.Current().App(in.App); err != nil {
		status = http.StatusCreated
	}
	s, err := a.Keeper.PutSpec(ctx, actorOf(ctx), cond, spec)
	if err != nil {
		return nil, err
	}

	app, err := s.App(in.App)
	if err != nil {
		return nil, err
	}
	return &putAppOutput{status, keeper.ETag(app.Spec), app.Spec}, nil
}

func (a *api) deleteApp(ctx context.Context, in *ChangeApp) (*struct{}, error) {
	cond, err := in.Precondition.parse()
	if err != nil {
		return nil, err
	}
	_, err = a.Keeper.DeleteApp(ctx, actorOf(ctx), cond, in.App)
	return nil, err
}

// parseAppSet returns the definitions in the body of apply-apps, an [AppSet]. The core parses each
// of them. Errors name a field by its path in the body, such as apps[1].bypass.
func parseAppSet(body []byte) ([]maintenance.Spec, error) {
	list, err := splitAppSet(body)
	if err != nil {
		return nil, err
	}

	specs := make([]maintenance.Spec, len(list))
	for i, definition := range list {
		specs[i], err = maintenance.ParseSpec(definition)
		if inDefinition := (*maintenance.FieldError)(nil); errors.As(err, &inDefinition) {
			path := fmt.Sprintf("apps[%d]", i)
			if inDefinition.Field != "" {
				path += "." + inDefinition.Field
			}
			return nil, &maintenance.FieldError{Field: path, Problem: inDefinition.Problem}
		}
		if err != nil {
			return nil, err
		}
	}
	return specs, nil
}

// splitAppSet returns the definitions in an [AppSet], as JSON. It reads the object token by token,
// because [json.Unmarshal] would also accept "APPS", a repeated "apps", and other fields. The body
// is known to be valid JSON, because huma has parsed it.
func splitAppSet(body []byte) (list []json.RawMessage, err error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, &maintenance.FieldError{Problem: `must be an object: {"apps": […]}`}
	}

	for dec.More() {
		field, _ := dec.Token() // a string, the name of a field
		switch {
		case field != "apps":
			return nil, &maintenance.FieldError{Field: fmt.Sprint(field), Problem: "unknown field"}
		case list != nil:
			return nil, &maintenance.FieldError{Field: "apps", Problem: "must not be repeated"}
		}
		if err := dec.Decode(&list); err != nil || list == nil { // the list of null is nil
			return nil, &maintenance.FieldError{Field: "apps", Problem: "must be a list"}
		}
	}
	if list == nil {
		return nil, &maintenance.FieldError{Field: "apps", Problem: "is required"}
	}
	return list, nil
}
