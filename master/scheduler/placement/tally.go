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

func (s *tally) matches(namespaces map[string]labels.Set, p *Pod) bool {
	if s.rule != nil && p.ending {
		return false
	}
	for _, t := range s.terms {
		if !t.matches(namespaces, p) {
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

// count notes that a pod it selects has come to a domain or left it.
func (s *tally) count(domain string, by int) {
	s.total += by
	if s.rule == nil {
		bump(s.counts, domain, by)
		return
	}
	s.move(s.counts[domain], s.counts[domain]+by)
	s.counts[domain] += by
}

// node notes that a domain has one more eligible node, or one fewer.
func (s *tally) node(domain string, by int) {
	if s.rule == nil {
		return
	}
	if s.nodes[domain] == 0 {
		s.having[0]++
		s.least = 0
	}
	if s.nodes[domain] += by; s.nodes[domain] > 0 {
		return
	}
	// Its pods were taken off before.
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
		c.enter(s, n, 1)
	}
	if len(c.tallies) >= maxTallies {
		c.forgetOldest()
	}
	c.tallies[id] = s
	c.talliesIn[s.in()] = append(c.talliesIn[s.in()], s)
	return s
}

// enter counts a node and the pods on it, or takes them off.
func (c *Cluster) enter(s *tally, n *Node, by int) {
	domain, ok := s.home(n)
	if !ok {
		return
	}
	if by > 0 {
		s.node(domain, by)
	}
	for _, p := range n.pods {
		if s.matches(c.namespaces, p) {
			s.count(domain, by)
		}
	}
	if by < 0 {
		s.node(domain, by)
	}
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
	for id, s := range c.tallies {
		if !old(s) {
			continue
		}
		delete(c.tallies, id)
		in := slices.DeleteFunc(c.talliesIn[s.in()], func(o *tally) bool { return o == s })
		if c.talliesIn[s.in()] = in; len(in) == 0 {
			delete(c.talliesIn, s.in())
		}
	}
}
