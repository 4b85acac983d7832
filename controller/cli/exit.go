package cli

import (
	"errors"
	"fmt"
	"net/http"
)

// Exit codes. They are part of the command's interface: scripts tell results apart by them. The
// help of the root command lists them.
const (
	exitOK        = 0
	exitFailed    = 1 // any other error
	exitCancelled = 2 // by a signal
	exitUsage     = 3 // the command or its input is invalid
	exitAuth      = 4 // no valid token, or its role does not allow the command
	exitConflict  = 5 // changed since it was read, or not possible in this state
	exitNotFound  = 6
	// 7 is free.
	exitTimedOut = 8 // what --wait waits for did not happen within --timeout
)

// errCancelled is the error of every command that a signal cancelled.
var errCancelled = &codeError{exitCancelled, errors.New("cancelled")}

// A codeError is an error for which the command exits with a certain code.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

// usagef returns an error for an invalid command line or input file. It formats as fmt.Errorf does.
func usagef(format string, args ...any) error {
	return &codeError{exitUsage, fmt.Errorf(format, args...)}
}

// exitCode returns the exit code for the error of a command, which is nil if the command succeeded.
func exitCode(err error) int {
	var withCode *codeError
	var fromAPI *apiError

	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &withCode):
		return withCode.code
	case errors.As(err, &fromAPI):
		return exitCodeOfStatus(fromAPI.Status)
	}
	return exitFailed
}

// exitCodeOfStatus returns the exit code for an error status of the API.
func exitCodeOfStatus(status int) int {
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
