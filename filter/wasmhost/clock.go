package wasmhost

import (
	"sync"
	"time"
)

// Clock is the time that modules see. Several VMs may call both functions at once.
type Clock struct {
	Wall func() time.Time     // the wall-clock time; nil: time.Now
	Mono func() time.Duration // the monotonic time since any point in the past, always positive; nil: real time
}

// ManualClock is a clock that a test moves.
type ManualClock struct {
	mu   sync.Mutex
	wall time.Time
	mono time.Duration
}

// NewManualClock returns a clock that stands still at the given wall-clock time.
func NewManualClock(start time.Time) *ManualClock { return &ManualClock{wall: start} }

// Clock returns the clock in the form that [Config] takes.
func (c *ManualClock) Clock() Clock { return Clock{Wall: c.Now, Mono: c.elapsed} }

// Now returns the wall-clock time.
func (c *ManualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.wall
}

// Advance moves the wall clock and the monotonic clock forward by d.
func (c *ManualClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.wall, c.mono = c.wall.Add(d), c.mono+d
}

// Set changes the wall-clock time alone, as NTP or an operator does.
func (c *ManualClock) Set(wall time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.wall = wall
}

// elapsed returns the monotonic time. It advances by a nanosecond on each call, because Go's
// scheduler spins until its monotonic clock changes.
func (c *ManualClock) elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.mono++
	return c.mono
}
