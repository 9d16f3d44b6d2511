package fair

import (
	"context"
	"time"
)

// Seat is one request's place at a gate. The zero value, and nil, are a request that need not wait: all methods do nothing. A Seat is used for one
// request. It is safe for concurrent use, for those who work for one request together.
type Seat struct {
	gate        *Gate
	flow        Flow
	user, space *account
	gone        <-chan struct{} // closed when nobody waits for the request any more
	ready       chan struct{}

	// What follows is the gate's.
	state         state
	entered, over bool
	uncounted     bool // among those present
	refused       bool
	yields        int // that have not been resumed
	since         time.Duration
	before, after *Seat
}

type state uint8

const (
	away    state = iota // waits for something else, or is over
	waiting              // for a seat
	seated
)

// Enter waits for a seat, and whatever waits for it later does so until ctx ends, which is the request's own. The errors are ErrTooMany and that of ctx; then there is nothing to leave.
func (s *Seat) Enter(ctx context.Context, g *Gate, f Flow) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.gate, s.flow, s.gone = g, f, ctx.Done()
	s.user = g.accountLocked(party{name: f.User})
	if f.Namespace != "" {
		s.space = g.accountLocked(party{namespace: true, name: f.Namespace})
	}
	g.noteLocked(s.user)
	s.referLocked(1)
	s.countLocked(1)
	if g.present > g.cfg.Most {
		g.makeRoomLocked(s)
	}
	if !s.over {
		s.takeLocked()
	}
	if s.state == seated {
		s.entered = true
		return nil
	}
	s.leaveLocked()
	if s.refused {
		return ErrTooMany
	}
	return context.Cause(ctx)
}

// makeRoomLocked refuses the newest request of the biggest crowd, which may be that of s, who has just come.
func (g *Gate) makeRoomLocked(s *Seat) {
	if q := g.crowdLocked(s); q != nil {
		s = q.fresh.last
	}
	s.refused = true
	s.leaveLocked()
	g.stats.Rejected++
}

// countLocked notes that a request has come, or gone.
func (s *Seat) countLocked(n int) {
	s.gate.present += n
	s.user.present += n
	if s.space != nil {
		s.space.present += n
	}
}

func (s *Seat) referLocked(n int) {
	s.user.refs += n
	if s.space != nil {
		s.space.refs += n
	}
}

// takeLocked waits for a seat until the request is over. It lets the lock go meanwhile.
func (s *Seat) takeLocked() {
	g := s.gate
	if g.roomLocked(s) {
		g.grantLocked(s)
		return
	}
	if s.ready == nil {
		s.ready = make(chan struct{}, 1)
	}
	g.addLocked(s)
	begun := g.cfg.Now()
	g.mu.Unlock()
	select {
	case <-s.ready:
		g.mu.Lock()
	case <-s.gone:
		g.mu.Lock()
		if s.state == waiting {
			g.removeLocked(s)
		} else {
			<-s.ready // it was woken at the same time
		}
	}
	g.stats.Waited++
	g.stats.WaitedFor += g.cfg.Now() - begun
}

// wakeLocked tells the one who waits that the waiting is over.
func (s *Seat) wakeLocked() { s.ready <- struct{}{} }

// Leave gives the seat back for good. Work that goes on for the request goes on without.
func (s *Seat) Leave() {
	if s == nil || s.gate == nil {
		return
	}
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	s.leaveLocked()
}

func (s *Seat) leaveLocked() {
	if s.over {
		return
	}
	s.over = true
	s.referLocked(-1)
	if !s.uncounted {
		s.countLocked(-1)
	}
	switch s.state {
	case seated:
		s.gate.takeBackLocked(s)
	case waiting:
		s.gate.removeLocked(s)
		s.wakeLocked()
	}
}

// Linger tells that the request lasts as long as who sent it wants, and mostly waits: it does not count as present any more.
func (s *Seat) Linger() {
	if s == nil || s.gate == nil {
		return
	}
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	if !s.over && !s.uncounted {
		s.uncounted = true
		s.countLocked(-1)
	}
}

// Yield gives the seat back while the request waits for something else. Each is followed by a Resume.
func (s *Seat) Yield() {
	if s == nil || s.gate == nil {
		return
	}
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	if s.yields++; s.yields == 1 && s.state == seated {
		s.gate.takeBackLocked(s)
	}
}

// Resume waits for the seat again, before all new requests of the flow. When its client gives up, the request goes on without a seat: it has
// little left to do.
func (s *Seat) Resume() {
	if s == nil || s.gate == nil {
		return
	}
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	if s.yields--; s.yields == 0 && s.state == away && !s.over {
		s.takeLocked()
	}
}

// Pause lets others go first whose turn it is. What takes long calls it again and again.
func (s *Seat) Pause() {
	if s == nil || s.gate == nil || s.gate.waiting.Load() == 0 {
		return
	}
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	if s.state != seated {
		return
	}
	s.settleLocked()
	if q := s.gate.nextWithoutLocked(s); q != nil && q.beforeThat(&queue{user: s.user, space: s.space}) {
		s.gate.takeBackLocked(s)
		s.takeLocked()
	}
}

// settleLocked counts what the seat has been held for so far.
func (s *Seat) settleLocked() {
	now := s.gate.cfg.Now()
	s.user.had += now - s.since
	if s.space != nil {
		s.space.had += now - s.since
	}
	s.since = now
}

type seatKey struct{}

// With returns a context of the request that s is the seat of.
func With(ctx context.Context, s *Seat) context.Context { return context.WithValue(ctx, seatKey{}, s) }

// Yield gives back the seat of the request that ctx belongs to, which waits for something else than its turn. Resume waits for it again, however short
// the time that ctx gave for that something.
func Yield(ctx context.Context) (resume func()) {
	s := SeatOf(ctx)
	if s == nil || s.gate == nil {
		return func() {}
	}
	s.Yield()
	return s.Resume
}

// SeatOf returns the seat of the request that ctx belongs to; nil, which is as good, in contexts that belong to none.
func SeatOf(ctx context.Context) *Seat {
	s, _ := ctx.Value(seatKey{}).(*Seat)
	return s
}
