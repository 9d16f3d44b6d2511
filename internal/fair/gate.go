// Package fair divides what a peer can do at once among those who ask it, so that who asks a lot waits for themselves and not others for
// them. It knows nothing of HTTP: the API's server has a Gate for each thing that is scarce, and what waits below it says so to the Seat
// in its context.
//
// Who a request belongs to is both its user and its namespace: a user who floods many namespaces is one user, and many users (or
// accounts of pods) that flood one namespace are one tenant. Each of the two has had so much of the seats' time, and what counts for a
// request is the one that has had more. Among those of one namespace the user who has had less goes first, so that somebody who
// floods another's namespace does not push its owner aside.
//
// Its invariant: a seat that is free is taken by the waiting request whose user and namespace have had least, unless that user or namespace
// has its share of seats already. So who asks rarely is next whenever a seat becomes free, however many others wait.
package fair

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// ErrTooMany is for who has most requests here when there is no room for more: nothing was done, and they may come again.
var ErrTooMany = errors.New("too many requests, please try again later")

// Config is complete when passed to New.
type Config struct {
	// Seats is how many are held at once, Share how many of them by one user, or in one namespace (about), and Alone how many by one when nobody else
	// has been here for a while. At least one; Alone is at least Share.
	Seats, Share, Alone int
	// Most is how many requests may be here: waiting, seated, or waiting for something else meanwhile.
	Most int
	// Now is a clock that only goes forward. Nil: the machine's.
	Now func() time.Duration
}

// Flow is who a request belongs to. Without a namespace only the user counts.
type Flow struct{ User, Namespace string }

// Gate hands out seats. It is safe for concurrent use.
type Gate struct {
	cfg     Config
	waiting atomic.Int64 // for Pause, which mostly finds none

	mu       sync.Mutex
	free     int
	present  int
	latest   *account      // the user who came last
	another  time.Duration // when it last was another one than before; so long ago that it does not matter, at first
	clock    time.Duration // the account of whom a seat was given to last: who comes back has had at least this
	accounts map[party]*account
	sweepAt  int // how many accounts there are when the useless ones are next removed
	queues   map[Flow]*queue
	order    []*queue // those of queues, in no order that matters
	stats    Stats
}

// party is a user or a namespace.
type party struct {
	namespace bool
	name      string
}

// account is what a party has had, and has.
type account struct {
	party   party
	had     time.Duration // seats' time, counted from where others were when it came
	held    int
	present int
	refs    int // requests that are not over, present or lingering
}

// New returns a gate whose seats are all free.
func New(c Config) *Gate {
	c.Seats, c.Share = max(c.Seats, 1), max(c.Share, 1)
	c.Alone = max(c.Alone, c.Share)
	if c.Now == nil {
		begun := time.Now()
		c.Now = func() time.Duration { return time.Since(begun) }
	}
	return &Gate{another: c.Now() - aloneAfter, cfg: c, free: c.Seats, accounts: map[party]*account{}, queues: map[Flow]*queue{}, sweepAt: sweepFrom}
}

// aloneAfter is how long nobody else must have been here for a user to be alone.
const aloneAfter = 10 * time.Second

// noteLocked notes who comes.
func (g *Gate) noteLocked(user *account) {
	if g.latest != user {
		if g.latest != nil {
			g.another = g.cfg.Now()
		}
		g.latest = user
	}
}

// shareLocked is how many seats one may hold now.
func (g *Gate) shareLocked() int {
	if g.cfg.Alone > g.cfg.Share && g.cfg.Now()-g.another >= aloneAfter {
		return g.cfg.Alone
	}
	return g.cfg.Share
}

// sweepFrom is from how many accounts on it is worth looking for useless ones.
const sweepFrom = 256

func (g *Gate) accountLocked(p party) *account {
	a := g.accounts[p]
	if a == nil {
		if len(g.accounts) >= g.sweepAt {
			g.sweepLocked()
		}
		a = &account{party: p}
		g.accounts[p] = a
	}
	return a
}

// sweepLocked forgets who is not here and has had no more than others: they would begin anew with the same.
func (g *Gate) sweepLocked() {
	for p, a := range g.accounts {
		if a.refs == 0 && a.had <= g.clock {
			delete(g.accounts, p)
		}
	}
	g.sweepAt = max(sweepFrom, 2*len(g.accounts))
}

// roomLocked reports whether s may hold a seat now.
func (g *Gate) roomLocked(s *Seat) bool {
	return g.free > 0 && within(g.shareLocked(), s.user, s.space)
}

// within reports whether a user in a namespace may have one more. Who has none may have one although others have the namespace's share, unless they are
// many: slow clients of one user must not shut a namespace for its owner.
func within(share int, user, space *account) bool {
	switch {
	case user.held >= share:
		return false
	case space == nil || space.held < share:
		return true
	}
	return user.held == 0 && space.held < 2*share
}

// grantLocked gives s a seat.
func (g *Gate) grantLocked(s *Seat) {
	g.clock = max(g.clock, s.user.had)
	if s.space != nil {
		g.clock = max(g.clock, s.space.had)
	}
	s.since, s.state = g.cfg.Now(), seated
	g.free--
	g.stats.Granted++
	s.user.begin(g.clock)
	if s.space != nil {
		s.space.begin(g.clock)
	}
}

// takeBackLocked frees the seat of s and lets the next ones in.
func (g *Gate) takeBackLocked(s *Seat) {
	took := g.cfg.Now() - s.since
	g.free++
	s.state = away
	s.user.end(took)
	if s.space != nil {
		s.space.end(took)
	}
	g.admitLocked()
}

func (a *account) begin(clock time.Duration) {
	a.held++
	a.had = max(a.had, clock)
}

func (a *account) end(took time.Duration) {
	a.held--
	a.had += took
}

// admitLocked gives free seats to who waits.
func (g *Gate) admitLocked() {
	for g.free > 0 {
		q := g.nextLocked()
		if q == nil {
			return
		}
		s := q.first()
		g.removeLocked(s)
		g.grantLocked(s)
		s.wakeLocked()
	}
}
