package placement

import (
	"slices"
)

// enough is how many nodes that fit are looked at before the best of them is taken. The bounds are kube-scheduler's lower
// ones: with zones in turn, and each search beginning where the last one ended, a hundred nodes are as good as all.
func enough(nodes int) int { return max(100, nodes/20) }

// Choose returns a node that suits p best, or why there is none.
func (c *Cluster) Choose(p *Pod) (*Node, *Failure) {
	q := c.query(p)
	nodes, others := c.candidates(p)
	f := &Failure{Nodes: len(nodes) + others}
	if p.volumes != nil && p.volumes.problem != "" {
		f.whole = p.volumes.problem
		return nil, f
	}
	c.fits = c.fits[:0]
	for i := range nodes {
		n := nodes[(c.next+i)%len(nodes)]
		why := q.objections(n)
		if why != nil {
			f.note(1, why...)
			continue
		}
		if c.fits = append(c.fits, n); len(c.fits) == enough(len(nodes)) {
			c.next = (c.next + i + 1) % len(nodes)
			break
		}
	}
	switch len(c.fits) {
	case 0:
		if others > 0 {
			f.note(others, notMatching...)
		}
		return nil, f
	case 1:
		return c.fits[0], nil
	}
	return c.best(q, c.fits), nil
}

// candidates are the nodes to look at, and how many others there are that p's affinity cannot match.
func (c *Cluster) candidates(p *Pod) (nodes []*Node, others int) {
	all := c.ordered()
	if p.pinned == nil {
		return all, 0
	}
	for _, name := range p.pinned {
		if n := c.nodes[name]; n != nil && n.object != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes, len(all) - len(nodes)
}

// Verdict is what placement thinks of one node for one pod.
type Verdict struct {
	Node       string   `json:"node"`
	Objections []string `json:"objections,omitempty"` // none when it would do
	Scores     []Score  `json:"scores,omitempty"`     // of a node that would do
	Total      int64    `json:"total"`
}

// Explain returns the verdicts on all nodes, the best first. It takes the same steps as Choose, of all nodes.
func (c *Cluster) Explain(p *Pod) []Verdict {
	q := c.query(p)
	var out []Verdict
	var fits []*Node
	for _, n := range c.ordered() {
		if why := q.objections(n); why != nil {
			out = append(out, Verdict{Node: n.Name, Objections: why})
		} else {
			fits = append(fits, n)
		}
	}
	s := c.scorer(q, fits)
	for _, n := range fits {
		by, total := s.points(n)
		v := Verdict{Node: n.Name, Total: total}
		for i, points := range by {
			score := weights[i]
			score.Points = points
			v.Scores = append(v.Scores, score)
		}
		out = append(out, v)
	}
	slices.SortStableFunc(out, func(a, b Verdict) int {
		if fits := min(len(a.Objections), 1) - min(len(b.Objections), 1); fits != 0 {
			return fits
		}
		return int(b.Total - a.Total)
	})
	return out
}
