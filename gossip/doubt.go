package gossip

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// looks is how many packets a look sends, besides trying a connection: at 2 % loss each way, one in ten million looks at a machine that
// is well finds nothing.
const looks = 3

// Doubt has a member that is thought alive looked at, by this peer and those who would try its machine. Call it with a reason: a connection
// that broke, an answer that is overdue. A member that is well does not notice.
func (g *Gossip) Doubt(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.doubtLocked(name) {
		g.doubts = append(g.doubts, name)
	}
}

// doubtLocked reports whether a look begins now; false: one is under way, or there is nothing to doubt.
func (g *Gossip) doubtLocked(name string) bool {
	m := g.members[name]
	if m == nil || !m.up || m.doubted || name == g.cfg.Name {
		return false
	}
	m.doubted, m.wait, m.next = true, 0, time.Now()
	signal(g.wake)
	return true
}

// ask tells those who would try a member's machine that it is doubted, so that they look at the same time.
func (g *Gossip) ask(ml *memberlist.Memberlist, doubted []string) {
	for _, name := range doubted {
		msg := encodeVotes([]vote{{Voter: g.cfg.Name, Subject: name, Verdict: doubt}})
		for _, n := range g.askable(name) {
			if err := ml.SendBestEffort(n, msg); err != nil {
				g.log.Debug("ask for a look", "at", name, "by", n.Name, "err", err)
			}
		}
	}
}

func (g *Gossip) askable(subject string) []*memberlist.Node {
	g.mu.Lock()
	defer g.mu.Unlock()
	var nodes []*memberlist.Node
	for _, name := range g.checkersLocked(subject) {
		if name != g.cfg.Name {
			nodes = append(nodes, g.members[name].node())
		}
	}
	return nodes
}

// look tries a member that should be alive, and its machine, in every way there is, and settles the doubt.
func (g *Gossip) look(ctx context.Context, ml *memberlist.Memberlist, m Member) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timings.HostTimeout)
	defer cancel()
	heard := make(chan struct{}, looks)
	addr := &net.UDPAddr{IP: net.ParseIP(m.Addr), Port: m.Port}
	var pings sync.WaitGroup
	defer pings.Wait() // they may take longer than anybody waits for them
	for i := range looks {
		pings.Go(func() {
			select {
			case <-time.After(g.cfg.Timings.HostTimeout * time.Duration(i) / (looks + 1)):
			case <-ctx.Done():
				return
			}
			if _, err := ml.Ping(m.Name, addr); err == nil {
				heard <- struct{}{}
			}
		})
	}
	var (
		answer Answer
		err    error
		tried  = make(chan struct{})
	)
	pings.Go(func() {
		defer close(tried)
		answer, err = g.cfg.Answers(ctx, m.HostPort())
	})
	select {
	case <-heard:
		cancel()
		<-tried
		answer, err = Accepted, nil
	case <-ctx.Done():
		<-tried
	}
	g.settle(m.Name, answer, err)
}

// settle notes what a look found, unless memberlist has given its word meanwhile.
func (g *Gossip) settle(name string, a Answer, err error) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[name]
	if m == nil {
		return
	}
	defer signal(g.wake)
	m.busy = false
	switch {
	case !m.up: // it is tried again at once
		return
	case err != nil || a == Accepted: // who listens and says nothing may only be slow: memberlist has more patience with that
		g.trustLocked(m)
	default:
		m.next = now.Add(g.cfg.Timings.RecheckFirst)
		g.voteLocked(name, verdicts[a])
	}
	g.judgeLocked(now)
}

// trustLocked ends a doubt, and takes back what this peer said in it.
func (g *Gossip) trustLocked(m *member) {
	m.doubted = false
	if own := g.ballots[m.Name][g.cfg.Name].Verdict; own.about() {
		g.voteLocked(m.Name, withdrawn)
	}
}
