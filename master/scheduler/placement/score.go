package placement

import (
	"math"

	corev1 "k8s.io/api/core/v1"
)

// Each score is between 0 and 100; their weights say what matters more. Spreading comes first: it is what keeps a
// service alive when a machine dies.
const best = 100

// Score is one reason to prefer a node or not.
type Score struct {
	Name   string `json:"name"`
	Points int64  `json:"points"` // 0 to 100
	Weight int64  `json:"weight"` // negative when points speak against the node
}

// The scores, in the order of weights.
const (
	byLoad = iota
	byBalance
	bySpread
	byPreference
	bySoftTaints
	byEvenness
	byNeighbours
	byImages
	kinds
)

var weights = [kinds]Score{
	byLoad:       {"free", 0, 1},
	byBalance:    {"balance", 0, 1},
	bySpread:     {"spread", 0, 3},
	byPreference: {"preferred", 0, 2},
	bySoftTaints: {"soft taints", 0, -3},
	byEvenness:   {"even", 0, 2},
	byNeighbours: {"neighbours", 0, 2},
	byImages:     {"images", 0, 1},
}

// Of the spreading score, the part that looks at zones, when there are zones.
const zonePercent = 66

// scorer gives points to the candidates of one pod.
type scorer struct {
	query
	spread  spread
	most    int64 // of the preferences
	wishing wishing
	wishes  scale
	crowds  scale
}

// scale turns sums that mean nothing by themselves into points: those of all candidates are between low and high.
type scale struct{ low, high float64 }

func (s *scale) see(v float64) { s.low, s.high = min(s.low, v), max(s.high, v) }

func (s *scale) points(v float64) int64 {
	if s.high == s.low {
		return 0
	}
	return int64(best * (v - s.low) / (s.high - s.low))
}

func (c *Cluster) scorer(q query, fits []*Node) *scorer {
	s := &scorer{query: q, spread: newSpread(q.Pod, fits), most: mostPreferred(q.Pod, fits), wishing: c.wishingOf(q.Pod)}
	nowhere := scale{math.Inf(1), math.Inf(-1)}
	s.wishes, s.crowds = nowhere, nowhere
	for _, n := range fits {
		if !s.wishing.none() {
			s.wishes.see(float64(s.wishing.sum(n)))
		}
		if crowd, ok := q.even.crowd(n); ok && len(q.even.soft) > 0 {
			s.crowds.see(crowd)
		}
	}
	return s
}

// points returns what speaks for n, by kind, and the weighted sum.
func (s *scorer) points(n *Node) (by [kinds]int64, sum int64) {
	by[byLoad], by[byBalance] = load(s.Pod, n)
	by[bySpread] = s.spread.score(s.Pod, n)
	by[byPreference] = preferred(s.Pod, n, s.most)
	by[bySoftTaints] = softTaints(s.Pod, n)
	by[byImages] = s.cluster.local(s.Pod, n)
	if !s.wishing.none() {
		by[byNeighbours] = s.wishes.points(float64(s.wishing.sum(n)))
	}
	if len(s.even.soft) > 0 {
		by[byEvenness] = s.evenness(n)
	}
	for i, p := range by {
		sum += p * weights[i].Weight
	}
	return by, sum
}

// evenness is higher where fewer are; a node without the labels has none.
func (s *scorer) evenness(n *Node) int64 {
	crowd, ok := s.even.crowd(n)
	switch {
	case !ok:
		return 0
	case s.crowds.high == 0:
		return best
	}
	return int64(best * (s.crowds.high + s.crowds.low - crowd) / s.crowds.high)
}

func (c *Cluster) best(q query, fits []*Node) *Node {
	s := c.scorer(q, fits)
	var chosen *Node
	top, ties := int64(0), 0
	for _, n := range fits {
		_, score := s.points(n)
		switch {
		case chosen == nil || score > top:
			chosen, top, ties = n, score, 1
		case score == top:
			// Each of the equals is as likely as the others.
			if ties++; c.rand.IntN(ties) == 0 {
				chosen = n
			}
		}
	}
	return chosen
}

// load returns the share of CPU and memory that stays free with p there, and how alike the two shares are.
func load(p *Pod, n *Node) (free, balance int64) {
	cpu := part(p.scored.MilliCPU+n.scored.MilliCPU, n.allocatable.MilliCPU)
	memory := part(p.scored.Memory+n.scored.Memory, n.allocatable.Memory)
	return best - (cpu+memory)/2, best - max(cpu-memory, memory-cpu)/2
}

// part is how much of all is used, in percent.
func part(used, all int64) int64 {
	if all <= 0 || used > all {
		return best
	}
	return used * best / all
}

// spread knows how many pods of a group the candidates hold.
type spread struct {
	most     int
	zones    map[string]int
	mostZone int
}

func newSpread(p *Pod, nodes []*Node) spread {
	var s spread
	if p.Group == "" {
		return s
	}
	for _, n := range nodes {
		count := n.groups[p.Group]
		s.most = max(s.most, count)
		if n.zone == "" {
			continue
		}
		if s.zones == nil {
			s.zones = map[string]int{}
		}
		s.zones[n.zone] += count
		s.mostZone = max(s.mostZone, s.zones[n.zone])
	}
	return s
}

// score is higher where fewer of p's group are.
func (s *spread) score(p *Pod, n *Node) int64 {
	if p.Group == "" || s.most == 0 {
		return best
	}
	byNode := int64(best * (s.most - n.groups[p.Group]) / s.most)
	if s.mostZone == 0 || n.zone == "" {
		return byNode
	}
	byZone := int64(best * (s.mostZone - s.zones[n.zone]) / s.mostZone)
	return (byNode*(100-zonePercent) + byZone*zonePercent) / 100
}

// preferred is the weight of the matching preferences relative to most.
func preferred(p *Pod, n *Node, most int64) int64 {
	if most == 0 {
		return 0
	}
	return best * preference(p, n) / most
}

func mostPreferred(p *Pod, nodes []*Node) int64 {
	var most int64
	if len(p.preferred) > 0 {
		for _, n := range nodes {
			most = max(most, preference(p, n))
		}
	}
	return most
}

func preference(p *Pod, n *Node) int64 {
	var sum int64
	for i := range p.preferred {
		if p.preferred[i].matches(n.object) {
			sum += p.preferred[i].weight
		}
	}
	return sum
}

// softTaints is how much the node asks not to get p.
func softTaints(p *Pod, n *Node) int64 {
	var sum int64
	for _, t := range n.taints {
		if t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerated(p, t) {
			sum += best
		}
	}
	return sum // more than best with more than one
}
