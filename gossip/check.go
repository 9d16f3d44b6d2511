package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// Answer is how a machine takes a connection to its gossip port.
type Answer int

// The answers. Refused and Accepted both mean that the machine lives.
const (
	NoAnswer Answer = iota
	Refused
	Accepted
)

// verdicts are what this peer says after it found out.
var verdicts = map[Answer]verdict{NoAnswer: unreachable, Refused: refused, Accepted: reachable}

// checkers is how many of the living peers try a machine: enough that two of them surely do.
const checkers = 5

// direct is how many peers a vote is sent to at once; beyond, it spreads from peer to peer.
const direct = 16

// dialHost is the usual Config.Answers.
func dialHost(ctx context.Context, addr string) (Answer, error) {
	conn, err := dial(ctx, addr)
	switch {
	case err == nil:
		_ = conn.Close()
		return Accepted, nil
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return Refused, nil
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTDOWN),
		timedOut(err):
		return NoAnswer, nil
	}
	return NoAnswer, err // our own trouble, such as too many open files: says nothing of the machine
}

// tend sends votes and tries the machines of members that do not answer, each when it is due.
func (g *Gossip) tend(ctx context.Context, ml *memberlist.Memberlist) error {
	group, ctx := errgroup.WithContext(ctx)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		votes, doubts := g.takeOutbox()
		g.ask(ml, doubts)
		g.send(ml, votes)
		due, next := g.due(time.Now())
		for _, m := range due {
			group.Go(func() error {
				if m.doubted {
					g.look(ctx, ml, m.Member)
				} else {
					g.check(ctx, ml, m.Member)
				}
				return nil
			})
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return errors.Join(group.Wait(), context.Cause(ctx))
		case <-g.wake:
		case <-timer.C:
		}
	}
}

func (g *Gossip) takeOutbox() (votes []vote, doubts []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	votes, doubts = g.outbox, g.doubts
	g.outbox, g.doubts = nil, nil
	return votes, doubts
}

// send passes votes on in two ways: at once by packet, and from peer to peer until everyone had several copies. What is
// lost all the same comes with the next full comparison of two peers.
func (g *Gossip) send(ml *memberlist.Memberlist, votes []vote) {
	if len(votes) == 0 {
		return
	}
	living := g.living()
	for _, v := range votes {
		b := newBroadcast(v)
		g.queue.QueueBroadcast(b)
		sent := 0
		for _, n := range living {
			if sent < direct && n.Name != v.Subject {
				sent++
				if err := ml.SendBestEffort(n, b.data); err != nil {
					g.log.Debug("send a vote", "peer", n.Name, "err", err)
				}
			}
		}
	}
}

// living returns the other members that are up, in random order. They are copies: memberlist's own change under it.
func (g *Gossip) living() []*memberlist.Node {
	g.mu.Lock()
	defer g.mu.Unlock()
	var nodes []*memberlist.Node
	for name, m := range g.members {
		if m.up && name != g.cfg.Name {
			nodes = append(nodes, m.node())
		}
	}
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	return nodes
}

// due returns the members to try now, marked busy, and how long until the next is due.
func (g *Gossip) due(now time.Time) ([]member, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var due []member
	next := g.calmLocked(now, now.Add(time.Hour))
	for name, m := range g.members {
		switch {
		case m.busy || m.up && !m.doubted || !m.up && !slices.Contains(g.checkersLocked(name), g.cfg.Name):
		case m.next.After(now):
			if m.next.Before(next) {
				next = m.next
			}
		default:
			m.busy = true
			due = append(due, *m)
		}
	}
	return due, next.Sub(now)
}

// checkersLocked are those who try the subject's machine: the living peers with the highest hash together with it, so that all who see the
// same peers choose the same.
func (g *Gossip) checkersLocked(subject string) []string {
	var up []string
	for name, m := range g.members {
		if m.up && name != subject {
			up = append(up, name)
		}
	}
	slices.SortFunc(up, func(a, b string) int { return cmp.Compare(rank(b, subject), rank(a, subject)) })
	return up[:min(checkers, len(up))]
}

func rank(voter, subject string) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%s", voter, subject)
	return h.Sum64()
}

// check tries one machine, votes, and joins the peer there if it listens: memberlist forgets members after a while.
func (g *Gossip) check(ctx context.Context, ml *memberlist.Memberlist, m Member) {
	tctx, cancel := context.WithTimeout(ctx, g.cfg.Timings.HostTimeout)
	defer cancel()
	answer, err := g.cfg.Answers(tctx, m.HostPort())
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		g.log.Debug("could not try the machine", "peer", m.Name, "err", err)
	}
	again := g.record(m.Name, answer, err)
	if again && answer == Accepted {
		if _, err := ml.Join([]string{m.HostPort()}); err != nil {
			g.log.Debug("join again", "peer", m.Name, "err", err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.members[m.Name]; r != nil {
		r.busy = false
	}
	signal(g.wake)
}

// record votes by what was found and reports whether this was not the first try.
func (g *Gossip) record(name string, answer Answer, err error) (again bool) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[name]
	if m == nil || m.up {
		return false
	}
	again = m.wait > 0 || m.State == Unknown
	m.wait = min(max(2*m.wait, g.cfg.Timings.RecheckFirst), g.cfg.Timings.RecheckLast)
	m.next = now.Add(m.wait)
	if err != nil {
		return again
	}
	verdict := verdicts[answer]
	if verdict != g.ballots[name][g.cfg.Name].Verdict {
		m.wait = g.cfg.Timings.RecheckFirst
		m.next = now.Add(m.wait)
	}
	g.voteLocked(name, verdict)
	g.judgeLocked(now)
	return again
}

// addresses lists where the members that are not up were last.
func (g *Gossip) addresses() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []string
	for name, m := range g.members {
		if !m.up && name != g.cfg.Name {
			list = append(list, m.HostPort())
		}
	}
	slices.Sort(list)
	return list
}
