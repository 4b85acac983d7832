package cli

import (
	"testing"
	"time"
)

// See [parseTime] and [formatTime], which are the two directions: times that users give, and times
// that commands print.

func TestParseTimeTakesTheNextTimeOfDay(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}

	// In the night after this evening, daylight saving time ends: the offset from UTC changes from
	// two hours to one. A time of day that has passed, or is now, is the one of tomorrow.
	now := time.Date(2026, 10, 24, 21, 30, 0, 0, berlin)
	const wantError = "an error"

	for in, want := range map[string]string{
		"2026-11-21T22:00:00Z":      "2026-11-21T22:00:00Z",
		"2026-11-21T22:00:00+02:00": "2026-11-21T22:00:00+02:00",
		"22:00":                     "2026-10-24T22:00:00+02:00",
		"21:30":                     "2026-10-25T21:30:00+01:00",
		"6:00":                      "2026-10-25T06:00:00+01:00",
		"tomorrow":                  wantError,
		"25:00":                     wantError,
		"":                          wantError,
	} {
		parsed, err := parseTime(in, now)
		got := parsed.Format(time.RFC3339)
		if err != nil {
			got = wantError
		}
		if got != want {
			t.Errorf("%q: %s (error: %v), want %s", in, got, err, want)
		}
	}
}

func TestFormatTimeNamesTheDayUnlessItIsToday(t *testing.T) {
	now := time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)

	for _, c := range []struct {
		t    time.Time
		want string
	}{
		{now.Add(-5 * time.Second), "19:59:55 (5s ago)"},
		{now.Add(90 * time.Minute), "21:30:00 (in 1h30m)"},
		{now.Add(30 * time.Hour), "2026-11-23 02:00 (in 30h00m)"},
		{now.Add(-72 * time.Hour), "2026-11-18 20:00 (3d ago)"},
	} {
		if got := formatTime(c.t, now); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
