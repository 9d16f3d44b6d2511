package placement

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Budget is a PodDisruptionBudget: of the pods it selects, so many may go now.
type Budget struct {
	Namespace string
	Selects   func(labels map[string]string) bool
	Allowed   int
}

// Sacrifice is what it takes to run a pod on a node: others have to go.
type Sacrifice struct {
	Node     *Node
	Victims  []*Pod // the most important first
	Breaking int    // how many of them a budget does not allow to go
}

// looked is the fewest nodes that are looked at for victims, as in kube-scheduler, which looks at a tenth if that is more.
const looked = 100

// Preempt returns where p could run if pods of lower priority went, or nil. Of all nodes it takes the one where the fewest
// budgets break; then where the most important victim is the least important; then the smallest sum of priorities, the
// fewest victims, and the youngest: kube-scheduler's order. Budgets are kept where that is possible.
func (c *Cluster) Preempt(p *Pod, budgets []Budget) *Sacrifice {
	q := c.query(p)
	nodes, _ := c.candidates(p)
	var found []*Sacrifice
	for i := range nodes {
		n := nodes[(c.next+i)%len(nodes)]
		if q.hopeless(n) {
			continue
		}
		s := q.sacrifice(n, budgets)
		if s == nil {
			continue
		}
		if found = append(found, s); len(found) == max(looked, len(nodes)/10) {
			break
		}
	}
	if len(found) == 0 {
		return nil
	}
	return slices.MinFunc(found, cheaper)
}

// sacrifice finds the fewest pods that have to leave n, or nil if that does not help. Those that are about to end need not
// be told. It leaves the cluster as it was.
func (q *query) sacrifice(n *Node, budgets []Budget) *Sacrifice {
	var lower, out []*Pod
	for _, p := range n.pods {
		if p.Priority < q.Priority {
			out = append(out, p)
			if !p.ending {
				lower = append(lower, p)
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	for _, p := range out {
		q.cluster.Remove(p.UID)
	}
	defer func() {
		for _, p := range out {
			q.cluster.Add(p, n.Name)
		}
	}()
	if q.objections(n) != nil {
		return nil
	}
	slices.SortFunc(lower, moreImportant)
	breaking, rest := divide(lower, budgets)
	s := &Sacrifice{Node: n}
	// spare lets stay what can; what was removed before comes back in the end anyhow.
	spare := func(pods []*Pod) (victims []*Pod) {
		for _, p := range pods {
			q.cluster.Add(p, n.Name)
			if q.objections(n) != nil {
				q.cluster.Remove(p.UID)
				victims = append(victims, p)
			}
		}
		return victims
	}
	s.Victims = spare(breaking)
	s.Breaking = len(s.Victims)
	s.Victims = append(s.Victims, spare(rest)...)
	slices.SortFunc(s.Victims, moreImportant)
	return s
}

// divide returns the pods whose going a budget does not allow, if all of the others went, and those others.
func divide(pods []*Pod, budgets []Budget) (breaking, rest []*Pod) {
	left := make([]int, len(budgets))
	for i, b := range budgets {
		left[i] = b.Allowed
	}
	for _, p := range pods {
		breaks := false
		for i, b := range budgets {
			if b.Namespace == p.Namespace && b.Selects(p.labels) {
				left[i]--
				breaks = breaks || left[i] < 0
			}
		}
		if breaks {
			breaking = append(breaking, p)
		} else {
			rest = append(rest, p)
		}
	}
	return breaking, rest
}

// moreImportant orders by priority, and then by age.
func moreImportant(a, b *Pod) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.since.Compare(b.since), cmp.Compare(a.UID, b.UID))
}

func cheaper(a, b *Sacrifice) int {
	return cmp.Or(
		cmp.Compare(a.Breaking, b.Breaking),
		cmp.Compare(a.highest(), b.highest()),
		cmp.Compare(a.sum(), b.sum()),
		cmp.Compare(len(a.Victims), len(b.Victims)),
		b.oldest().Compare(a.oldest()),
	)
}

func (s *Sacrifice) highest() int32 {
	if len(s.Victims) == 0 {
		return math.MinInt32
	}
	return s.Victims[0].Priority
}

// sum of the priorities, each counted from the lowest there is, so that two victims are more than one.
func (s *Sacrifice) sum() (sum int64) {
	for _, p := range s.Victims {
		sum += int64(p.Priority) - math.MinInt32
	}
	return sum
}

// oldest is when the oldest of the most important victims was made.
func (s *Sacrifice) oldest() (oldest time.Time) {
	for _, p := range s.Victims {
		if p.Priority == s.highest() && (oldest.IsZero() || p.since.Before(oldest)) {
			oldest = p.since
		}
	}
	return oldest
}
