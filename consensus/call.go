package consensus

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/raft"
)

// What peers ask each other: a method, numbers, and as answer a code and a number.
const (
	methodTerm  = "term"  // the newest term known here
	methodRead  = "read"  // to the Master: a revision that holds all that is acknowledged
	methodAwait = "await" // answer when the entry of this index has been applied here
	methodBid   = "bid"   // 1 if the Master of this term should be replaced, by one whose log ends at this term and index

	methodLeads  = "leads"  // 1 if this peer is the Master of this term
	methodResign = "resign" // from the Master of this term: it should be replaced

	methodTell = "tell" // to the Master: say what is committed
)

const (
	codeOK        = 0
	codeNotMaster = 1
)

// call asks another peer, for at most the configured time unless the method waits by design.
func (p *Peer) call(ctx context.Context, to PeerID, method string, numbers ...uint64) (uint64, error) {
	if method != methodAwait {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.cfg.Timing.Call)
		defer cancel()
	}
	var body []byte
	for _, n := range numbers {
		body = binary.AppendUvarint(body, n)
	}
	answer, err := p.cfg.Peers.Call(ctx, to, method, body)
	if err != nil {
		return 0, fmt.Errorf("ask %s for %s: %w", to, method, err)
	}
	d := decoder{rest: answer}
	code, v := d.number(), d.number()
	switch {
	case d.bad || code > codeNotMaster:
		return 0, fmt.Errorf("ask %s for %s: answer not understood", to, method)
	case code == codeNotMaster:
		return 0, fmt.Errorf("ask %s for %s: %w", to, method, ErrNotMaster)
	}
	return v, nil
}

// Handle answers a call of another peer's Caller. The caller of Handle has made sure that it comes from a member.
func (p *Peer) Handle(ctx context.Context, from PeerID, method string, body []byte) ([]byte, error) {
	d := decoder{rest: body}
	n := d.number()
	var end position
	if method == methodBid {
		end = position{term: d.number(), index: d.number()}
	}
	if d.bad {
		return nil, fmt.Errorf("call %q from %s: malformed body", method, from)
	}
	r := p.raft.Load()
	if r == nil {
		return nil, fmt.Errorf("call %q from %s: not ready", method, from)
	}
	switch method {
	case methodTerm:
		return reply(codeOK, r.CurrentTerm()), nil
	case methodRead:
		if p.term.Load() == 0 {
			return reply(codeNotMaster, 0), nil
		}
		rev, err := p.confirms.join(ctx)
		if err != nil {
			return reply(codeNotMaster, 0), nil
		}
		return reply(codeOK, uint64(rev)), nil
	case methodAwait:
		if err := p.fsm.applied.Wait(ctx, n); err != nil {
			return nil, err
		}
		return reply(codeOK, p.fsm.applied.Value()), nil
	case methodBid:
		if p.agrees(ctx, from, n, end) {
			return reply(codeOK, 1), nil
		}
		return reply(codeOK, 0), nil
	case methodLeads:
		leads := uint64(0)
		if r.State() == raft.Leader && r.CurrentTerm() == n {
			leads = 1
		}
		return reply(codeOK, leads), nil
	case methodTell:
		if err := p.tellNow(from); err != nil {
			return reply(codeNotMaster, 0), nil
		}
		return reply(codeOK, 0), nil
	case methodResign:
		p.resigns(from, n)
		return reply(codeOK, 0), nil
	}
	return nil, fmt.Errorf("call %q from %s: unknown method", method, from)
}

func reply(code byte, n uint64) []byte { return binary.AppendUvarint([]byte{code}, n) }
