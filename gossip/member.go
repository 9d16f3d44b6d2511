package gossip

import (
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is what this peer believes of a member.
type State string

// The states. Their texts are part of the API.
const (
	Unknown State = "Unknown" // not heard of since this peer started
	Alive   State = "Alive"   // answers
	Suspect State = "Suspect" // does not answer; its machine is being tried
	Silent  State = "Silent"  // does not answer, but its machine does
	Gone    State = "Gone"    // its machine answers nobody who tried
	Left    State = "Left"    // said goodbye, and its machine has not been found gone since
)

// Member is one machine of the cluster. Meta is shared and read-only.
type Member struct {
	Name  string
	Addr  string // IP address
	Port  int
	Meta  map[string]string
	State State
	Since time.Time // of State
	// Unsteady is until when it should not be relied on more than needed, though it is alive: it fell again and again. Else it is zero.
	Unsteady time.Time
}

// HostPort is where the member's gossip listens.
func (m Member) HostPort() string { return net.JoinHostPort(m.Addr, strconv.Itoa(m.Port)) }

// member is a Member with what is needed to judge it.
type member struct {
	Member
	up    bool        // memberlist's word
	falls []time.Time // when it became Silent or Gone, the last ones

	doubted bool // up, and being looked at until it answers
	// While not up or doubted: the next try of its machine, the wait after it, and whether one is under way.
	next time.Time
	wait time.Duration
	busy bool
}

// node is how memberlist is told of it.
func (m *member) node() *memberlist.Node {
	return &memberlist.Node{Name: m.Name, Addr: net.ParseIP(m.Addr), Port: uint16(m.Port)}
}

// judge returns the state of a member that does not answer, given what it was, the votes of the living peers other than
// itself, and how many of those there are (at least one: whoever judges).
func judge(was State, votes []verdict, left bool, living int) State {
	reached, missed := 0, 0
	for _, v := range votes {
		switch v {
		case reachable, refused:
			reached++
		case unreachable:
			missed++
		}
	}
	switch {
	case reached > 0 && left:
		return Left
	case reached > 0:
		return Silent
	case missed >= min(2, living):
		return Gone
	case was != Alive && was != Suspect:
		return was // too few know anything new
	case left:
		return Left
	}
	return Suspect
}

// judgeDoubted returns the state of a member that memberlist has not given up. Only those count who heard nothing of it though they looked
// at it: two, or all there are.
func judgeDoubted(votes []verdict, living int) State {
	refusals, missed := 0, 0
	for _, v := range votes {
		switch v {
		case reachable:
			return Alive
		case refused:
			refusals++
		case unreachable:
			missed++
		}
	}
	switch {
	case refusals+missed < min(2, living):
		return Alive
	case refusals > 0:
		return Silent
	}
	return Gone
}

// judgeLocked brings every member's state up to date and reports whether one changed.
func (g *Gossip) judgeLocked(now time.Time) bool {
	changed := false
	for name, m := range g.members {
		var votes []verdict
		for voter, v := range g.ballots[name] {
			if w := g.members[voter]; w != nil && w.up && voter != name {
				votes = append(votes, v.Verdict)
			}
		}
		state := Alive
		switch living := g.livingLocked(name); {
		case name == g.cfg.Name:
		case m.up:
			state = judgeDoubted(votes, living)
		default:
			state = judge(m.State, votes, g.ballots[name][name].Verdict == goodbye, living)
		}
		if state != m.State {
			was := m.State
			m.State, m.Since, changed = state, now, true
			m.moved(was, now)
			g.logState(m)
		}
	}
	if changed {
		g.notifyLocked()
	}
	return changed
}

// livingLocked counts the members that are up, other than one.
func (g *Gossip) livingLocked(but string) int {
	n := 0
	for name, m := range g.members {
		if m.up && name != but {
			n++
		}
	}
	return n
}

func (g *Gossip) logState(m *member) {
	switch m.State {
	case Gone, Silent:
		g.log.Warn("member does not answer", "peer", m.Name, "state", m.State)
	case Suspect, Unknown:
		g.log.Debug("member does not answer", "peer", m.Name, "state", m.State)
	default:
		g.log.Info("member changed", "peer", m.Name, "state", m.State)
	}
}
