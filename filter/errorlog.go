package main

import (
	"fmt"
	"maps"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
)

// Bounds on the log.
const (
	// errorQuiet is how long an error must not have happened before it is logged again.
	errorQuiet = time.Hour
	// maxErrorTexts is how many texts an errorLog distinguishes. When it has so many that are not
	// older than errorQuiet, all others count as one text, which says that there are more.
	maxErrorTexts = 64
)

// errorLog counts every error, and logs each text once for as long as the error goes on, which
// means that it happens again within errorQuiet.
type errorLog struct {
	counter proxywasm.MetricCounter
	lastAt  map[string]time.Time // when each logged text last happened
}

func newErrorLog(counter proxywasm.MetricCounter) errorLog {
	return errorLog{counter: counter, lastAt: make(map[string]time.Time)}
}

// reportf counts an error and logs it if it is new.
func (l *errorLog) reportf(format string, args ...any) {
	l.counter.Increment(1)

	text, now := fmt.Sprintf(format, args...), time.Now()
	last, known := l.lastAt[text]
	if !known && len(l.lastAt) >= maxErrorTexts {
		maps.DeleteFunc(l.lastAt, func(_ string, last time.Time) bool { return now.Sub(last) >= errorQuiet })
		if len(l.lastAt) >= maxErrorTexts {
			text = "too many different errors; further ones are counted but not logged"
			last, known = l.lastAt[text]
		}
	}

	l.lastAt[text] = now
	if !known || now.Sub(last) >= errorQuiet {
		proxywasm.LogErrorf("drydock: %s", text)
	}
}

// clear forgets all errors: their cause is over, so the next ones are logged again.
func (l *errorLog) clear() { clear(l.lastAt) }
