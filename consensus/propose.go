package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"shoal/consensus/store"
)

// patience bounds a proposal whose ctx has no deadline while Raft takes nothing, because its disk stalls.
const patience = 10 * time.Second

// Propose has the Txn committed and applied, and returns what it did: Result.OK is false when a compare did not hold.
// Set Txn.Term to the term the decision was taken in, so that it has no effect in another.
//
// Errors: ErrNotMaster, then nothing was or will be done; ErrUnknownOutcome, then it may yet be done, also when ctx ends
// first; ErrCommand or ErrVersion when the peer cannot go on.
func (p *Peer) Propose(ctx context.Context, t store.Txn) (store.Result, error) {
	r := p.raft.Load()
	if r == nil || r.State() != raft.Leader || !p.inflight.enter() {
		return store.Result{}, ErrNotMaster
	}
	if err := ctx.Err(); err != nil {
		p.inflight.leave()
		return store.Result{}, fmt.Errorf("propose: %w", err)
	}
	wait := patience
	if d, ok := ctx.Deadline(); ok {
		wait = time.Until(d)
	}
	f := r.Apply(encodeCommand(t), max(wait, time.Millisecond))
	done := make(chan error, 1)
	// Ends when Raft answers; Run waits for that before it shuts Raft down.
	go func() {
		defer p.inflight.leave()
		done <- f.Error()
	}()
	select {
	case err := <-done:
		if err != nil {
			return store.Result{}, outcome(err)
		}
	case <-ctx.Done():
		return store.Result{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, context.Cause(ctx))
	}
	switch res := f.Response().(type) {
	case store.Result:
		if res.Stale {
			return store.Result{}, fmt.Errorf("%w: term %d is over", ErrNotMaster, t.Term)
		}
		return res, nil
	case error:
		return store.Result{}, res
	default:
		return store.Result{}, fmt.Errorf("%w: no result", ErrUnknownOutcome)
	}
}

// outcome sorts Raft's errors into those after which the entry certainly is not in the log, and the rest.
func outcome(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotMaster
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("propose: %w", context.DeadlineExceeded)
	default:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
}

// proposals counts those that Raft has not answered. Once closed, no more come in: Raft forgets to answer what is in
// its queue when it shuts down.
type proposals struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // closed when closed and n is zero
}

func (ps *proposals) enter() bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return false
	}
	ps.n++
	return true
}

func (ps *proposals) leave() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.n--
	if ps.closed && ps.n == 0 {
		close(ps.idle)
	}
}

// close refuses new ones, and returns a channel that is closed when all are answered.
func (ps *proposals) close() <-chan struct{} {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if !ps.closed {
		ps.closed = true
		ps.idle = make(chan struct{})
		if ps.n == 0 {
			close(ps.idle)
		}
	}
	return ps.idle
}
