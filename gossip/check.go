package gossip

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
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

// checkers is how many of the living peers try a machine: enough that two of them surely do.
const checkers = 5

// direct is how many peers a vote is sent to at once; beyond, it spreads from peer to peer.
const direct = 16

// dialHost is the usual Config.Answers.
func dialHost(ctx context.Context, addr string) (Answer, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	var timeout net.Error
	switch {
	case err == nil:
		_ = conn.Close()
		return Accepted, nil
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return Refused, nil
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTDOWN),
		errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
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
		g.send(ml, g.takeOutbox())
		due, next := g.due(time.Now())
		for _, m := range due {
			group.Go(func() error {
				g.check(ctx, ml, m)
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

func (g *Gossip) takeOutbox() []vote {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.outbox
	g.outbox = nil
	return out
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
			nodes = append(nodes, &memberlist.Node{Name: name, Addr: net.ParseIP(m.Addr), Port: uint16(m.Port)})
		}
	}
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	return nodes
}

// due returns the members to try now, marked busy, and how long until the next is due.
func (g *Gossip) due(now time.Time) ([]Member, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var due []Member
	next := now.Add(time.Hour)
	for name, m := range g.members {
		switch {
		case m.up || m.busy || !g.isCheckerLocked(name):
		case m.next.After(now):
			if m.next.Before(next) {
				next = m.next
			}
		default:
			m.busy = true
			due = append(due, m.Member)
		}
	}
	return due, next.Sub(now)
}

// isCheckerLocked reports whether this peer is among those who try the subject's machine: the living peers with the
// highest hash together with it, so that all who see the same peers choose the same.
func (g *Gossip) isCheckerLocked(subject string) bool {
	own, above := rank(g.cfg.Name, subject), 0
	for name, m := range g.members {
		if m.up && name != subject && name != g.cfg.Name && rank(name, subject) > own {
			above++
		}
	}
	return above < checkers
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
	verdict := unreachable
	if answer != NoAnswer {
		verdict = reachable
	}
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
