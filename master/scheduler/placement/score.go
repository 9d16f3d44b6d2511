package placement

import (
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Each score is between 0 and 100; their weights say what matters more. Spreading comes first: it is what keeps a
// service alive when a machine dies.
const (
	best              = 100
	weightSpread      = 3
	weightLeastLoaded = 1
	weightPreferred   = 2
	weightSoftTaints  = 3
	// Of the spreading score, the part that looks at zones, when there are zones.
	zonePercent = 66
)

// Chooser finds the best node for one pod after another. It reuses memory; not safe for concurrent use.
type Chooser struct {
	rand *rand.Rand
	fits []*Node
}

// NewChooser returns a Chooser that breaks ties by r.
func NewChooser(r *rand.Rand) *Chooser { return &Chooser{rand: r} }

// Choose returns the node that suits p best, or why there is none.
func (c *Chooser) Choose(p *Pod, nodes []*Node) (*Node, *Failure) {
	c.fits = c.fits[:0]
	f := &Failure{}
	for _, n := range nodes {
		if n.object == nil {
			continue
		}
		f.Nodes++
		why := Objections(p, n)
		if why == nil {
			c.fits = append(c.fits, n)
			continue
		}
		if f.Reasons == nil {
			f.Reasons = map[string]int{}
		}
		for _, reason := range why {
			f.Reasons[reason]++
		}
	}
	switch len(c.fits) {
	case 0:
		return nil, f
	case 1:
		return c.fits[0], nil
	}
	return c.best(p), nil
}

func (c *Chooser) best(p *Pod) *Node {
	s := newSpread(p, c.fits)
	prefer := mostPreferred(p, c.fits)
	var chosen *Node
	top, ties := int64(-1), 0
	for _, n := range c.fits {
		score := weightLeastLoaded*leastLoaded(p, n) + weightSpread*s.score(p, n) +
			weightPreferred*preferred(p, n, prefer) - weightSoftTaints*softTaints(p, n)
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

// leastLoaded is the share of CPU and memory that stays free with p there.
func leastLoaded(p *Pod, n *Node) int64 {
	free := func(want, used, all int64) int64 {
		if all <= 0 || used+want > all {
			return 0
		}
		return (all - used - want) * best / all
	}
	return (free(p.scored.MilliCPU, n.scored.MilliCPU, n.allocatable.MilliCPU) +
		free(p.scored.Memory, n.scored.Memory, n.allocatable.Memory)) / 2
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
	return sum
}

func nodeLabels(n *Node) labels.Set { return labels.Set(n.object.Labels) }
