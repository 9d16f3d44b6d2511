package consensus

import (
	"cmp"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// action is what a step does to a peer's vote.
type action int

const (
	keep action = iota
	promote
	demote
)

// step is one change of the membership. Before is the replica that must have caught up first, if any.
type step struct {
	do     action
	peer   PeerID
	before PeerID
}

// candidate is what plan knows of one member.
type candidate struct {
	id    PeerID
	votes bool
	known bool // health says something about it
	Health
}

// plan returns the one step that brings the voters nearer to what they should be. It is pure. behind holds replicas that
// did not catch up just now.
//
// As many should vote as votersFor says of all members; but of those that live, down to three: so five peers that die one after the other are not
// outvoted by the dead before only one is left. A dead voter loses its vote once a living replica can have it, and before that
// replica gets it. Nothing is done that would leave fewer living voters than a majority. A replica takes the place of a voter
// whose disk is too slow. Voters are spread over zones: a replica of a zone without a voter takes the place of one of two
// voters in one zone. The leader keeps its vote.
func plan(servers []raft.Server, health map[PeerID]Health, self PeerID, votersMax int, behind map[PeerID]bool) step {
	var voters, replicas []candidate
	living := 0
	for _, s := range servers {
		h, known := health[PeerID(s.ID)]
		c := candidate{id: PeerID(s.ID), votes: s.Suffrage == raft.Voter, known: known, Health: h}
		if c.id == self || health == nil {
			c.Alive, c.known = true, true
		}
		if !dead(c) {
			living++
		}
		switch {
		case c.votes:
			voters = append(voters, c)
		case c.known && c.Alive && !behind[c.id]:
			replicas = append(replicas, c)
		}
	}
	want := votersFor(len(servers), votersMax)
	if want > few {
		want = max(few, votersFor(living, want))
	}
	best := pick(replicas, func(a, b candidate) int { return better(voters, a, b) })
	worst := pick(voters, func(a, b candidate) int { return worse(voters, self, a, b) })
	switch {
	case len(voters) > want && worst.id != self && safe(voters, worst):
		return step{do: demote, peer: worst.id}
	case len(voters) >= want && dead(worst) && best.id != "" && safe(voters, worst):
		return step{do: demote, peer: worst.id, before: best.id}
	case len(voters) < want && best.id != "":
		return step{do: promote, peer: best.id, before: best.id}
	case len(voters) == want && best.id != "" && !sluggish(best) && !best.Unsteady && (sluggish(worst) && worst.id != self || spreads(voters, self, best)):
		return step{do: promote, peer: best.id, before: best.id}
	}
	return step{}
}

// faster returns a living voter that should lead in the place of one whose disk is too slow, or nothing.
func faster(servers []raft.Server, health map[PeerID]Health, self PeerID) PeerID {
	if !sluggish(candidate{Health: health[self]}) {
		return ""
	}
	for _, s := range servers {
		if h := health[PeerID(s.ID)]; s.Suffrage == raft.Voter && h.Alive && !sluggish(candidate{Health: h}) && PeerID(s.ID) != self {
			return PeerID(s.ID)
		}
	}
	return ""
}

// few is how many voters there are left when members die: with two of three alive, both must agree, as they would if only the two voted.
const few = 3

// votersFor returns how many of n members should vote: an odd number, except that two of two do, so that what is
// acknowledged is on both disks.
func votersFor(n, votersMax int) int {
	n = min(n, max(votersMax, 1))
	if n > 2 && n%2 == 0 {
		n--
	}
	return n
}

// slowDisk is how long a disk may take for a write, on average, for its peer to vote when another one could: every write waits for a
// majority. It is far from what a busy disk takes, a few tens of milliseconds, so that voters do not wander with the load.
const slowDisk = 250 * time.Millisecond

func sluggish(c candidate) bool { return c.Disk > slowDisk }

func dead(c candidate) bool { return c.id != "" && c.known && !c.Alive }

// safe tells whether without c's vote the living voters are still a majority.
func safe(voters []candidate, c candidate) bool {
	living := 0
	for _, v := range voters {
		if v.id != c.id && !dead(v) {
			living++
		}
	}
	return living >= (len(voters)-1)/2+1
}

// spreads tells whether a voter in c's zone would replace one of several in another.
func spreads(voters []candidate, self PeerID, c candidate) bool {
	if c.Zone == "" || inZone(voters, c.Zone) > 0 {
		return false
	}
	return slices.ContainsFunc(voters, func(v candidate) bool {
		return v.id != self && v.Zone != "" && inZone(voters, v.Zone) > 1
	})
}

func inZone(voters []candidate, zone string) int {
	n := 0
	for _, v := range voters {
		if v.Zone == zone {
			n++
		}
	}
	return n
}

// better orders replicas: last those that are unsteady, then those whose disk is too slow, first one of the zone with fewest voters, then the faster disk, then
// the name.
func better(voters []candidate, a, b candidate) int {
	return cmp.Or(
		compareBool(a.Unsteady, b.Unsteady),
		compareBool(sluggish(a), sluggish(b)),
		cmp.Compare(inZone(voters, a.Zone), inZone(voters, b.Zone)),
		cmp.Compare(class(a.Disk), class(b.Disk)),
		cmp.Compare(a.id, b.id),
	)
}

// worse orders voters: never the leader, first the dead, then those whose disk is too slow, then one of the zone with most voters, then
// the slower disk, then the last name.
func worse(voters []candidate, self PeerID, a, b candidate) int {
	return cmp.Or(
		compareBool(a.id == self, b.id == self),
		compareBool(dead(b), dead(a)),
		compareBool(sluggish(b), sluggish(a)),
		cmp.Compare(inZone(voters, b.Zone), inZone(voters, a.Zone)),
		cmp.Compare(class(b.Disk), class(a.Disk)),
		cmp.Compare(b.id, a.id),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// class makes disks alike that differ by less than a factor of ten or so, or the voters would wander with the load.
func class(d time.Duration) int {
	n := 0
	for d > time.Millisecond {
		d /= 10
		n++
	}
	return n
}

func pick(cs []candidate, order func(a, b candidate) int) candidate {
	if len(cs) == 0 {
		return candidate{}
	}
	return slices.MinFunc(cs, order)
}
