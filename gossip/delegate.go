package gossip

import (
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls, often with its own lock held: copy, wake, return. Nothing here may call memberlist.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
	_ memberlist.MergeDelegate    = (*delegate)(nil)
	_ memberlist.PingDelegate     = (*delegate)(nil)
)

func (d *delegate) NodeMeta(int) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	return d.g.meta
}

func (d *delegate) NotifyMsg(data []byte) { d.g.hear(data) }

func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.g.queue.GetBroadcasts(overhead, limit)
}

func (d *delegate) LocalState(bool) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	return encodeVotes(d.g.ballots.all())
}

func (d *delegate) MergeRemoteState(data []byte, _ bool) { d.g.hear(data) }

// NotifyJoin: a member answers, for the first time or again.
func (d *delegate) NotifyJoin(n *memberlist.Node) {
	g := d.g
	meta := decodeMeta(n.Meta)
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[n.Name]
	if m == nil {
		m = &member{Member: Member{Name: n.Name}}
		g.members[n.Name] = m
	}
	m.up, m.wait, m.doubted = true, 0, false
	m.Addr, m.Port, m.Meta = n.Addr.String(), int(n.Port), meta
	own := g.ballots[n.Name][g.cfg.Name].Verdict
	g.ballots.spend(n.Name)
	if n.Name != g.cfg.Name && own.about() {
		g.voteLocked(n.Name, withdrawn)
	}
	if !g.judgeLocked(now) {
		g.notifyLocked() // the address or metadata may be new all the same
	}
	signal(g.wake)
	signal(g.moved)
}

// NotifyLeave: a member said goodbye or did not refute a suspicion; memberlist does not say which.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	g := d.g
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[n.Name]
	if m == nil || n.Name == g.cfg.Name {
		return
	}
	m.up, m.wait, m.next, m.doubted = false, 0, now, false
	if now.Sub(g.toldAt) < unsettled {
		signal(g.announce)
	}
	g.judgeLocked(now)
	signal(g.wake)
}

// NotifyUpdate: a member's metadata changed.
func (d *delegate) NotifyUpdate(n *memberlist.Node) {
	g := d.g
	meta := decodeMeta(n.Meta)
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[n.Name]
	if m == nil {
		return
	}
	moved := m.Addr != n.Addr.String() || m.Port != int(n.Port)
	m.Addr, m.Port, m.Meta = n.Addr.String(), int(n.Port), meta
	g.notifyLocked()
	if moved {
		signal(g.moved)
	}
}

// NotifyConflict: two living machines have one name. memberlist keeps the first.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	g := d.g
	where := other.Address()
	g.mu.Lock()
	defer g.mu.Unlock()
	if key := other.Name + " " + where; !g.warned[key] {
		g.warned[key] = true
		g.log.Error("another machine has the same name", "peer", existing.Name, "known", existing.Address(), "other", where)
	}
}

// NotifyMerge sees all that a peer knows before this peer joins it: refuse if another machine lives under our name.
func (d *delegate) NotifyMerge(peers []*memberlist.Node) error {
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	self := g.members[g.cfg.Name]
	for _, n := range peers {
		if self == nil || n.Name != g.cfg.Name || n.State == memberlist.StateDead || n.State == memberlist.StateLeft {
			continue
		}
		if n.Addr.String() != self.Addr || int(n.Port) != self.Port {
			g.rival = n.Address()
			return fmt.Errorf("%s %s", g.rival, errSameName)
		}
	}
	return nil
}

func (d *delegate) AckPayload() []byte { return nil }

// NotifyPingComplete: a member answered a probe. What it sent before a doubt came up may arrive only now, so a look that has not been taken yet is.
func (d *delegate) NotifyPingComplete(n *memberlist.Node, _ time.Duration, _ []byte) {
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.members[n.Name]; m != nil && m.up && m.doubted && !m.busy && g.ballots[n.Name][g.cfg.Name].Verdict.about() {
		g.trustLocked(m)
		g.judgeLocked(time.Now())
	}
}

// probeMissed is asked by memberlist whether to try a member by stream, which it does when its packet was not answered in time. It
// always does; that it asks is the earliest sign of trouble.
func (d *delegate) probeMissed(name string) (not bool) {
	d.g.Doubt(name)
	return false
}
