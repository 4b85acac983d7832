package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// An activation puts an app into a mode of maintenance. Operators make manual activations, with the
// operations in this file. Activations of other sources, such as a planned window, exist beside
// them.

// On is the request to put an app into maintenance.
type On struct {
	Mode     maintenance.Mode `json:"mode,omitempty" default:"no-access"`
	Message  string           `json:"message,omitempty" doc:"Shown to users" example:"Database migration"`
	Until    time.Time        `json:"until,omitzero" doc:"When maintenance ends by itself; absent: when it is turned off"`
	Duration int              `json:"duration,omitempty" minimum:"1" maximum:"31622400" doc:"Seconds from now until the end, in place of until"`
}

// manualActivation returns the activation that the request asks for.
func (o On) manualActivation() keeper.ManualActivation {
	return keeper.ManualActivation{
		Mode: o.Mode, Message: o.Message, Until: o.Until, For: time.Duration(o.Duration) * time.Second,
	}
}

// Activations are the activations of one app.
type Activations struct {
	Activations []keeper.ActivationStatus `json:"activations"`
}

type onInput struct {
	ChangeApp
	Body On
}

func (a *api) registerActivations() {
	const path = "/api/v1/apps/{app}/activations"
	tags := []string{"maintenance"}

	register(a, viewer, huma.Operation{
		OperationID: "list-activations", Method: http.MethodGet, Path: path, Tags: tags,
		Summary: "List the activations that keep an app in maintenance", Errors: []int{http.StatusNotFound},
	}, a.listActivations)

	register(a, operator, huma.Operation{
		OperationID: "on", Method: http.MethodPost, Path: path, Tags: tags, DefaultStatus: http.StatusOK,
		Summary:     "Put an app into maintenance",
		Description: "An app has at most one manual activation: another call changes its mode, message and end. If-Match is the ETag of the app's activations.",
		Errors:      changeErrors(),
	}, a.on)

	register(a, operator, huma.Operation{
		OperationID: "off", Method: http.MethodDelete, Path: path, Tags: tags,
		Summary: "End an app's maintenance",
		Description: "Ends its manual activation and the running occurrences of its windows. " +
			"If-Match is the ETag of the app's activations.",
		Errors: changeErrors(http.StatusConflict),
	}, a.off)
}

func (a *api) listActivations(ctx context.Context, in *InApp) (*resource[Activations], error) {
	st, app, err := a.appStatus(in.App)
	if err != nil {
		return nil, err
	}
	return &resource[Activations]{keeper.ActivationsETag(app), Activations{st.Activations}}, nil
}

// on puts an app into maintenance. It answers with the status of the app after that, as off does.
func (a *api) on(ctx context.Context, in *onInput) (*resource[keeper.AppStatus], error) {
	cond, err := in.Precondition.parse()
	if err != nil {
		return nil, err
	}
	if _, err := a.Keeper.On(ctx, actorOf(ctx), cond, in.App, in.Body.manualActivation()); err != nil {
		return nil, err
	}
	return a.statusResource(in.App)
}

func (a *api) off(ctx context.Context, in *ChangeApp) (*resource[keeper.AppStatus], error) {
	cond, err := in.Precondition.parse()
	if err != nil {
		return nil, err
	}
	if _, err := a.Keeper.Off(ctx, actorOf(ctx), cond, in.App); err != nil {
		return nil, err
	}
	return a.statusResource(in.App)
}
