package maintenance_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests in which mode an app is at a given time: by its activations, and by the windows
// that open and close. All times are on one day, and are written as "12:00:00".

// TestStrictestActivationDecides checks which of several activations determines the mode, and when
// the mode ends. The strictest one decides, and among those of one mode the one that began last.
// The mode ends when the last of these ends, or at no known time if one of them has no end.
func TestStrictestActivationDecides(t *testing.T) {
	const ro, no = maintenance.ReadOnly, maintenance.NoAccess
	for _, c := range []struct {
		name        string
		activations []maintenance.Activation
		now         string
		mode        maintenance.Mode
		id          string // of the activation that determines the mode; "" if the mode is off
		until       string // when the mode ends; "" if that is not known
	}{
		{"none", nil, "12:00:00", maintenance.Off, "", ""},
		{"one", []maintenance.Activation{newActivation("a", ro, "11:00:00", "")}, "12:00:00", ro, "a", ""},
		{"one with an end", []maintenance.Activation{newActivation("a", ro, "11:00:00", "13:00:00")}, "12:00:00", ro, "a", "13:00:00"},
		{"just before its end", []maintenance.Activation{newActivation("a", ro, "11:00:00", "13:00:00")}, "12:59:59.999999999", ro, "a", "13:00:00"},
		{"at its end", []maintenance.Activation{newActivation("a", ro, "11:00:00", "13:00:00")}, "13:00:00", maintenance.Off, "", ""},
		{"since is in the future, because the clock of the proxy is behind", []maintenance.Activation{newActivation("a", ro, "11:00:00", "13:00:00")}, "10:00:00", ro, "a", "13:00:00"},
		{"the stricter first", []maintenance.Activation{newActivation("a", no, "10:00:00", ""), newActivation("b", ro, "11:00:00", "")}, "12:00:00", no, "a", ""},
		{"the stricter last", []maintenance.Activation{newActivation("a", ro, "11:00:00", ""), newActivation("b", no, "10:00:00", "13:00:00")}, "12:00:00", no, "b", "13:00:00"},
		{"the stricter has ended", []maintenance.Activation{newActivation("a", no, "09:00:00", "10:00:00"), newActivation("b", ro, "11:00:00", "13:00:00")}, "12:00:00", ro, "b", "13:00:00"},
		{"equals, the later last", []maintenance.Activation{newActivation("a", ro, "10:00:00", ""), newActivation("b", ro, "11:00:00", "")}, "12:00:00", ro, "b", ""},
		{"equals, the later first", []maintenance.Activation{newActivation("a", ro, "11:00:00", ""), newActivation("b", ro, "10:00:00", "")}, "12:00:00", ro, "a", ""},
		{"equals that began at the same time", []maintenance.Activation{newActivation("a", ro, "11:00:00", ""), newActivation("b", ro, "11:00:00", "")}, "12:00:00", ro, "a", ""},
		{"the last end of equals", []maintenance.Activation{newActivation("a", ro, "10:00:00", "14:00:00"), newActivation("b", ro, "11:00:00", "13:00:00")}, "12:00:00", ro, "b", "14:00:00"},
		{"the last end of equals, the other way round", []maintenance.Activation{newActivation("a", ro, "10:00:00", "13:00:00"), newActivation("b", ro, "11:00:00", "14:00:00")}, "12:00:00", ro, "b", "14:00:00"},
		{"one of the equals has no end", []maintenance.Activation{newActivation("a", ro, "10:00:00", "14:00:00"), newActivation("b", ro, "11:00:00", "")}, "12:00:00", ro, "b", ""},
		{"one of the equals has no end, the other way round", []maintenance.Activation{newActivation("a", ro, "10:00:00", ""), newActivation("b", ro, "11:00:00", "14:00:00")}, "12:00:00", ro, "b", ""},
		{"the end of a laxer one does not matter", []maintenance.Activation{newActivation("a", ro, "10:00:00", ""), newActivation("b", no, "11:00:00", "14:00:00"), newActivation("c", ro, "11:30:00", "23:00:00")}, "12:00:00", no, "b", "14:00:00"},
		{"the end of a laxer one before it does not matter", []maintenance.Activation{newActivation("a", ro, "10:00:00", "23:00:00"), newActivation("b", no, "11:00:00", "")}, "12:00:00", no, "b", ""},
		{"several activations, the next takes over", []maintenance.Activation{newActivation("a", ro, "10:00:00", "14:00:00"), newActivation("b", no, "11:00:00", "13:00:00")}, "13:00:00", ro, "a", "14:00:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustCompile(t, defaultAppWith(func(a *maintenance.App) { a.Activations = c.activations }))
			d := s.Decide(request("POST", "h", "/"), todayAt(c.now))

			id, until := "", ""
			if d.Activation != nil {
				id = d.Activation.ID
			}
			if !d.Until.IsZero() {
				until = d.Until.Format("15:04:05")
			}
			if d.Mode != c.mode || id != c.id || until != c.until {
				t.Errorf("%s by %q until %q, want %s by %q until %q", d.Mode, id, until, c.mode, c.id, c.until)
			}
		})
	}
}

// A window opens and closes by the clock of the proxy, even if the controller cannot be reached. It
// is public from half an hour before it opens (announce). The state is idle, so that no request
// needs to be decided, until it becomes public.
func TestWindowsOpenAndCloseByThemselves(t *testing.T) {
	window := maintenance.Window{ID: "w", Mode: maintenance.NoAccess, Message: "planned", Announce: 1800, Occurrences: []maintenance.Occurrence{
		{Start: todayAt("14:00:00"), End: todayAt("15:00:00")},
		{Start: todayAt("17:00:00"), End: todayAt("18:00:00")},
	}}
	s := mustCompile(t, defaultAppWith(func(a *maintenance.App) { a.Windows = []maintenance.Window{window} }))

	for _, c := range []struct {
		now   string
		mode  maintenance.Mode
		next  string // when the announced window opens; "" if none is announced
		idle  bool
		until string // until when idle stays so; "" if for good
	}{
		{"12:00:00", maintenance.Off, "", true, "13:30:00"},
		{"13:29:59.999999999", maintenance.Off, "", true, "13:30:00"},
		{"13:30:00", maintenance.Off, "14:00:00", false, "14:00:00"},
		{"13:59:59.999999999", maintenance.Off, "14:00:00", false, "14:00:00"},
		{"14:00:00", maintenance.NoAccess, "", false, "15:00:00"},
		{"14:59:59.999999999", maintenance.NoAccess, "", false, "15:00:00"},
		{"15:00:00", maintenance.Off, "", true, "16:30:00"},
		{"16:30:00", maintenance.Off, "17:00:00", false, "17:00:00"},
		{"17:00:00", maintenance.NoAccess, "", false, "18:00:00"},
		{"18:00:00", maintenance.Off, "", true, ""},
		{"12:30:00", maintenance.Off, "", true, "13:30:00"}, // a clock that was set back
	} {
		now := todayAt(c.now)
		idle, until := s.Idle(now)
		untilText := ""
		if !until.IsZero() {
			untilText = until.Format("15:04:05")
		}
		if idle != c.idle || untilText != c.until {
			t.Errorf("%s: idle %v until %q, want %v until %q", c.now, idle, untilText, c.idle, c.until)
		}

		d := s.Decide(get("h", "/"), now)
		if d.Mode != c.mode {
			t.Errorf("%s: %s, want %s", c.now, d.Mode, c.mode)
		}
		if d.Activation != nil && (d.Activation.Source != maintenance.SourceWindow || d.Activation.ID != "w" || d.Activation.Message != "planned" || d.Until.Format("15:04:05") != c.until) {
			t.Errorf("%s: in %+v until %v", c.now, d.Activation, d.Until)
		}

		st, _ := s.Status(maintenance.DefaultApp, now)
		next := ""
		if st.Next != nil {
			next = st.Next.Start.Format("15:04:05")
		}
		if next != c.next {
			t.Errorf("%s: announces %q, want %q", c.now, next, c.next)
		}
	}
}

// Windows that are open count like activations, and are compared with them in the same way.
func TestWindowsAndActivationsTogether(t *testing.T) {
	window := func(id string, mode maintenance.Mode, announce int, start, end string) maintenance.Window {
		return maintenance.Window{ID: id, Mode: mode, Announce: announce, Occurrences: []maintenance.Occurrence{{Start: todayAt(start), End: todayAt(end)}}}
	}
	const ro, no = maintenance.ReadOnly, maintenance.NoAccess

	for _, c := range []struct {
		name            string
		app             maintenance.App
		now             string
		mode            maintenance.Mode
		id, until, next string // of the activation or window; its end; the start of the next window
	}{
		{
			name: "an activation in a window's place, as the controller publishes it, changes nothing",
			app: defaultAppWith(func(a *maintenance.App) {
				a.Windows = []maintenance.Window{window("w", no, 0, "11:00:00", "13:00:00")}
				a.Activations = []maintenance.Activation{newActivation("w", no, "11:00:00", "13:00:00")}
			}),
			now: "12:00:00", mode: no, id: "w", until: "13:00:00",
		},
		{
			name: "a manual one without an end beside a window",
			app: defaultAppWith(func(a *maintenance.App) {
				a.Windows = []maintenance.Window{window("w", no, 0, "11:00:00", "13:00:00")}
				a.Activations = []maintenance.Activation{newActivation("a", no, "10:00:00", "")}
			}),
			now: "12:00:00", mode: no, id: "w", until: "",
		},
		{
			name: "a stricter window within a laxer one",
			app: defaultAppWith(func(a *maintenance.App) {
				a.Windows = []maintenance.Window{window("lax", ro, 0, "11:00:00", "15:00:00"), window("strict", no, 0, "11:30:00", "13:00:00")}
			}),
			now: "12:00:00", mode: no, id: "strict", until: "13:00:00",
		},
		{
			name: "the laxer one after it",
			app: defaultAppWith(func(a *maintenance.App) {
				a.Windows = []maintenance.Window{window("lax", ro, 0, "11:00:00", "15:00:00"), window("strict", no, 0, "11:30:00", "13:00:00")}
			}),
			now: "13:00:00", mode: ro, id: "lax", until: "15:00:00",
		},
		{
			name: "the nearest of two that are announced",
			app: defaultAppWith(func(a *maintenance.App) {
				a.Windows = []maintenance.Window{window("later", no, 86400, "15:00:00", "16:00:00"), window("sooner", ro, 86400, "14:00:00", "15:00:00")}
			}),
			now: "12:00:00", mode: maintenance.Off, next: "14:00:00",
		},
		{
			name: "the next is announced while one is on",
			app: defaultAppWith(func(a *maintenance.App) {
				a.Windows = []maintenance.Window{window("now", ro, 0, "11:00:00", "13:00:00"), window("next", no, 86400, "14:00:00", "15:00:00")}
			}),
			now: "12:00:00", mode: ro, id: "now", until: "13:00:00", next: "14:00:00",
		},
		{
			name: "adjoining occurrences leave no gap",
			app: defaultAppWith(func(a *maintenance.App) {
				a.Windows = []maintenance.Window{{ID: "w", Mode: no, Occurrences: []maintenance.Occurrence{{Start: todayAt("11:00:00"), End: todayAt("12:00:00")}, {Start: todayAt("12:00:00"), End: todayAt("13:00:00")}}}}
			}),
			now: "12:00:00", mode: no, id: "w", until: "13:00:00",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustCompile(t, c.app)
			d := s.Decide(get("h", "/"), todayAt(c.now))
			st, _ := s.Status(maintenance.DefaultApp, todayAt(c.now))
			id, until, next := "", "", ""
			if d.Activation != nil {
				id = d.Activation.ID
			}
			if !d.Until.IsZero() {
				until = d.Until.Format("15:04:05")
			}
			if st.Next != nil {
				next = st.Next.Start.Format("15:04:05")
			}
			if d.Mode != c.mode || id != c.id || until != c.until || next != c.next {
				t.Errorf("%s by %q until %q, next %q", d.Mode, id, until, next)
			}
		})
	}
}

// While a state is idle, every request passes and the filter need not ask for a decision.
func TestStateWithoutMaintenanceIsIdle(t *testing.T) {
	for _, c := range []struct {
		name  string
		doc   string
		idle  bool
		until string // until when idle stays so; "" if for good
	}{
		{"no apps", `{}`, true, ""},
		{"apps that are off", `{"apps":[{"name":"shop","match":{"paths":["/"]}},{"name":"default"}]}`, true, ""},
		{"one app is on", `{"apps":[{"name":"shop","match":{"paths":["/a"]},` + activationJSON(maintenance.ReadOnly) + `}]}`, false, ""},
		{"an activation that ends", `{"apps":[{"name":"default","activations":[{"id":"a","source":"file","mode":"read-only","since":"2026-11-21T11:00:00Z","until":"2026-11-21T12:30:00Z"}]}]}`, false, "12:30:00"},
		{"an activation that has ended", `{"apps":[{"name":"default","activations":[{"id":"a","source":"file","mode":"read-only","since":"2026-11-21T11:00:00Z","until":"2026-11-21T12:00:00Z"}]}]}`, true, ""},
		{"a window of another day", `{"apps":[{"name":"default","windows":[{"id":"w","mode":"read-only","announce":60,"occurrences":[{"start":"2026-11-22T00:01:00Z","end":"2026-11-22T01:00:00Z"}]}]}]}`, true, "00:00:00"},
	} {
		idle, until := mustParse(t, c.doc).Idle(noon)
		text := ""
		if !until.IsZero() {
			text = until.Format("15:04:05")
		}
		if idle != c.idle || text != c.until {
			t.Errorf("%s: %v until %q", c.name, idle, text)
		}
	}
}

// The controller uses one state in many goroutines, which ask about different times. The app is in
// no-access in the first half of each hour from 0:00 to 22:30. Every i asks about some hour: about
// a quarter past if i is even, and a quarter to if it is odd.
func TestStateIsSafeForConcurrentUse(t *testing.T) {
	s := mustCompile(t, defaultAppWith(func(a *maintenance.App) {
		for hour := range 23 {
			a.Windows = append(a.Windows, maintenance.Window{ID: fmt.Sprint("w", hour), Mode: maintenance.NoAccess, Occurrences: []maintenance.Occurrence{{Start: todayAt(fmt.Sprintf("%02d:00:00", hour)), End: todayAt(fmt.Sprintf("%02d:30:00", hour))}}})
		}
	}))
	var all sync.WaitGroup

	for g := range 4 {
		all.Go(func() {
			for i := range 500 {
				hour := time.Duration((i*7+g)%23) * time.Hour
				isOpen := i%2 == 1
				now := todayAt("00:15:00").Add(hour)
				if isOpen {
					now = now.Add(30 * time.Minute)
				}

				if d := s.Decide(get("h", "/"), now); isOpen != (d.Verdict == maintenance.Pass) {
					t.Errorf("%v: %v", now, d.Verdict)
				}
			}
		})
	}

	all.Wait()
}
