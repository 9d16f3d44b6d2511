package placement

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// neighbours is what a pod says of the pods it wants to be near to, and apart from.
type neighbours struct {
	near   []*podTerm // all must be there
	apart  []*podTerm // none may be there
	wishes []wish
}

// wish is a preference: to be near when its weight is positive, apart when negative.
type wish struct {
	*podTerm
	weight int64
}

// nearWeight is how much a pod that must be near others is wished to them, as kube-scheduler's hardPodAffinityWeight.
const nearWeight = 1

func neighboursOf(p *corev1.Pod) (out neighbours) {
	a := p.Spec.Affinity
	if a == nil {
		return out
	}
	if a.PodAffinity != nil {
		out.near = termsOf(p, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		out.wishes = wishesOf(p, a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, 1)
	}
	if a.PodAntiAffinity != nil {
		out.apart = termsOf(p, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		out.wishes = append(out.wishes, wishesOf(p, a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, -1)...)
	}
	return out
}

func termOf(p *corev1.Pod, t *corev1.PodAffinityTerm) *podTerm {
	out := newPodTerm(p, t.Namespaces, t.NamespaceSelector, t.LabelSelector, t.TopologyKey)
	if t.LabelSelector != nil {
		out.require(p, t.MatchLabelKeys, selection.In)
		out.require(p, t.MismatchLabelKeys, selection.NotIn)
	}
	return out
}

func termsOf(p *corev1.Pod, terms []corev1.PodAffinityTerm) (out []*podTerm) {
	for i := range terms {
		out = append(out, termOf(p, &terms[i]))
	}
	return out
}

func wishesOf(p *corev1.Pod, terms []corev1.WeightedPodAffinityTerm, sign int64) (out []wish) {
	for i := range terms {
		out = append(out, wish{termOf(p, &terms[i].PodAffinityTerm), sign * int64(terms[i].Weight)})
	}
	return out
}

// carried is a term that pods on nodes have, and in which domains those pods are.
type carried struct {
	term   *podTerm
	apart  map[string]int   // pods that nothing the term selects may join
	wishes map[string]int64 // how much those it selects are wished here
	users  int
}

// carry counts what p, on n, says of its neighbours.
func (c *Cluster) carry(p *Pod, n *Node, sign int) {
	for _, t := range p.neighbours.apart {
		c.carrying(t, n, sign, func(k *carried, domain string) { bump(k.apart, domain, sign) })
	}
	wish := func(t *podTerm, weight int64) {
		c.carrying(t, n, sign, func(k *carried, domain string) { bump(k.wishes, domain, int64(sign)*weight) })
	}
	for _, t := range p.neighbours.near {
		wish(t, nearWeight)
	}
	for _, w := range p.neighbours.wishes {
		wish(w.podTerm, w.weight)
	}
}

func (c *Cluster) carrying(t *podTerm, n *Node, sign int, count func(k *carried, domain string)) {
	domain, ok := n.domain(t.topology)
	if !ok {
		return
	}
	k, known := c.carried[t.key]
	if !known {
		k = &carried{term: t, apart: map[string]int{}, wishes: map[string]int64{}}
		c.carried[t.key] = k
		c.carriedIn[t.only()] = append(c.carriedIn[t.only()], k)
	}
	if known && k.users == 0 {
		c.idle--
	}
	count(k, domain)
	if k.users += sign; k.users == 0 {
		c.idle++ // kept: somebody may have it in hand
	}
}

// sweep forgets the terms that nobody carries any more, once there are many.
func (c *Cluster) sweep() {
	if c.idle < maxIdle {
		return
	}
	for key, k := range c.carried {
		if k.users > 0 {
			continue
		}
		delete(c.carried, key)
		in := slices.DeleteFunc(c.carriedIn[k.term.only()], func(o *carried) bool { return o == k })
		if c.carriedIn[k.term.only()] = in; len(in) == 0 {
			delete(c.carriedIn, k.term.only())
		}
	}
	c.idle = 0
}

func bump[N int | int64](counts map[string]N, domain string, by N) {
	if counts[domain] += by; counts[domain] == 0 {
		delete(counts, domain)
	}
}

// company is what the neighbours of one pod mean for where it can go.
type company struct {
	near   []*tally
	alone  bool // nobody it must be near to is anywhere, and it may be the first
	apart  []*tally
	others []*carried // those who do not want it
}

func (c *Cluster) companyOf(p *Pod) company {
	var out company
	for _, t := range p.neighbours.near {
		// A neighbour is a pod that all of the terms select.
		out.near = append(out.near, c.tally(&counting{terms: p.neighbours.near, topology: t.topology}))
	}
	out.alone = len(out.near) > 0
	for i, t := range p.neighbours.near {
		out.alone = out.alone && out.near[i].total == 0 && c.selects(t, p)
	}
	for _, t := range p.neighbours.apart {
		out.apart = append(out.apart, c.tally(&counting{terms: []*podTerm{t}, topology: t.topology}))
	}
	c.concerned(p, func(k *carried) {
		if len(k.apart) > 0 {
			out.others = append(out.others, k)
		}
	})
	return out
}

// concerned calls f with the terms of pods on nodes that select p.
func (c *Cluster) concerned(p *Pod, f func(*carried)) {
	for _, in := range [...]string{p.Namespace, ""} {
		for _, k := range c.carriedIn[in] {
			if k.users > 0 && c.selects(k.term, p) {
				f(k)
			}
		}
	}
}

// Objections are asked for of many nodes, and therefore made once.
var (
	notNear   = []string{"node(s) didn't match pod affinity rules"}
	notApart  = []string{"node(s) didn't match pod anti-affinity rules"}
	unwelcome = []string{"node(s) didn't satisfy existing pods anti-affinity rules"}
)

func (o *company) objections(n *Node) []string {
	for _, s := range o.near {
		domain, ok := n.domain(s.topology)
		if !ok || s.counts[domain] == 0 && !o.alone {
			return notNear
		}
	}
	for _, s := range o.apart {
		if domain, ok := n.domain(s.topology); ok && s.counts[domain] > 0 {
			return notApart
		}
	}
	for _, k := range o.others {
		if domain, ok := n.domain(k.term.topology); ok && k.apart[domain] > 0 {
			return unwelcome
		}
	}
	return nil
}

// wishing is how welcome one pod is on nodes, by its own wishes and those of the pods that are there.
type wishing struct {
	own    []ownWish
	others []*carried
}

type ownWish struct {
	*tally
	weight int64
}

func (c *Cluster) wishingOf(p *Pod) wishing {
	var out wishing
	for _, w := range p.neighbours.wishes {
		out.own = append(out.own, ownWish{c.tally(&counting{terms: []*podTerm{w.podTerm}, topology: w.topology}), w.weight})
	}
	c.concerned(p, func(k *carried) {
		if len(k.wishes) > 0 {
			out.others = append(out.others, k)
		}
	})
	return out
}

func (w *wishing) none() bool { return len(w.own)+len(w.others) == 0 }

func (w *wishing) sum(n *Node) (sum int64) {
	for _, o := range w.own {
		if domain, ok := n.domain(o.topology); ok {
			sum += o.weight * int64(o.counts[domain])
		}
	}
	for _, k := range w.others {
		if domain, ok := n.domain(k.term.topology); ok {
			sum += k.wishes[domain]
		}
	}
	return sum
}

// Concerns reports whether p may fit elsewhere because other came or went: one of them says something of the other.
func (c *Cluster) Concerns(p, other *Pod) bool {
	selects := func(a, b *Pod) bool {
		one := func(terms []*podTerm) bool {
			return slices.ContainsFunc(terms, func(t *podTerm) bool { return c.selects(t, b) })
		}
		return one(a.neighbours.near) || one(a.neighbours.apart) ||
			slices.ContainsFunc(a.spread, func(s constraint) bool { return s.hard && c.selects(s.term, b) })
	}
	return selects(p, other) || slices.ContainsFunc(other.neighbours.apart, func(t *podTerm) bool { return c.selects(t, p) })
}

// Picky reports whether where p fits depends on what is on other nodes.
func (p *Pod) Picky() bool {
	return len(p.neighbours.near)+len(p.neighbours.apart) > 0 || slices.ContainsFunc(p.spread, func(s constraint) bool { return s.hard })
}

// SetNamespace tells the labels of a namespace; nil means that there is none of that name any more.
func (c *Cluster) SetNamespace(name string, l map[string]string) {
	if l == nil {
		delete(c.namespaces, name)
	} else {
		c.namespaces[name] = labels.Set(l)
	}
	c.forget(func(s *tally) bool {
		return slices.ContainsFunc(s.terms, func(t *podTerm) bool { return t.byLabels != nil })
	})
}
