package placement

import (
	"fmt"
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/selection"
)

// constraint is a topologySpreadConstraint.
type constraint struct {
	term    *podTerm
	hard    bool
	skew    int
	domains int // the fewest there must be for the smallest count to matter; 1 when not said
	rule    *eligibility
}

// eligibility says on which nodes a constraint counts.
type eligibility struct {
	key    string // equal for rules that allow the same
	labels []string
	pod    *Pod // whose affinity and tolerations are honoured
	taints bool // and not affinity alone
	anyone bool // affinity is not honoured
}

func (e *eligibility) allows(n *Node) bool {
	for _, k := range e.labels {
		if _, ok := n.domain(k); !ok {
			return false
		}
	}
	if !e.anyone && !e.pod.fits(n.object) {
		return false
	}
	return !e.taints || taints(e.pod, n) == nil && unschedulable(e.pod, n) == nil
}

func constraintsOf(p *corev1.Pod) (out []constraint) {
	for i := range p.Spec.TopologySpreadConstraints {
		c := &p.Spec.TopologySpreadConstraints[i]
		k := constraint{
			term: newPodTerm(p, nil, nil, c.LabelSelector, c.TopologyKey),
			hard: c.WhenUnsatisfiable != corev1.ScheduleAnyway, skew: int(c.MaxSkew), domains: 1, rule: eligibilityOf(p, c),
		}
		if c.LabelSelector != nil {
			k.term.require(p, c.MatchLabelKeys, selection.In)
		}
		if c.MinDomains != nil {
			k.domains = int(*c.MinDomains)
		}
		out = append(out, k)
	}
	return out
}

func eligibilityOf(p *corev1.Pod, c *corev1.TopologySpreadConstraint) *eligibility {
	e := &eligibility{
		anyone: c.NodeAffinityPolicy != nil && *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyIgnore,
		taints: c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor,
	}
	// A node counts only with all the keys of the constraints of the same kind.
	for _, o := range p.Spec.TopologySpreadConstraints {
		if o.WhenUnsatisfiable == c.WhenUnsatisfiable {
			e.labels = append(e.labels, o.TopologyKey)
		}
	}
	// What of the pod is asked is compiled apart, for the count may outlive the pod.
	rest := &corev1.Pod{}
	if !e.anyone {
		rest.Spec.NodeSelector = p.Spec.NodeSelector
		if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil {
			rest.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
			}}
		}
	}
	if e.taints {
		rest.Spec.Tolerations = p.Spec.Tolerations
	}
	e.pod = NewPod(rest, "")
	e.key = fmt.Sprint("|", e.labels, e.anyone, e.taints, rest.Spec.NodeSelector, rest.Spec.Affinity.String(), rest.Spec.Tolerations)
	return e
}

var (
	uneven  = []string{"node(s) didn't match pod topology spread constraints"}
	noLabel = []string{uneven[0] + " (missing required label)"}
)

// evenness is what the spread constraints of one pod mean for where it can go, and where it should.
type evenness struct {
	hard, soft []counted
}

type counted struct {
	*tally
	*constraint
	self   int     // 1 when the pod itself counts
	weight float64 // of one pod, for a soft one
}

func (c *Cluster) evennessOf(p *Pod) (out evenness) {
	for i := range p.spread {
		k := &p.spread[i]
		in := counted{tally: c.tally(&counting{terms: []*podTerm{k.term}, topology: k.term.topology, rule: k.rule}), constraint: k}
		if c.selects(k.term, p) {
			in.self = 1
		}
		if k.hard {
			out.hard = append(out.hard, in)
			continue
		}
		// Where there are many domains each holds few pods, and those count for more, as in Kubernetes.
		in.weight = math.Log(float64(len(in.nodes) + 2))
		out.soft = append(out.soft, in)
	}
	return out
}

func (e *evenness) objections(n *Node) []string {
	for i := range e.hard {
		k := &e.hard[i]
		domain, ok := n.domain(k.topology)
		if !ok {
			return noLabel
		}
		least := k.least
		if len(k.nodes) < k.domains {
			least = 0
		}
		if k.counts[domain]+k.self-least > k.skew {
			return uneven
		}
	}
	return nil
}

// crowd is how many pods, weighted, are where n is; ok is false when n lacks a label that a constraint spreads over.
func (e *evenness) crowd(n *Node) (sum float64, ok bool) {
	for i := range e.soft {
		k := &e.soft[i]
		domain, ok := n.domain(k.topology)
		if !ok {
			return 0, false
		}
		sum += float64(k.counts[domain])*k.weight + float64(k.skew-1)
	}
	return sum, true
}
