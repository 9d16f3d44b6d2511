package gossip

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
)

// verdict is what one peer says of another's machine.
type verdict string

const (
	withdrawn   verdict = "w" // nothing, any more
	reachable   verdict = "r" // it accepted a connection
	refused     verdict = "f" // it refused one: nobody listens
	unreachable verdict = "u" // no answer
	goodbye     verdict = "g" // of itself: it stops on purpose
	doubt       verdict = "d" // no vote but a wish, and never kept: look at it
)

// about reports whether v says something of another's machine.
func (v verdict) about() bool { return v == reachable || v == refused || v == unreachable }

// contradicts reports that one found the machine alive and the other did not.
func (v verdict) contradicts(o verdict) bool {
	return v.about() && o.about() && (v == unreachable) != (o == unreachable)
}

// vote is one peer's newest word about another. Of two from one voter the one with the higher Seq counts, whatever the
// order of their arrival.
type vote struct {
	Voter   string  `json:"v"`
	Subject string  `json:"s"`
	Seq     uint64  `json:"q"`
	Verdict verdict `json:"x"`
}

// ballots are the newest votes, by subject and voter.
type ballots map[string]map[string]vote

// add reports whether v is news.
func (b ballots) add(v vote) bool {
	if old, ok := b[v.Subject][v.Voter]; ok && old.Seq >= v.Seq {
		return false
	}
	if b[v.Subject] == nil {
		b[v.Subject] = map[string]vote{}
	}
	b[v.Subject][v.Voter] = v
	return true
}

// spend voids all votes about a subject that answers again. Their sequence numbers stay, so that they are not counted
// when they arrive once more.
func (b ballots) spend(subject string) {
	for voter, v := range b[subject] {
		v.Verdict = withdrawn
		b[subject][voter] = v
	}
}

func (b ballots) all() []vote {
	var votes []vote
	for _, about := range b {
		for _, v := range about {
			votes = append(votes, v)
		}
	}
	return votes
}

func encodeVotes(votes []vote) []byte {
	data, err := json.Marshal(votes)
	if err != nil {
		panic(err) // strings and a number
	}
	return data
}

// decodeVotes leaves out verdicts that it does not know: a newer peer's.
func decodeVotes(data []byte) ([]vote, error) {
	var all, votes []vote
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("decode votes: %w", err)
	}
	for _, v := range all {
		ok := v.Voter != "" && v.Subject != ""
		switch v.Verdict {
		case withdrawn:
		case reachable, refused, unreachable, doubt:
			ok = ok && v.Voter != v.Subject
		case goodbye:
			ok = ok && v.Voter == v.Subject
		default:
			continue
		}
		if !ok {
			return nil, fmt.Errorf("decode votes: %+v makes no sense", v)
		}
		votes = append(votes, v)
	}
	return votes, nil
}

// voteLocked casts this peer's vote and hands it to tend for sending.
func (g *Gossip) voteLocked(subject string, verdict verdict) {
	g.seq++
	v := vote{Voter: g.cfg.Name, Subject: subject, Seq: g.seq, Verdict: verdict}
	g.ballots.add(v)
	g.outbox = append(g.outbox, v)
	signal(g.wake)
}

// hear takes in votes of other peers.
func (g *Gossip) hear(data []byte) {
	votes, err := decodeVotes(data)
	if err != nil {
		g.log.Debug("ignored a message", "err", err)
		return
	}
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	news := false
	for _, v := range votes {
		if v.Verdict == doubt {
			g.doubtLocked(v.Subject)
			continue
		}
		if v.Voter == g.cfg.Name {
			g.correctLocked(v)
			continue
		}
		if !g.ballots.add(v) {
			continue
		}
		news = true
		g.reconsiderLocked(v, now)
	}
	if news {
		g.judgeLocked(now)
		signal(g.wake)
	}
}

// correctLocked deals with a vote of our own that we do not know: from before a restart, when the clock may have been
// ahead. What we think now overrides it.
func (g *Gossip) correctLocked(v vote) {
	own, ok := g.ballots[v.Subject][v.Voter]
	if v.Seq <= own.Seq {
		return
	}
	g.seq = max(g.seq, v.Seq)
	if !ok {
		own.Verdict = withdrawn
	}
	g.voteLocked(v.Subject, own.Verdict)
}

// reconsiderLocked tries a machine again soon when another peer found the opposite of what we did.
func (g *Gossip) reconsiderLocked(v vote, now time.Time) {
	m, own := g.members[v.Subject], g.ballots[v.Subject][g.cfg.Name]
	if m == nil || m.up || !own.Verdict.contradicts(v.Verdict) {
		return
	}
	m.wait = g.cfg.Timings.RecheckFirst
	if soon := now.Add(m.wait); m.next.After(soon) {
		m.next = soon
	}
}

// broadcast carries one vote through the queue; a newer one from the same voter takes its place.
type broadcast struct {
	name string
	data []byte
}

func newBroadcast(v vote) *broadcast {
	return &broadcast{name: v.Voter + " " + v.Subject, data: encodeVotes([]vote{v})}
}

func (b *broadcast) Name() string { return b.name }

func (b *broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*broadcast)
	return ok && o.name == b.name
}

func (b *broadcast) Message() []byte { return b.data }

func (b *broadcast) Finished() {}
