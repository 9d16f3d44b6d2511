package placement

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// filters look at the node alone; the first that objects explains why. Each returns nil when the node will do. Cheap ones
// and those that usually object come first. Those before firstOfTaken object whatever is on the node.
var filters = [...]func(*Pod, *Node) []string{unschedulable, nodeName, taints, affinity, ports, fit}

const firstOfTaken = 4

// query is one pod with what the whole cluster means for it, worked out once for all nodes.
type query struct {
	*Pod
	cluster *Cluster
	company company
	even    evenness
}

func (c *Cluster) query(p *Pod) query {
	c.sweep()
	return query{Pod: p, cluster: c, company: c.companyOf(p), even: c.evennessOf(p)}
}

// objections returns why the pod cannot run on n, in the words of Kubernetes; nil means it can. It must fit with those
// for which others were told to go, too, if they are not less urgent.
func (q *query) objections(n *Node) []string {
	if len(n.guests) > 0 {
		var with []*Pod
		for _, g := range n.guests {
			if g.UID != q.UID && g.Priority >= q.Priority && q.cluster.Where(g.UID) == "" {
				with = append(with, g)
				q.cluster.Add(g, n.Name)
			}
		}
		if len(with) > 0 {
			why := q.now(n)
			for _, g := range with {
				q.cluster.Remove(g.UID)
			}
			if why != nil {
				return why
			}
		}
	}
	return q.now(n)
}

func (q *query) now(n *Node) []string {
	if why := Objections(q.Pod, n); why != nil {
		return why
	}
	if why := q.volumes.objections(n); why != nil {
		return why
	}
	if why := q.even.objections(n); why != nil {
		return why
	}
	return q.company.objections(n)
}

// hopeless reports whether the pod could not run on n with nothing else there.
func (q *query) hopeless(n *Node) bool {
	for _, f := range filters[:firstOfTaken] {
		if f(q.Pod, n) != nil {
			return true
		}
	}
	return q.volumes.objections(n) != nil
}

// Objections returns why p cannot run on n, as far as the node alone can tell; nil means it may. Claims are not looked at.
func Objections(p *Pod, n *Node) []string {
	if n.object == nil {
		return []string{"node(s) did not exist"}
	}
	for _, f := range filters {
		if why := f(p, n); why != nil {
			return why
		}
	}
	return nil
}

func unschedulable(p *Pod, n *Node) []string {
	if !n.object.Spec.Unschedulable {
		return nil
	}
	if tolerated(p, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}) {
		return nil
	}
	return cordoned
}

func nodeName(p *Pod, n *Node) []string {
	if p.nodeName == "" || p.nodeName == n.Name {
		return nil
	}
	return otherNode
}

func taints(p *Pod, n *Node) []string {
	for i, t := range n.taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !tolerated(p, t) {
			return n.tainted[i]
		}
	}
	return nil
}

func tolerated(p *Pod, taint corev1.Taint) bool {
	for _, t := range p.tolerations {
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			continue
		}
		if t.Operator == corev1.TolerationOpExists || t.Key != "" && t.Value == taint.Value {
			return true
		}
	}
	return false
}

var (
	notMatching = []string{"node(s) didn't match Pod's node affinity/selector"}
	portTaken   = []string{"node(s) didn't have free ports for the requested pod ports"}
	cordoned    = []string{"node(s) were unschedulable"}
	otherNode   = []string{"node(s) didn't match the requested node name"}
	tooMany     = []string{"Too many pods"}
	shortOf     = map[corev1.ResourceName][]string{
		corev1.ResourceCPU: {"Insufficient cpu"}, corev1.ResourceMemory: {"Insufficient memory"},
	}
)

func affinity(p *Pod, n *Node) []string {
	if p.fits(n.object) {
		return nil
	}
	return notMatching
}

func ports(p *Pod, n *Node) []string {
	for _, want := range p.ports {
		if n.ports[want] > 0 {
			return portTaken
		}
		for have := range n.ports {
			if have.port == want.port && have.protocol == want.protocol && (have.ip == "" || want.ip == "") {
				return portTaken
			}
		}
	}
	return nil
}

func fit(p *Pod, n *Node) []string {
	var why []string
	object := func(more []string) {
		if why == nil {
			why = more
		} else {
			why = append(slices.Clip(why), more...)
		}
	}
	if len(n.pods)+1 > n.maxPods {
		object(tooMany)
	}
	short := func(name corev1.ResourceName, want, used, all int64) {
		if want <= 0 || want <= all-used {
			return
		}
		if usual, ok := shortOf[name]; ok {
			object(usual)
		} else {
			object([]string{"Insufficient " + string(name)})
		}
	}
	short(corev1.ResourceCPU, p.requests.MilliCPU, n.used.MilliCPU, n.allocatable.MilliCPU)
	short(corev1.ResourceMemory, p.requests.Memory, n.used.Memory, n.allocatable.Memory)
	short(corev1.ResourceEphemeralStorage, p.requests.Ephemeral, n.used.Ephemeral, n.allocatable.Ephemeral)
	for name, want := range p.requests.Scalars {
		short(name, want, n.used.Scalars[name], n.allocatable.Scalars[name])
	}
	return why
}

// Failure says why a pod fits nowhere.
type Failure struct {
	Nodes   int
	reasons []reason // few, whatever the number of nodes
	whole   string   // instead: one that has nothing to do with nodes
}

type reason struct {
	words string
	nodes int // for which it was raised
}

func (f *Failure) note(nodes int, why ...string) {
	for _, words := range why {
		i := slices.IndexFunc(f.reasons, func(r reason) bool { return r.words == words })
		if i < 0 {
			i = len(f.reasons)
			f.reasons = append(f.reasons, reason{words: words})
		}
		f.reasons[i].nodes += nodes
	}
}

// Message is the failure in one sentence, like Kubernetes says it.
func (f *Failure) Message() string {
	if f.Nodes == 0 {
		return "no nodes available to schedule pods"
	}
	if f.whole != "" {
		return fmt.Sprintf("0/%d nodes are available: %s.", f.Nodes, f.whole)
	}
	parts := make([]string, 0, len(f.reasons))
	for _, r := range f.reasons {
		parts = append(parts, fmt.Sprintf("%d %s", r.nodes, r.words))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", f.Nodes, strings.Join(parts, ", "))
}
