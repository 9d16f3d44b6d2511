package consensus

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// scene reads "a* b c! d?": members in order, * leads; in lower case replicas, in upper case voters; ! is dead, ? is
// unknown to the health, ~ is a replica that is behind, = is unsteady, ^ has a slower disk, _ one that is too slow, and @z
// says the zone.
func scene(text string) (servers []raft.Server, health map[PeerID]Health, self PeerID, behind map[PeerID]bool) {
	health, behind = map[PeerID]Health{}, map[PeerID]bool{}
	for _, f := range strings.Fields(text) {
		name, zone, _ := strings.Cut(f, "@")
		id := strings.ToLower(name[:1])
		s := raft.Server{ID: raft.ServerID(id), Suffrage: raft.Nonvoter}
		if id != name[:1] {
			s.Suffrage = raft.Voter
		}
		servers = append(servers, s)
		h := Health{Alive: !strings.Contains(name, "!"), Zone: zone}
		if strings.Contains(name, "^") {
			h.Disk = 50 * time.Millisecond
		}
		if strings.Contains(name, "_") {
			h.Disk = time.Second
		}
		h.Unsteady = strings.Contains(name, "=")
		if !strings.Contains(name, "?") {
			health[PeerID(id)] = h
		}
		if strings.Contains(name, "*") {
			self = PeerID(id)
		}
		behind[PeerID(id)] = strings.Contains(name, "~")
	}
	return servers, health, self, behind
}

func (s step) String() string {
	out := map[action]string{keep: "keep", promote: "promote " + string(s.peer), demote: "demote " + string(s.peer)}[s.do]
	if s.before != "" && s.before != s.peer {
		out += " for " + string(s.before)
	}
	return out
}

func TestPlan(t *testing.T) {
	for _, row := range []struct{ why, scene, want string }{
		{"one peer votes", "A*", "keep"},
		{"two of two vote", "A* b", "promote b"},
		{"a dead replica gets no vote", "A* b!", "keep"},
		{"nor an unknown one", "A* b?", "keep"},
		{"nor one that lags", "A* b~", "keep"},
		{"but another in its place", "A* b~ c", "promote c"},
		{"two of two vote already", "A* B", "keep"},
		{"one that comes and goes gets a vote last", "A* b= c", "promote c"},
		{"but before nobody does", "A* b=", "promote b"},
		{"it takes over from a dead one", "A* B! C d=", "demote b for d"},
		{"and not from one whose disk is slow", "A* B_ C d=", "keep"},
		{"three of three", "A* B c", "promote c"},
		{"three of four", "A* B C d", "keep"},
		{"four voters of four are one too many", "A* B C D", "demote d"},
		{"the leader keeps its vote", "A B C D*", "demote c"},
		{"the dead one goes first", "A* B! C D", "demote b"},
		{"five of five", "A* B C D e", "promote e"},
		{"five of six", "A* B C D E f", "keep"},
		{"a dead voter waits for a replacement", "A* B! C", "keep"},
		{"and for one that lives", "A* B! C d!", "keep"},
		{"and has caught up", "A* B! C d~", "keep"},
		{"then it loses its vote first", "A* B! C d", "demote b for d"},
		{"before the replacement gets it", "A* b! C d", "promote d"},
		{"no majority lives: hands off", "A* B! C! d", "keep"},
		{"one of five dead", "A* B C! D E f", "demote c for f"},
		{"two of five dead, one at a time", "A* B C! D! E f g", "demote d for f"},
		{"fill up before the second", "A* B C! d! E f g", "promote f"},
		{"one of five dead, and nobody to replace it", "A* B C D E!", "demote e"},
		{"so that three vote", "A* B C D e!", "demote d"},
		{"as long as it is away", "A* B C d e!", "keep"},
		{"the next one is replaced", "A* B C! d e!", "demote c for d"},
		{"until two are left, who must agree", "A* B c! D! e!", "keep"},
		{"when one is back it votes", "A* B c! D! e", "demote d for e"},
		{"when all are back five vote", "A* B c d E", "promote c"},
		{"and the last, too", "A* B C d E", "promote d"},
		{"two of five dead at once", "A* B C D! E!", "demote e"},
		{"and then the other", "A* B C D! e!", "demote d"},
		{"three of five dead at once: hands off", "A* B C! D! E!", "keep"},
		{"unknown voters are left alone", "A* B? C d", "keep"},
		{"a new zone first", "A*@x B@y c@x d@z", "promote d"},
		{"the fast disk first", "A* B c^ d", "promote d"},
		{"zone before disk", "A*@x B@y c@x d^@z", "promote d"},
		{"a zone without a voter gets one", "A*@x B@y C@y d@z", "promote d"},
		{"at the cost of a doubled one", "A*@x B@y C@y D@z", "demote c"},
		{"then all is well", "A*@x B@y c@y D@z", "keep"},
		{"a doubled zone that is the leader's costs the other", "A*@x B@x C@y d@z", "promote d"},
		{"never the leader", "B@x A*@x C@y D@z", "demote b"},
		{"a voter whose disk is too slow is replaced", "A* B_ C d", "promote d"},
		{"and then loses its vote", "A* B_ C D", "demote b"},
		{"but not by one as slow", "A* B_ C d_", "keep"},
		{"nor for want of a replica", "A* B_ C", "keep"},
		{"the dead one before it", "A* B_ C! d", "demote c for d"},
		{"a slow voter is better than none", "A* B c_", "promote c"},
		{"speed before zone", "A*@x B@y C_@z d@x", "promote d"},
		{"and then it stays so", "A*@x B@y c_@z D@x", "keep"},
		{"a slow leader keeps its vote, as long as it leads", "A_* B C d", "keep"},
		{"no new zone, no change", "A*@x B@y C@y d@y", "keep"},
	} {
		servers, health, self, behind := scene(row.scene)
		if got := plan(servers, health, self, 5, behind).String(); got != row.want {
			t.Errorf("%s: %s: %s, want %s", row.why, row.scene, got, row.want)
		}
	}
}

func TestVotersFor(t *testing.T) {
	for _, row := range []struct{ members, most, want int }{
		{1, 5, 1},
		{2, 5, 2},
		{3, 5, 3},
		{4, 5, 3},
		{5, 5, 5},
		{6, 5, 5},
		{50, 5, 5},
		{6, 7, 5},
		{7, 7, 7},
		{9, 3, 3},
		{2, 1, 1},
		{9, 4, 3},
		{3, 0, 1},
	} {
		if got := votersFor(row.members, row.most); got != row.want {
			t.Errorf("%d members, at most %d: %d, want %d", row.members, row.most, got, row.want)
		}
	}
}

// TestPlanEnds runs plan to its end from random scenes: it must get there, never touch the leader's vote, and never take
// the living voters from a majority to less.
func TestPlanEnds(t *testing.T) {
	for seed := range int64(2000) {
		rng := rand.New(rand.NewSource(seed))
		var text []string
		for i := range 1 + rng.Intn(8) {
			f := string(rune('a' + i))
			if i == 0 || rng.Intn(2) == 0 {
				f = strings.ToUpper(f)
			}
			if i == 0 {
				f += "*"
			} else if rng.Intn(4) == 0 {
				f += "!"
			}
			if rng.Intn(4) == 0 {
				f += "_"
			}
			text = append(text, f+fmt.Sprintf("@%d", rng.Intn(4)))
		}
		servers, health, self, behind := scene(strings.Join(text, " "))
		steps := 0
		for ; ; steps++ {
			if steps > 30 {
				t.Fatalf("no end from %v: %v", text, servers)
			}
			s := plan(servers, health, self, 5, behind)
			if s.do == keep {
				break
			}
			if s.peer == self {
				t.Fatalf("the leader is touched: %v", text)
			}
			before := majorityLives(servers, health)
			for i := range servers {
				if servers[i].ID == raft.ServerID(s.peer) {
					servers[i].Suffrage = map[action]raft.ServerSuffrage{promote: raft.Voter, demote: raft.Nonvoter}[s.do]
				}
			}
			if before && !majorityLives(servers, health) {
				t.Fatalf("majority lost by %s: %v", s, text)
			}
		}
	}
}

func majorityLives(servers []raft.Server, health map[PeerID]Health) bool {
	voters, living := 0, 0
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			voters++
			if health[PeerID(s.ID)].Alive {
				living++
			}
		}
	}
	return living > voters/2
}
