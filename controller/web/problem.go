package web

import (
	"cmp"
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

// statuses maps what the keeper and the core return to what a client gets. Whatever is
// not here is an internal error, which is logged and not shown.
var statuses = []struct {
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
	// Huma's own errors name fields as the core's do: without "body." before them.
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
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
			// What was sent is worth showing where it is one field, not where it is all.
			value := detail.Value
			switch reflect.ValueOf(value).Kind() {
			case reflect.Map, reflect.Slice, reflect.Struct, reflect.Pointer:
				value = nil
			}
			if location == "" {
				value = nil
			}
			p.Errors = append(p.Errors, &huma.ErrorDetail{Message: detail.Message, Location: location, Value: value})
		}
		if len(p.Errors) == 1 {
			p.Detail = strings.TrimPrefix(p.Errors[0].Location+": ", ": ") + p.Errors[0].Message
		}
		return p
	}
}

func newProblem(status int, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail}
}

// problem is the one way from an error to what a client gets.
func (a *api) problem(ctx context.Context, operation string, err error) error {
	var done huma.StatusError
	if errors.As(err, &done) {
		return err
	}
	var field *maintenance.FieldError
	if errors.As(err, &field) {
		p := newProblem(http.StatusUnprocessableEntity, field.Error())
		p.Errors = []*huma.ErrorDetail{{Message: field.Problem, Location: field.Field}}
		return p
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			p := newProblem(s.status, err.Error())
			if s.status == http.StatusServiceUnavailable {
				a.Log.Error("store failed", "operation", operation, "error", err)
				p.Detail = "the store could not be written or read; nothing was changed; see the controller's log"
			}
			var held *keeper.OtherSourceError
			if errors.As(err, &held) {
				for i, c := range held.Activations {
					p.Errors = append(p.Errors, &huma.ErrorDetail{Location: fmt.Sprintf("activations[%d]", i), Message: fmt.Sprintf("held by %s %s", c.Source, c.ID)})
				}
			}
			return p
		}
	}
	if ctx.Err() != nil {
		return newProblem(http.StatusServiceUnavailable, "the request was given up, or the controller is stopping")
	}
	a.Log.Error("internal error", "operation", operation, "error", err)
	return newProblem(http.StatusInternalServerError, "internal error; see the controller's log")
}

// writeProblem is for answers that no operation makes.
func writeProblem(w http.ResponseWriter, status int, detail string) {
	body, _ := json.Marshal(newProblem(status, detail))
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

// Precondition is what a request to change an app has to say. Embed it in an input.
type Precondition struct {
	IfMatch     string `header:"If-Match" doc:"The ETag that the change was made from, or * for whatever is there. Required, or If-None-Match"`
	IfNoneMatch string `header:"If-None-Match" doc:"* to create only"`
}

// condition reads RFC 9110 section 13.1.
func (p Precondition) condition() (keeper.Condition, error) {
	bad := func(header, problem string) (keeper.Condition, error) {
		e := newProblem(http.StatusBadRequest, header+": "+problem)
		e.Errors = []*huma.ErrorDetail{{Location: "header." + header, Message: problem}}
		return keeper.Condition{}, e
	}
	switch {
	case p.IfMatch == "" && p.IfNoneMatch == "":
		return keeper.Condition{}, newProblem(http.StatusPreconditionRequired,
			"a change needs If-Match: the ETag of what it was made from, or * to change whatever is there")
	case p.IfMatch != "" && p.IfNoneMatch != "":
		return bad("If-None-Match", "give either If-Match or If-None-Match")
	case p.IfNoneMatch == "*":
		return keeper.Condition{Absent: true}, nil
	case p.IfNoneMatch != "":
		return bad("If-None-Match", "only * is understood, to create what is not there")
	case strings.TrimSpace(p.IfMatch) == "*":
		return keeper.Always, nil
	}
	c := keeper.Condition{ETags: []string{}}
	for tag := range strings.SplitSeq(p.IfMatch, ",") {
		tag = strings.TrimSpace(tag)
		// A weak tag never matches here (RFC 9110 section 13.1.1), but is well formed.
		if strong := strings.TrimPrefix(tag, "W/"); len(strong) < 2 || strong[0] != '"' || strong[len(strong)-1] != '"' {
			return bad("If-Match", fmt.Sprintf("%q is no ETag: send it with its quotes, as it came", cmp.Or(tag, " ")))
		}
		c.ETags = append(c.ETags, tag)
	}
	return c, nil
}

func schemaOf[T any](r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}
