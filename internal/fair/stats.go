package fair

import (
	"sync"
	"time"
)

// Stats are a gate's figures.
type Stats struct {
	Seats     int // that there are
	Held      int
	Waiting   int
	Present   int           // waiting, seated, or waiting for something else
	Parties   int           // users and namespaces that are remembered
	Granted   uint64        // seats since the start; one request has several turns
	Rejected  uint64        // requests since the start
	Waited    uint64        // turns that had to wait
	WaitedFor time.Duration // all of those together
}

// Stats returns the figures of the moment.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.Seats, s.Held, s.Waiting, s.Present, s.Parties = g.cfg.Seats, g.cfg.Seats-g.free, int(g.waiting.Load()), g.present, len(g.accounts)
	return s
}

// Limit bounds how many of something each user has. It is safe for concurrent use.
type Limit struct {
	most int

	mu       sync.Mutex
	has      map[string]int
	all      int
	rejected uint64
}

// NewLimit returns a limit of most for each.
func NewLimit(most int) *Limit { return &Limit{most: most, has: map[string]int{}} }

// Take reports whether the user may have one more, and counts it.
func (l *Limit) Take(user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.has[user] >= l.most {
		l.rejected++
		return false
	}
	l.has[user]++
	l.all++
	return true
}

// GiveBack ends one that was taken.
func (l *Limit) GiveBack(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.has[user]--; l.has[user] == 0 {
		delete(l.has, user)
	}
}

// Stats returns how many there are, and how many were refused since the start.
func (l *Limit) Stats() (all int, rejected uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all, l.rejected
}
