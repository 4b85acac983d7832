package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Exit codes. They are part of the command's interface: scripts tell results apart by them.
const (
	exitOK        = 0
	exitFailed    = 1
	exitCancelled = 2 // by a signal
	exitUsage     = 3 // the command or its input is invalid
	exitAuth      = 4 // no token, or its role does not allow the command
	exitConflict  = 5 // changed since it was read, or not possible in this state
	exitNotFound  = 6
	exitTimedOut  = 8 // --wait
)

// A codeError is an error with an exit code of its own.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &codeError{exitUsage, fmt.Errorf(format, args...)}
}

func exitCode(err error) int {
	var code *codeError
	var api *apiError

	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return code.code
	case errors.Is(err, context.Canceled):
		return exitCancelled
	case errors.As(err, &api):
		return exitCodeOf(api.Status)
	}
	return exitFailed
}

// exitCodeOf returns the exit code for an error status of the API.
func exitCodeOf(status int) int {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return exitUsage
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitAuth
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return exitConflict
	}
	return exitFailed
}
