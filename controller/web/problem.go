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

// An error answer has a problem as its body: a JSON object as in RFC 9457, with the content type
// application/problem+json. [huma.ErrorModel] is its Go type. Its errors name the invalid fields of
// the request.

// errorStatuses maps errors of the keeper and of the core, package maintenance, to HTTP statuses.
// An error that is not on the list, except for those that [api.problem] handles itself, is an
// internal one: it is logged and not shown to the client.
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

// newProblem returns a problem without fields.
func newProblem(status int, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail}
}

// problem returns the problem that the client gets for the error of an operation. operation is the
// operation's ID, for the log.
func (a *api) problem(ctx context.Context, operation string, err error) error {
	if problem := huma.StatusError(nil); errors.As(err, &problem) {
		return err // it is a problem already
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
		if s.err == keeper.ErrStore {
			// The text of the error may have details of the machine, such as paths.
			a.Log.Error("store failed", "operation", operation, "error", err)
			p.Detail = "the store could not be written or read; nothing was changed; see the controller's log"
		}

		if other := (*keeper.OtherSourceError)(nil); errors.As(err, &other) {
			for i, activation := range other.Activations {
				p.Errors = append(p.Errors, &huma.ErrorDetail{
					Location: fmt.Sprintf("activations[%d]", i),
					Message:  fmt.Sprintf("activation %s has the source %s", activation.ID, activation.Source),
				})
			}
		}
		return p
	}

	// The keeper gives up when the client closes its connection.
	if ctx.Err() != nil {
		return newProblem(http.StatusServiceUnavailable, "the request was cancelled, or the controller is stopping")
	}
	a.Log.Error("internal error", "operation", operation, "error", err)
	return newProblem(http.StatusInternalServerError, "internal error; see the controller's log")
}

// newValidationProblem returns the problem for errors that huma finds in a request, before the
// operation runs. Huma calls it instead of its own function (see init). It names a field of the
// body as the core does, without the prefix "body.". If there is only one error, the detail of the
// problem is that error, in place of the general message.
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
		// The location is body, body.FIELD, or that of a parameter, such as query.limit.
		location := strings.TrimPrefix(strings.TrimPrefix(detail.Location, "body"), ".")
		p.Errors = append(p.Errors, &huma.ErrorDetail{
			Message: detail.Message, Location: location, Value: fieldValue(location, detail.Value),
		})
	}

	if len(p.Errors) == 1 {
		only := p.Errors[0]
		p.Detail = only.Message
		if only.Location != "" {
			p.Detail = only.Location + ": " + only.Message
		}
	}
	return p
}

// fieldValue returns the value of a field for an error about the field. It is nil if the error is
// about the whole body, which has no location, or about a list or an object: these may be large,
// and may contain secrets that were sent in the wrong place.
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

// writeProblem answers a request with a problem. It is for answers that huma does not write: those
// of middlewares and of plain handlers.
func writeProblem(w http.ResponseWriter, status int, detail string) {
	body, _ := json.Marshal(newProblem(status, detail)) // of strings and a number, so without an error
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

// writeMethodNotAllowed answers a request whose method its path does not have. allowed lists the
// methods that the path has, as the header Allow does.
func writeMethodNotAllowed(w http.ResponseWriter, r *http.Request, allowed string) {
	w.Header().Set("Allow", allowed)
	writeProblem(w, http.StatusMethodNotAllowed, "the method "+r.Method+" is not allowed here, only "+allowed)
}
