package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The flag --wait makes the commands on and off wait, after the controller has stored the change,
// until it has arrived in the proxies. Its values are those of the query parameter wait of the API.
const (
	// waitEnforced waits until every proxy has reported that it enforces the newest state of the
	// app.
	waitEnforced = "enforced"
	// waitActive waits until the controller says that the app's mode is in effect everywhere: the
	// app's phase is active or, after off, every proxy enforces that it is off.
	waitActive = "active"
)

// maxPoll bounds the time that a single request waits. It is shorter than the timeouts that proxies
// and load balancers on the way to the controller usually have. await repeats the request.
const maxPoll = 25 * time.Second

// waitFlags are the values of the flags --wait and --timeout.
type waitFlags struct {
	until   string // waitEnforced, waitActive, or empty without --wait
	timeout time.Duration
}

func (f *waitFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.until, "wait", "", "wait until every proxy enforces the newest state of the app (enforced), or its mode (active)")
	cmd.Flags().Lookup("wait").NoOptDefVal = waitActive // the value of --wait without a value
	cmd.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "how long to wait at most")
}

// check returns a usage error if the flags are invalid. args are the arguments of the command.
func (f *waitFlags) check(cmd *cobra.Command, args []string) error {
	valueIsArgument := len(args) > 0 && (args[0] == waitEnforced || args[0] == waitActive)

	switch {
	case f.until != "" && f.until != waitEnforced && f.until != waitActive:
		return usagef("--wait=%s: must be enforced or active", f.until)
	case cmd.Flags().Changed("wait") && valueIsArgument:
		// The value of this flag is optional, and the flag parser takes an optional value only
		// after an equals sign: in "--wait enforced" it sees the flag without a value, and an
		// argument.
		return usagef("write --wait=%s: the value needs an equals sign", args[0])
	case f.timeout < 0:
		return usagef("--timeout %s: must not be negative", f.timeout)
	}
	return nil
}

// A toggle is what a command has just done to an app.
type toggle string

const (
	turnedOn  toggle = "turned on"
	turnedOff toggle = "turned off"
)

// await waits, unless --wait is absent, until the app has reached what --wait names. st is the
// status with which the API answered to the change, and done says which change that was. await
// returns the newest status, and an error if somebody toggles the app back or the timeout passes.
func (f *waitFlags) await(ctx context.Context, api *client, st keeper.AppStatus, done toggle) (keeper.AppStatus, error) {
	if f.until == "" {
		return st, nil
	}

	deadline := time.Now().Add(f.timeout)
	for {
		isOn := st.Mode != maintenance.Off
		switch {
		case done == turnedOn && !isOn:
			return st, fmt.Errorf("app %s was turned off while waiting", st.App)
		case done == turnedOff && isOn:
			return st, fmt.Errorf("app %s was turned on again while waiting", st.App)
		case f.reached(st):
			return st, nil
		}

		left := time.Until(deadline)
		if left <= 0 {
			return st, f.timeoutError(st)
		}

		var err error
		if st, err = api.getAppStatus(ctx, st.App, f.until, min(maxPoll, left.Round(time.Second))); err != nil {
			return st, err
		}
	}
}

// reached reports whether an app with this status has reached what --wait names.
func (f *waitFlags) reached(st keeper.AppStatus) bool {
	if f.until == waitActive && st.Mode != maintenance.Off {
		return st.Phase == keeper.PhaseActive
	}
	return st.Enforced
}

// timeoutError returns the error for an app that did not reach what --wait names within the
// timeout. It says which proxies the app waits for.
func (f *waitFlags) timeoutError(st keeper.AppStatus) error {
	var reasons []string
	for _, w := range st.Waiting {
		reasons = append(reasons, strings.TrimSpace(w.Proxy+" "+w.Reason))
	}
	return &codeError{exitTimedOut, fmt.Errorf("app %s is %s, but not %s after %s: %s",
		st.App, st.Mode, f.until, f.timeout, strings.Join(reasons, "; "))}
}
