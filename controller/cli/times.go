package cli

import (
	"fmt"
	"time"
)

// parseTime parses a time that a user gives, in one of two forms: RFC 3339, or HH:MM for the next
// time after now at which clocks in the time zone of now show HH:MM, today or tomorrow.
func parseTime(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	clock, err := time.Parse("15:04", s) // only its hour and minute have a meaning
	if err != nil {
		return time.Time{}, fmt.Errorf("%q: must be RFC 3339 such as 2026-11-21T22:00:00Z, or HH:MM in local time", s)
	}

	t := time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), 0, 0, now.Location())
	if !t.After(now) {
		// Not 24 hours later, because the day on which daylight saving time changes has 23 or 25.
		t = time.Date(now.Year(), now.Month(), now.Day()+1, clock.Hour(), clock.Minute(), 0, 0, now.Location())
	}
	return t, nil
}

// formatTime returns a time for people, in the time zone of now: the time of day, or the date and
// the time on another day than today, and how far away it is, as in "21:30:00 (in 1h30m)".
func formatTime(t, now time.Time) string {
	t = t.In(now.Location())
	layout := "15:04:05"
	if t.Format(time.DateOnly) != now.Format(time.DateOnly) {
		layout = "2006-01-02 15:04"
	}

	away := t.Sub(now)
	if away < 0 {
		return fmt.Sprintf("%s (%s ago)", t.Format(layout), formatDuration(-away))
	}
	return fmt.Sprintf("%s (in %s)", t.Format(layout), formatDuration(away))
}

// formatEnd returns when maintenance ends, in words that can follow "until": a time as formatTime
// returns it, or "turned off" if until is zero because no end is set.
func formatEnd(until, now time.Time) string {
	if until.IsZero() {
		return "turned off"
	}
	return formatTime(until, now)
}

// formatDuration returns a duration in one unit that suits its length, such as 5s, 40m or 3d, and
// from an hour to two days in hours and minutes, such as 1h30m. It rounds down.
func formatDuration(d time.Duration) string {
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
