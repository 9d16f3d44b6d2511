package consensus

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// hearsay is how long a voter that is asked for its consent may take to hear what the asker has heard, and for how long it then
// leaves the election to the asker.
const hearsay = 3 * stagger

// answerIn is how long a Master that is said to be ill has to say that it is not. On the way to it and back a message takes less than a
// millisecond.
const answerIn = 50 * time.Millisecond

// bids keeps voters that would stand at the same moment from taking each other's votes: that election would have no winner, and
// the next comes only after a candidate's whole patience.
type bids struct {
	mu      sync.Mutex
	asking  bool      // this peer asks for the consent of the others
	stood   time.Time // when it last had that
	yielded time.Time // when it last gave its consent to another
}

// begin is called before asking. False: another stands just now.
func (b *bids) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asking = time.Since(b.yielded) >= hearsay
	return b.asking
}

// end is called after asking, and reports whether to stand.
func (b *bids) end(consent bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asking = false
	if !consent || time.Since(b.yielded) < hearsay {
		return false
	}
	b.stood = time.Now()
	return true
}

// yield reports whether this peer gives its consent to another, which goes first or does not when both ask.
func (b *bids) yield(first bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asking && !first || time.Since(b.stood) < hearsay {
		return false
	}
	b.yielded = time.Now()
	return true
}

// bid makes this peer a candidate if a majority of the voters would have the Master replaced by it. Without their consent, one
// that is cut off would end a good term by its mere return, and one that lacks what another has would ask for votes it
// cannot get.
func (p *Peer) bid(ctx context.Context) {
	if !p.bids.begin() {
		return
	}
	mute := make(chan bool, 1)
	go func() { mute <- p.mute(ctx) }()
	if consent := p.consent(ctx); p.bids.end(<-mute && consent) {
		p.stand()
	}
}

// mute reports that the Master cannot be one any more, or wants it: it has sent no heartbeat for longer than it pauses between them, or does not
// answer. One that answers has a gossip that is ill, no more.
func (p *Peer) mute(ctx context.Context) bool {
	r := p.raft.Load()
	_, master := r.LeaderWithID()
	if master == "" || p.hasResigned() || time.Since(r.LastContact()) > p.cfg.Timing.Ill {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	leads, err := p.call(ctx, PeerID(master), methodLeads, r.CurrentTerm())
	return err != nil || leads == 0
}

// consent asks the other voters for theirs. The Master itself need not be asked.
func (p *Peer) consent(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*hearsay)
	defer cancel()
	term, mine := p.raft.Load().CurrentTerm(), p.position()
	_, master := p.raft.Load().LeaderWithID()
	voters := p.Status().Voters
	asked, answers := 0, make(chan bool, len(voters))
	for _, id := range voters {
		if id == p.cfg.ID || id == PeerID(master) {
			continue
		}
		asked++
		go func() {
			yes, err := p.call(ctx, id, methodBid, term, mine.term, mine.index)
			answers <- err == nil && yes == 1
		}()
	}
	agreed := 1
	for range asked {
		if agreed > len(voters)/2 {
			break
		}
		if <-answers {
			agreed++
		}
	}
	return agreed > len(voters)/2
}

// agrees reports whether this peer, too, would have the Master of a term replaced, by one whose log ends at a position. If it
// has more than that, it stands itself when its turn comes.
func (p *Peer) agrees(ctx context.Context, by PeerID, term uint64, theirs position) bool {
	ctx, cancel := context.WithTimeout(ctx, hearsay)
	defer cancel()
	for {
		changed := p.Changed()
		var heard <-chan struct{}
		if p.cfg.HealthChanged != nil {
			heard = p.cfg.HealthChanged()
		}
		r := p.raft.Load()
		if r.CurrentTerm() > term || r.State() == raft.Leader {
			return false
		}
		if _, master := r.LeaderWithID(); master == "" || p.hasResigned() || p.ill()(PeerID(master)) {
			mine := p.position()
			return !theirs.less(mine) && p.bids.yield(mine.less(theirs) || by < p.cfg.ID)
		}
		select {
		case <-changed:
		case <-heard:
		case <-ctx.Done():
			return false
		}
	}
}

// position is where a log ends. Raft lets nobody win who has less than a voter.
type position struct{ term, index uint64 }

func (a position) less(b position) bool {
	return a.term < b.term || a.term == b.term && a.index < b.index
}

func (p *Peer) position() position {
	stats := p.raft.Load().Stats()
	at := func(of string) position {
		term, _ := strconv.ParseUint(stats["last_"+of+"_term"], 10, 64)
		index, _ := strconv.ParseUint(stats["last_"+of+"_index"], 10, 64)
		return position{term, index}
	}
	log, snapshot := at("log"), at("snapshot")
	if log.less(snapshot) {
		return snapshot
	}
	return log
}

// stand makes this peer a candidate at once, as a Master does that hands over: voters elect it though they know of a Master.
// Raft takes such a request only from its transport, so the peer sends it to itself.
func (p *Peer) stand() {
	self := raft.ServerAddress(p.cfg.ID)
	req := raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(p.cfg.ID), Addr: []byte(self)}}
	if err := p.trans.TimeoutNow(raft.ServerID(p.cfg.ID), self, &req, new(raft.TimeoutNowResponse)); err != nil {
		p.cfg.Log.Error("stand for election", "err", err)
	}
}
