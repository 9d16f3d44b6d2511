package placement

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// kin are the pods of one namespace with the same labels, as those of one template usually are: who selects one of them selects
// all.
type kin struct {
	namespace, key string
	labels         labels.Set
	pods           map[*Pod]*Node
	tallies        []*tally // that count them
}

// place is where a pod has its share.
type place struct {
	node *Node
	kin  *kin
}

// kinOf returns p's kin, which it may be the first of.
func (c *Cluster) kinOf(p *Pod) *kin {
	in := c.kin[p.Namespace]
	if in == nil {
		in = map[string]*kin{}
		c.kin[p.Namespace] = in
	}
	key := labelKey(p.labels)
	k := in[key]
	if k != nil {
		return k
	}
	k = &kin{namespace: p.Namespace, key: key, labels: p.labels, pods: map[*Pod]*Node{}}
	for _, s := range c.tallies {
		if s.matches(c.namespaces, k) {
			k.tallies = append(k.tallies, s)
		}
	}
	in[key] = k
	return k
}

// disown forgets a kin without pods.
func (c *Cluster) disown(k *kin) {
	if len(k.pods) > 0 {
		return
	}
	in := c.kin[k.namespace]
	if delete(in, k.key); len(in) == 0 {
		delete(c.kin, k.namespace)
	}
}

// eachKin calls f for all of a namespace; of all when it is empty.
func (c *Cluster) eachKin(namespace string, f func(*kin)) {
	if namespace != "" {
		for _, k := range c.kin[namespace] {
			f(k)
		}
		return
	}
	for _, in := range c.kin {
		for _, k := range in {
			f(k)
		}
	}
}

// labelKey is equal for equal labels. A label's key and value have neither of the separators.
func labelKey(l labels.Set) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(l)) {
		b.WriteString(k)
		b.WriteByte('=')
		b.WriteString(l[k])
		b.WriteByte(',')
	}
	return b.String()
}
