package placement

import (
	"cmp"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

const (
	maxTallies = 1024 // counts that are kept up; the longest unused half is dropped beyond
	maxIdle    = 256  // terms that nobody carries any more
)

// Cluster is what is where: nodes, the pods that have a share of them, and counts of both, all kept up with every change.
// Not safe for concurrent use.
type Cluster struct {
	nodes      map[string]*Node
	where      map[types.UID]place // of every pod that has a share of a node
	wanted     map[types.UID]*Node // of every pod for which others were told to go
	namespaces map[string]labels.Set
	images     map[string]int // how many nodes have it

	order []*Node // those that exist; zones take turns
	stale bool    // order must be made anew
	next  int     // where in order the next search begins

	kin       map[string]map[string]*kin // by namespace and labels
	tallies   map[string]*tally
	clock     uint64
	carried   map[string]*carried
	carriedIn map[string][]*carried
	idle      int

	rand *rand.Rand
	fits []*Node // memory of Choose
}

// NewCluster returns a Cluster without nodes that breaks ties by r.
func NewCluster(r *rand.Rand) *Cluster {
	return &Cluster{
		nodes: map[string]*Node{}, where: map[types.UID]place{}, wanted: map[types.UID]*Node{}, namespaces: map[string]labels.Set{}, images: map[string]int{},
		kin: map[string]map[string]*kin{}, tallies: map[string]*tally{}, carried: map[string]*carried{}, carriedIn: map[string][]*carried{}, rand: r,
	}
}

// Node returns the node of that name, or nil.
func (c *Cluster) Node(name string) *Node { return c.nodes[name] }

func (c *Cluster) node(name string) *Node {
	n, ok := c.nodes[name]
	if !ok {
		n = newNode(name)
		c.nodes[name] = n
	}
	return n
}

// SetNode takes a Node's state, new or changed, and returns the node.
func (c *Cluster) SetNode(o *corev1.Node) *Node {
	n := c.node(o.Name)
	if n.object == nil || n.zone != o.Labels[corev1.LabelTopologyZone] {
		c.stale = true
	}
	c.change(n, o)
	return n
}

// RemoveNode forgets a Node. The pods that have a share of it keep that, in case that it comes back.
func (c *Cluster) RemoveNode(name string) {
	if n, ok := c.nodes[name]; ok {
		c.stale = true
		c.change(n, nil)
		c.drop(n)
	}
}

// change sets the node's object between taking all that is counted of it off and counting it again.
func (c *Cluster) change(n *Node, o *corev1.Node) {
	c.enterPods(n, -1)
	c.enterNode(n, -1)
	n.set(o)
	c.enterNode(n, 1)
	c.enterPods(n, 1)
}

func (c *Cluster) enterNode(n *Node, by int) {
	if n.object == nil {
		return
	}
	for name := range n.images {
		bump(c.images, name, by)
	}
	for _, s := range c.tallies {
		s.node(n, by)
	}
}

func (c *Cluster) enterPods(n *Node, by int) {
	if n.object == nil {
		return
	}
	for uid, p := range n.pods {
		c.count(p, c.where[uid], by)
	}
}

func (c *Cluster) drop(n *Node) {
	if n.gone() {
		delete(c.nodes, n.Name)
	}
}

// Add gives the pod a share of the node, and of no other.
func (c *Cluster) Add(p *Pod, node string) {
	c.Remove(p.UID)
	at := place{node: c.node(node), kin: c.kinOf(p)}
	c.where[p.UID] = at
	at.node.add(p)
	at.kin.pods[p] = at.node
	c.count(p, at, 1)
}

// Remove takes the pod's share back and returns the node it was on and what had it, or nil.
func (c *Cluster) Remove(uid types.UID) (*Node, *Pod) {
	at, ok := c.where[uid]
	if !ok {
		return nil, nil
	}
	p := at.node.pods[uid]
	delete(c.where, uid)
	at.node.remove(p)
	c.count(p, at, -1)
	delete(at.kin.pods, p)
	c.disown(at.kin)
	c.drop(at.node)
	return at.node, p
}

// Where returns the node that the pod has a share of, or an empty name.
func (c *Cluster) Where(uid types.UID) string {
	if at, ok := c.where[uid]; ok {
		return at.node.Name
	}
	return ""
}

// count notes what p's coming to a node, or leaving it, changes for others.
func (c *Cluster) count(p *Pod, at place, by int) {
	c.carry(p, at.node, by)
	for _, s := range at.kin.tallies {
		s.count(p, at.node, by)
	}
}

// Want notes that others were told to go from the node for p, so that no lesser pod takes what they leave.
func (c *Cluster) Want(p *Pod, node string) {
	c.Unwant(p.UID)
	n := c.node(node)
	if n.guests == nil {
		n.guests = map[types.UID]*Pod{}
	}
	n.guests[p.UID] = p
	c.wanted[p.UID] = n
}

// Unwant takes Want back.
func (c *Cluster) Unwant(uid types.UID) {
	if n, ok := c.wanted[uid]; ok {
		delete(n.guests, uid)
		delete(c.wanted, uid)
		c.drop(n)
	}
}

// Outbid takes back what was wanted of the node for pods less urgent than p, and returns those.
func (c *Cluster) Outbid(p *Pod, n *Node) (lesser []types.UID) {
	for uid, g := range n.guests {
		if g.Priority < p.Priority && uid != p.UID {
			lesser = append(lesser, uid)
			c.Unwant(uid)
		}
	}
	return lesser
}

// Leaving returns the node where others were told to go for p, as long as some are about to end there; else an empty name.
func (c *Cluster) Leaving(p *Pod) string {
	n, ok := c.wanted[p.UID]
	if !ok {
		return ""
	}
	for _, o := range n.pods {
		if o.ending && o.Priority < p.Priority {
			return n.Name
		}
	}
	return ""
}

// ordered are the nodes that exist, by zones in turn, so that the first hundred of any search are of all zones.
func (c *Cluster) ordered() []*Node {
	if !c.stale {
		return c.order
	}
	c.stale = false
	zones := map[string][]*Node{}
	for _, n := range c.nodes {
		if n.object != nil {
			zones[n.zone] = append(zones[n.zone], n)
		}
	}
	type place struct {
		turn int
		zone string
		*Node
	}
	var all []place
	for zone, nodes := range zones {
		slices.SortFunc(nodes, func(a, b *Node) int { return cmp.Compare(a.Name, b.Name) })
		for i, n := range nodes {
			all = append(all, place{i, zone, n})
		}
	}
	slices.SortFunc(all, func(a, b place) int { return cmp.Or(cmp.Compare(a.turn, b.turn), cmp.Compare(a.zone, b.zone)) })
	c.order = c.order[:0]
	for _, p := range all {
		c.order = append(c.order, p.Node)
	}
	return c.order
}
