package wasmhost

import (
	"sync"
	"time"
)

// Clock is the time that modules see. Both functions are called by several VMs at once.
type Clock struct {
	Wall func() time.Time     // nil: time.Now
	Mono func() time.Duration // since an arbitrary point, never zero, never falling. Nil: real time
}

// ManualClock is a clock that a test moves. It starts at the time given to [NewManualClock].
type ManualClock struct {
	mu   sync.Mutex
	wall time.Time
	mono time.Duration
}

// NewManualClock makes a clock that stands still at the given time.
func NewManualClock(start time.Time) *ManualClock { return &ManualClock{wall: start} }

// Clock is the clock in the form that [Config] takes.
func (c *ManualClock) Clock() Clock { return Clock{Wall: c.Now, Mono: c.elapsed} }

// Now is the wall time.
func (c *ManualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

// Advance lets time pass.
func (c *ManualClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.mono = c.wall.Add(d), c.mono+d
}

// Set moves the wall time alone, as NTP or an operator does.
func (c *ManualClock) Set(wall time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = wall
}

// elapsed moves on by a nanosecond at each look, because Go's scheduler spins until its monotonic clock does.
func (c *ManualClock) elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mono++
	return c.mono
}
