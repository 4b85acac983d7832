package web

import (
	"errors"
	"fmt"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Each error that an operation can return becomes a problem with a status, a detail, and the
// location of the first of its errors if it has any.
func TestErrorsBecomeProblems(t *testing.T) {
	a := &api{Options: Options{Log: noLog}}
	field := &maintenance.FieldError{Field: "bypass.ips[0]", Problem: "must be an address"}

	byFile := maintenance.Activation{ID: "maintenance", Source: maintenance.SourceFile}
	otherSource := &keeper.OtherSourceError{App: "x", Activations: []maintenance.Activation{byFile}}

	for _, c := range []struct {
		err      error
		status   int
		detail   string
		location string
	}{
		{field, 422, "bypass.ips[0]: must be an address", "bypass.ips[0]"},
		{fmt.Errorf("reading: %w", field), 422, "bypass.ips[0]: must be an address", "bypass.ips[0]"},
		{maintenance.ErrJSON, 400, "not valid JSON", ""},
		{fmt.Errorf("app %q: %w", "x", keeper.ErrNotFound), 404, `app "x": not found`, ""},
		{keeper.ErrStale, 412, "changed since it was read", ""},
		{otherSource, 409, `app "x" is kept in maintenance by another source (file maintenance): end the activation there; nothing was changed`, "activations[0]"},
		{keeper.ErrInMaintenance, 409, "in maintenance", ""},
		{keeper.ErrDefaultApp, 409, "the default app cannot be deleted", ""},
		{keeper.ErrLastOperator, 409, "the last operator token", ""},
		{fmt.Errorf("%w: disk full at /var/lib", keeper.ErrStore), 503, "the store could not be written or read; nothing was changed; see the controller's log", ""},
		{errors.New("a bug with a secret"), 500, "internal error; see the controller's log", ""},
		{newProblem(428, "say"), 428, "say", ""},
	} {
		var p *huma.ErrorModel
		if err := a.problem(t.Context(), "test", c.err); !errors.As(err, &p) {
			t.Errorf("%v: %v is not a problem", c.err, err)
			continue
		}

		location := ""
		if len(p.Errors) > 0 {
			location = p.Errors[0].Location
		}
		if p.Status != c.status || p.Detail != c.detail || location != c.location || p.Title == "" {
			t.Errorf("%v: %+v", c.err, p)
		}
	}
}
