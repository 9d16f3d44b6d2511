// Package consensus makes the peers agree on one log, and its store (package store) the same on all of them. It elects
// the Master and gives its term as a context, lets it propose, lets everybody read what is newest, and chooses by itself
// which peers vote. It knows nothing of what is stored, nor of gossip: internal/peer passes in who is well and how
// peers call one another. Its one invariant: what Propose acknowledged is on the disks of a majority and every later
// ReadIndex sees it.
package consensus

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"shoal/consensus/store"
)

// Peer is this machine's part in the consensus. All methods but Run are safe for concurrent use, before, during and after
// Run.
type Peer struct {
	cfg   Config
	store *store.Store
	fsm   *fsm

	raft    atomic.Pointer[raft.Raft] // nil until Ready
	logs    *logs                     // set before raft
	trans   carrier                   // set before raft
	began   atomic.Bool
	ready   chan struct{}
	changed signal
	fatal   chan error // why the peer must stop; cap 1, the first counts

	term    atomic.Uint64 // the term this peer is Master of, after the barrier; else zero
	changes chan struct{} // cap 1: held while the membership is changed

	confirms *rounds     // on the Master: is it still?
	asks     *rounds     // elsewhere: what has the Master confirmed?
	begging  atomic.Bool // the Master is being asked to say what is committed
	inflight proposals
	bids     bids
	stalled  signal        // a write of the log takes too long
	resigned atomic.Uint64 // the newest term whose Master wants to be replaced
	handed   atomic.Uint64 // the newest term in which this peer has tried to hand leadership over
}

// New returns a peer that does nothing until Run.
func New(cfg Config) *Peer {
	cfg = cfg.withDefaults()
	p := &Peer{
		cfg:     cfg,
		store:   store.New(),
		ready:   make(chan struct{}),
		fatal:   make(chan error, 1),
		changes: make(chan struct{}, 1),
	}
	p.fsm = &fsm{store: p.store, failed: p.fail, changed: p.changed.fire}
	p.confirms = newRounds(p.confirm)
	p.asks = newRounds(p.askMaster)
	return p
}

// Store returns this peer's replica, which is the same during the peer's whole life.
func (p *Peer) Store() *store.Store { return p.store }

// Ready is closed when what the directory holds has been loaded and the peer takes part.
func (p *Peer) Ready() <-chan struct{} { return p.ready }

// Changed returns a channel that is closed when next the Master, the term, this peer's role or the membership may have
// changed. Get it before reading them.
func (p *Peer) Changed() <-chan struct{} { return p.changed.wait() }

// Term returns the newest term this peer knows of, whoever leads it.
func (p *Peer) Term() uint64 {
	if r := p.raft.Load(); r != nil {
		return r.CurrentTerm()
	}
	return 0
}

// Leader returns the Master as far as this peer knows; false when there is none. It names this peer only once it has
// applied all that earlier Masters did.
func (p *Peer) Leader() (PeerID, bool) {
	r := p.raft.Load()
	if r == nil {
		return "", false
	}
	if p.term.Load() != 0 {
		return p.cfg.ID, true
	}
	_, id := r.LeaderWithID()
	if id == "" || PeerID(id) == p.cfg.ID {
		return "", false
	}
	return PeerID(id), true
}

func (p *Peer) fail(err error) {
	select {
	case p.fatal <- err:
	default:
	}
}

// signal is a "something changed": whoever waits gets a channel that the next fire closes.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// await asks Raft for something and waits for the answer as long as ctx allows. Raft answers what it has taken, at the latest
// when it steps down, so the goroutine ends then. It forgets what it has taken when it shuts down, so Run waits for the
// answer before that, as for a proposal's; after that, await fails with ErrNotMaster.
func (p *Peer) await(ctx context.Context, ask func(*raft.Raft) raft.Future) error {
	if !p.inflight.enter() {
		return ErrNotMaster
	}
	f := ask(p.raft.Load())
	done := make(chan error, 1)
	go func() {
		defer p.inflight.leave()
		done <- f.Error()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
