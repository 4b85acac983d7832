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

// Values of --wait.
const (
	waitEnforced = "enforced"
	waitActive   = "active"
)

// longestPoll is how long a single request waits. It is shorter than the timeouts that proxies and
// load balancers usually have.
const longestPoll = 25 * time.Second

// waitFlags are the flags --wait and --timeout.
type waitFlags struct {
	until   string
	timeout time.Duration
}

func (f *waitFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.until, "wait", "", "wait until every proxy enforces the newest state of the app (enforced), or its mode (active)")
	cmd.Flags().Lookup("wait").NoOptDefVal = waitActive
	cmd.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "how long to wait at most")
}

func (f *waitFlags) check(cmd *cobra.Command, args []string) error {
	switch {
	case f.until != "" && f.until != waitEnforced && f.until != waitActive:
		return usagef("--wait=%s: must be enforced or active", f.until)
	case cmd.Flags().Changed("wait") && len(args) > 0 && (args[0] == waitEnforced || args[0] == waitActive):
		// pflag takes "--wait enforced" as a bare flag and an argument.
		return usagef("write --wait=%s: the value needs an equals sign", args[0])
	case f.timeout < 0:
		return usagef("--timeout %s: must not be negative", f.timeout)
	}
	return nil
}

// await waits, if asked for, until the app that was just turned on or off has the wanted status. It
// gives up when the app is toggled back or the time is over.
func (f *waitFlags) await(ctx context.Context, api *client, st keeper.AppStatus, on bool) (keeper.AppStatus, error) {
	if f.until == "" {
		return st, nil
	}

	deadline := time.Now().Add(f.timeout)
	for {
		switch isOn := st.Mode != maintenance.Off; {
		case on && !isOn:
			return st, fmt.Errorf("app %s was turned off while waiting", st.App)
		case !on && isOn:
			return st, fmt.Errorf("app %s was turned on again while waiting", st.App)
		case f.reached(st):
			return st, nil
		}

		left := time.Until(deadline)
		if left <= 0 {
			return st, f.timedOut(st)
		}

		var err error
		if st, err = api.appStatus(ctx, st.App, f.until, min(longestPoll, left.Round(time.Second))); err != nil {
			return st, err
		}
	}
}

func (f *waitFlags) reached(st keeper.AppStatus) bool {
	if f.until == waitActive && st.Mode != maintenance.Off {
		return st.Phase == keeper.PhaseActive
	}
	return st.Enforced
}

func (f *waitFlags) timedOut(st keeper.AppStatus) error {
	var reasons []string
	for _, w := range st.Waiting {
		reasons = append(reasons, strings.TrimSpace(w.Proxy+" "+w.Reason))
	}
	return &codeError{exitTimedOut, fmt.Errorf("app %s is %s, but not %s after %s: %s", st.App, st.Mode, f.until, f.timeout, strings.Join(reasons, "; "))}
}
