package placement

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// podTerm selects pods, of all that are in one kind of domain.
type podTerm struct {
	key        string // equal for terms that select the same
	namespaces []string
	byLabels   labels.Selector // of more namespaces; nil means no more
	pods       labels.Selector
	topology   string
}

// newPodTerm works out a term of p's. A selector that makes no sense selects nothing; validation has refused it.
func newPodTerm(p *corev1.Pod, namespaces []string, byLabels, pods *metav1.LabelSelector, topology string) *podTerm {
	t := &podTerm{namespaces: slices.Sorted(slices.Values(namespaces)), pods: selectorOf(pods), topology: topology}
	if byLabels != nil {
		t.byLabels = selectorOf(byLabels)
	}
	if len(namespaces) == 0 && byLabels == nil {
		t.namespaces = []string{p.Namespace}
	}
	t.rekey()
	return t
}

// rekey makes the key anew, after a change.
func (t *podTerm) rekey() {
	text := func(s labels.Selector) string {
		if s == nil {
			return "-"
		}
		if s.Empty() {
			return "*"
		}
		return s.String()
	}
	t.key = strings.Join([]string{strings.Join(t.namespaces, ","), text(t.byLabels), text(t.pods), t.topology}, "|")
}

// require adds p's own values of the labels in keys to what a pod must have, or must not have.
func (t *podTerm) require(p *corev1.Pod, keys []string, op selection.Operator) {
	for _, k := range keys {
		v, ok := p.Labels[k]
		if !ok {
			continue
		}
		if r, err := labels.NewRequirement(k, op, []string{v}); err == nil {
			t.pods = t.pods.Add(*r)
		}
	}
	t.rekey()
}

func selectorOf(s *metav1.LabelSelector) labels.Selector {
	out, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return out
}

// only is the one namespace that the term looks at, or empty.
func (t *podTerm) only() string {
	if t.byLabels == nil && len(t.namespaces) == 1 {
		return t.namespaces[0]
	}
	return ""
}

// matches reports whether the term selects pods of that namespace with those labels, in a cluster whose namespaces have these.
func (t *podTerm) matches(namespaces map[string]labels.Set, namespace string, pod labels.Set) bool {
	if !slices.Contains(t.namespaces, namespace) && (t.byLabels == nil || !t.byLabels.Matches(namespaces[namespace])) {
		return false
	}
	return t.pods.Matches(pod)
}

// selects reports whether the term selects p.
func (c *Cluster) selects(t *podTerm, p *Pod) bool {
	return t.matches(c.namespaces, p.Namespace, p.labels)
}
