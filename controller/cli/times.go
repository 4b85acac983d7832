package cli

import (
	"fmt"
	"time"
)

// parseTime parses a time in RFC 3339, or the next HH:MM in the location of now.
func parseTime(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	clock, err := time.Parse("15:04", s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q: must be RFC 3339 such as 2026-11-21T22:00:00Z, or HH:MM in local time", s)
	}

	t := time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), 0, 0, now.Location())
	if !t.After(now) {
		t = time.Date(now.Year(), now.Month(), now.Day()+1, clock.Hour(), clock.Minute(), 0, 0, now.Location())
	}
	return t, nil
}

// moment returns a time as people read it: the time of day, the date unless it is today, and how
// far away it is.
func moment(t, now time.Time) string {
	t = t.In(now.Location())
	layout := "15:04:05"
	if t.Format(time.DateOnly) != now.Format(time.DateOnly) {
		layout = "2006-01-02 15:04"
	}

	away := t.Sub(now)
	if away < 0 {
		return fmt.Sprintf("%s (%s ago)", t.Format(layout), rounded(-away))
	}
	return fmt.Sprintf("%s (in %s)", t.Format(layout), rounded(away))
}

// endOf returns when maintenance ends, as in "until 22:00:00 (in 1h30m)" or "until turned off".
func endOf(until, now time.Time) string {
	if until.IsZero() {
		return "turned off"
	}
	return moment(until, now)
}

// rounded returns a duration in its largest unit, and with minutes where that is hours.
func rounded(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
