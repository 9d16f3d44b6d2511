package placement

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Move is a pod that had better be elsewhere. To is where another one like it would be placed now.
type Move struct {
	Pod      *Pod
	From, To *Node
	Why      string // for people
}

// lopsided is how much more of itself a node must have given away than another, of the resource of which that is most, before a pod moves for that
// alone. It keeps pods from moving to and fro.
const lopsided = 0.25

// Improve returns the move that helps most, or nil when none helps: first one that spreads a group better over zones, then over nodes; when all are
// spread well, one from a crowded node to an empty one. Each makes the sum of squares smaller that it is judged by, so that an end is reached. Only what
// movable admits is moved, and only to where placement would put it anyway.
func (c *Cluster) Improve(movable func(*Pod) bool) *Move {
	groups := c.byGroup()
	for _, g := range slices.SortedFunc(maps.Keys(groups), func(a, b string) int {
		return cmp.Or(cmp.Compare(groups[b].skew, groups[a].skew), cmp.Compare(a, b))
	}) {
		if groups[g].skew < 2 {
			break
		}
		if m := c.spread(groups[g], movable); m != nil {
			return m
		}
	}
	return c.relieve(groups, movable)
}

// spreading is where the pods of one group are, among the nodes that take part.
type spreading struct {
	group string
	nodes map[*Node]int // those that have some
	zones map[string]int
	skew  int // how many more the node or zone with the most has than the one with the fewest
}

func (c *Cluster) byGroup() map[string]*spreading {
	all, open, zones := map[string]*spreading{}, 0, map[string]bool{}
	for _, n := range c.ordered() {
		if n.closed() {
			continue
		}
		open++
		zones[n.zone] = true
		for g, count := range n.groups {
			s := all[g]
			if s == nil {
				s = &spreading{group: g, nodes: map[*Node]int{}, zones: map[string]int{}}
				all[g] = s
			}
			s.nodes[n] = count
			s.zones[n.zone] += count
		}
	}
	for _, s := range all {
		s.skew = max(skew(s.nodes, open), skew(s.zones, len(zones)))
	}
	return all
}

// skew is the difference between the most and the fewest of so many places, of which counts has those that have any.
func skew[K comparable](counts map[K]int, places int) int {
	all := slices.Collect(maps.Values(counts))
	if len(all) < places {
		return slices.Max(all)
	}
	return slices.Max(all) - slices.Min(all)
}

// closed reports whether no ordinary pod may come to the node: it does not take part.
func (n *Node) closed() bool {
	return n.object == nil || n.object.Spec.Unschedulable || len(n.taints) > 0
}

// spread looks for a pod of the group that would leave a crowd, beginning with the biggest.
func (c *Cluster) spread(s *spreading, movable func(*Pod) bool) *Move {
	nodes := slices.SortedFunc(maps.Keys(s.nodes), func(a, b *Node) int {
		return cmp.Or(cmp.Compare(s.zones[b.zone], s.zones[a.zone]), cmp.Compare(s.nodes[b], s.nodes[a]), cmp.Compare(a.Name, b.Name))
	})
	for _, from := range nodes {
		for _, p := range from.movables(movable) {
			if p.Group != s.group {
				continue
			}
			to := c.instead(p, from)
			if to == nil || to == from {
				break // the others of the group are like it
			}
			switch zones, nodes := s.zones[from.zone]-s.zones[to.zone], s.nodes[from]-s.nodes[to]; {
			case from.zone != to.zone && zones >= 2:
				return &Move{p, from, to, fmt.Sprintf("of its like %d are in zone %q and %d in zone %q", s.zones[from.zone], from.zone, s.zones[to.zone], to.zone)}
			case nodes >= 2 && (from.zone == to.zone || zones >= 1):
				return &Move{p, from, to, fmt.Sprintf("of its like %d are on %s and %d on %s", s.nodes[from], from.Name, s.nodes[to], to.Name)}
			}
			break
		}
	}
	return nil
}

// movables are the pods of a node that may be moved, the youngest first: they have done the least.
func (n *Node) movables(movable func(*Pod) bool) []*Pod {
	var out []*Pod
	for _, p := range n.pods {
		if !p.leaving && p.Group != "" && movable(p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *Pod) int { return cmp.Or(b.since.Compare(a.since), cmp.Compare(a.UID, b.UID)) })
	return out
}

// instead returns where a pod would be placed that is to take p's place, or nil. It leaves the cluster as it was.
func (c *Cluster) instead(p *Pod, from *Node) *Node {
	leaving, next := *p, *p
	leaving.leaving = true
	next.UID, next.nodeName = p.UID+"/next", ""
	c.Add(&leaving, from.Name)
	defer c.Add(p, from.Name)
	n, _ := c.Choose(&next)
	return n
}

// relieve looks for a pod that would leave a crowded node for an empty one, and leaves its group spread no worse.
func (c *Cluster) relieve(groups map[string]*spreading, movable func(*Pod) bool) *Move {
	var nodes []*Node
	for _, n := range c.ordered() {
		if !n.closed() {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) < 2 {
		return nil
	}
	load := func(n *Node, more Resources, sign float64) float64 {
		part := func(used, add, of int64) float64 {
			if of <= 0 {
				return 0
			}
			return (float64(used) + sign*float64(add)) / float64(of)
		}
		return max(part(n.used.MilliCPU, more.MilliCPU, n.allocatable.MilliCPU), part(n.used.Memory, more.Memory, n.allocatable.Memory))
	}
	slices.SortFunc(nodes, func(a, b *Node) int {
		return cmp.Or(cmp.Compare(load(b, Resources{}, 0), load(a, Resources{}, 0)), cmp.Compare(a.Name, b.Name))
	})
	least := load(nodes[len(nodes)-1], Resources{}, 0)
	for _, from := range nodes {
		is := load(from, Resources{}, 0)
		if is-least < lopsided {
			return nil
		}
		for _, p := range from.movables(movable) {
			to := c.instead(p, from)
			if to == nil || to == from {
				continue
			}
			there, zones := load(to, Resources{}, 0), groups[p.Group].zones
			if from.groups[p.Group] <= to.groups[p.Group] || from.zone != to.zone && zones[from.zone] <= zones[to.zone] {
				continue
			}
			if is-there >= lopsided && load(to, p.requests, 1) <= load(from, p.requests, -1) {
				return &Move{p, from, to, fmt.Sprintf("%.0f %% of %s are taken, and %.0f %% of %s", is*100, from.Name, there*100, to.Name)}
			}
		}
	}
	return nil
}
