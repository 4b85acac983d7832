package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// errorStatuses maps errors of the keeper and the core to HTTP statuses. Any other error is an
// internal one, which is logged and not shown to the client.
var errorStatuses = []struct {
	err    error
	status int
}{
	{maintenance.ErrJSON, http.StatusBadRequest},
	{keeper.ErrNotFound, http.StatusNotFound},
	{keeper.ErrStale, http.StatusPreconditionFailed},
	{keeper.ErrOtherSource, http.StatusConflict},
	{keeper.ErrInMaintenance, http.StatusConflict},
	{keeper.ErrDefaultApp, http.StatusConflict},
	{keeper.ErrLastOperator, http.StatusConflict},
	{keeper.ErrStore, http.StatusServiceUnavailable},
}

func init() {
	huma.ValidateStrictCasing = true // "Mode" is not "mode"
	huma.NewError = newValidationProblem
}

func newProblem(status int, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail}
}

// problem maps the error of an operation to the problem that the client gets.
func (a *api) problem(ctx context.Context, operation string, err error) error {
	if problem := huma.StatusError(nil); errors.As(err, &problem) {
		return err
	}
	if field := (*maintenance.FieldError)(nil); errors.As(err, &field) {
		p := newProblem(http.StatusUnprocessableEntity, field.Error())
		p.Errors = []*huma.ErrorDetail{{Message: field.Problem, Location: field.Field}}
		return p
	}

	for _, s := range errorStatuses {
		if !errors.Is(err, s.err) {
			continue
		}

		p := newProblem(s.status, err.Error())
		if s.status == http.StatusServiceUnavailable {
			a.Log.Error("store failed", "operation", operation, "error", err)
			p.Detail = "the store could not be written or read; nothing was changed; see the controller's log"
		}

		if other := (*keeper.OtherSourceError)(nil); errors.As(err, &other) {
			for i, c := range other.Activations {
				p.Errors = append(p.Errors, &huma.ErrorDetail{Location: fmt.Sprintf("activations[%d]", i), Message: fmt.Sprintf("activation %s has the source %s", c.ID, c.Source)})
			}
		}
		return p
	}

	if ctx.Err() != nil {
		return newProblem(http.StatusServiceUnavailable, "the request was cancelled, or the controller is stopping")
	}
	a.Log.Error("internal error", "operation", operation, "error", err)
	return newProblem(http.StatusInternalServerError, "internal error; see the controller's log")
}

// newValidationProblem makes a problem of the errors that huma finds in a request. It names fields
// as the core does, without the prefix "body.".
func newValidationProblem(status int, message string, errs ...error) huma.StatusError {
	p := newProblem(status, message)
	for _, err := range errs {
		if err == nil {
			continue
		}

		detail := &huma.ErrorDetail{Message: err.Error()}
		if d, ok := err.(huma.ErrorDetailer); ok {
			detail = d.ErrorDetail()
		}
		location := strings.TrimPrefix(strings.TrimPrefix(detail.Location, "body"), ".")
		p.Errors = append(p.Errors, &huma.ErrorDetail{Message: detail.Message, Location: location, Value: fieldValue(location, detail.Value)})
	}

	if len(p.Errors) == 1 {
		p.Detail = strings.TrimPrefix(p.Errors[0].Location+": ", ": ") + p.Errors[0].Message
	}
	return p
}

// fieldValue returns the value that was sent for a single field, and nil where it would repeat the
// whole body or a large part of it.
func fieldValue(location string, value any) any {
	if location == "" {
		return nil
	}
	switch reflect.ValueOf(value).Kind() {
	case reflect.Map, reflect.Slice, reflect.Struct, reflect.Pointer:
		return nil
	}
	return value
}

// writeProblem writes a problem outside the operations, where huma does not write it.
func writeProblem(w http.ResponseWriter, status int, detail string) {
	body, _ := json.Marshal(newProblem(status, detail))
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

func writeMethodNotAllowed(w http.ResponseWriter, r *http.Request, allowed string) {
	w.Header().Set("Allow", allowed)
	writeProblem(w, http.StatusMethodNotAllowed, "the method "+r.Method+" is not allowed here, only "+allowed)
}
