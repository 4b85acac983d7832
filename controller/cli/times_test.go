package cli

import (
	"testing"
	"time"
)

func TestParseTimeTakesTheNextTimeOfDay(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}

	now := time.Date(2026, 10, 24, 21, 30, 0, 0, berlin) // daylight saving time ends in the night

	for in, want := range map[string]string{
		"2026-11-21T22:00:00Z":      "2026-11-21T22:00:00Z",
		"2026-11-21T22:00:00+02:00": "2026-11-21T22:00:00+02:00",
		"22:00":                     "2026-10-24T22:00:00+02:00",
		"21:30":                     "2026-10-25T21:30:00+01:00",
		"6:00":                      "2026-10-25T06:00:00+01:00",
		"tomorrow":                  "error",
		"25:00":                     "error",
		"":                          "error",
	} {
		got, err := parseTime(in, now)
		if out := got.Format(time.RFC3339); err == nil && out != want || err != nil && want != "error" {
			t.Errorf("%q: %s, %v; want %s", in, out, err, want)
		}
	}
}

func TestMomentNamesTheDayUnlessItIsToday(t *testing.T) {
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
		if got := moment(c.t, now); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
