package placement

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// counting says which pods are counted, by which domains, and on which nodes.
type counting struct {
	terms    []*podTerm // all must select a pod
	topology string
	rule     *eligibility // nil counts on all nodes, and pods that are about to end, too
}

func (k *counting) key() string {
	var b strings.Builder
	for _, t := range k.terms {
		b.WriteString(t.key)
		b.WriteByte('&')
	}
	b.WriteString(k.topology)
	if k.rule != nil {
		b.WriteString(k.rule.key)
	}
	return b.String()
}

// tally counts pods by domain. It is made by looking at all pods and kept up with every one that comes or goes, so that
// the thousand pods of one template cost one count.
type tally struct {
	counting
	id     string
	counts map[string]int
	total  int
	// With a rule only:
	nodes  map[string]int // eligible nodes of every domain
	having map[int]int    // how many domains have so many pods
	least  int            // the smallest count of a domain; 0 when there is none
	used   uint64         // when it was last asked for
}

// matches reports whether it counts the pods of a kin.
func (s *tally) matches(namespaces map[string]labels.Set, k *kin) bool {
	for _, t := range s.terms {
		if !t.matches(namespaces, k.namespace, k.labels) {
			return false
		}
	}
	return true
}

// home is the domain of a node whose pods are counted.
func (s *tally) home(n *Node) (string, bool) {
	domain, ok := n.domain(s.topology)
	return domain, ok && (s.rule == nil || s.rule.allows(n))
}

// count notes that a pod of a kin that it matches has come to a node or left it.
func (s *tally) count(p *Pod, n *Node, by int) {
	domain, ok := s.home(n)
	if !ok || s.rule != nil && p.ending {
		return
	}
	s.total += by
	if s.rule == nil {
		bump(s.counts, domain, by)
		return
	}
	s.move(s.counts[domain], s.counts[domain]+by)
	s.counts[domain] += by
}

// node notes that a node has come, without pods, or has gone, after its pods.
func (s *tally) node(n *Node, by int) {
	domain, ok := s.home(n)
	if s.rule == nil || !ok {
		return
	}
	if s.nodes[domain] == 0 {
		s.having[0]++
		s.least = 0
	}
	if s.nodes[domain] += by; s.nodes[domain] > 0 {
		return
	}
	delete(s.nodes, domain)
	delete(s.counts, domain)
	s.drop(0)
}

func (s *tally) move(from, to int) {
	s.having[to]++
	s.least = min(s.least, to)
	s.drop(from)
}

func (s *tally) drop(count int) {
	if s.having[count]--; s.having[count] > 0 {
		return
	}
	delete(s.having, count)
	if count != s.least {
		return
	}
	s.least = 0
	if len(s.having) > 0 {
		s.least = slices.Min(slices.Collect(maps.Keys(s.having)))
	}
}

// tally returns the count, which is made if nobody has asked for it lately.
func (c *Cluster) tally(k *counting) *tally {
	id := k.key()
	c.clock++
	if s, ok := c.tallies[id]; ok {
		s.used = c.clock
		return s
	}
	s := &tally{counting: *k, id: id, counts: map[string]int{}, used: c.clock}
	if k.rule != nil {
		s.nodes, s.having = map[string]int{}, map[int]int{}
	}
	for _, n := range c.nodes {
		s.node(n, 1)
	}
	c.eachKin(s.in(), func(k *kin) {
		if !s.matches(c.namespaces, k) {
			return
		}
		k.tallies = append(k.tallies, s)
		for p, n := range k.pods {
			s.count(p, n, 1)
		}
	})
	if len(c.tallies) >= maxTallies {
		c.forgetOldest()
	}
	c.tallies[id] = s
	return s
}

// in is the only namespace whose pods can count, or empty.
func (s *tally) in() string { return s.terms[0].only() }

func (c *Cluster) forgetOldest() {
	var used []uint64
	for _, s := range c.tallies {
		used = append(used, s.used)
	}
	slices.Sort(used)
	c.forget(func(s *tally) bool { return s.used <= used[len(used)/2] })
}

// forget drops the counts for which old holds. They are made again when they are asked for.
func (c *Cluster) forget(old func(*tally) bool) {
	dropped := map[*tally]bool{}
	for id, s := range c.tallies {
		if old(s) {
			delete(c.tallies, id)
			dropped[s] = true
		}
	}
	if len(dropped) > 0 {
		c.eachKin("", func(k *kin) { k.tallies = slices.DeleteFunc(k.tallies, func(s *tally) bool { return dropped[s] }) })
	}
}
