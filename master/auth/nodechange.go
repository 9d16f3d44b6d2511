package auth

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// CheckNodeChange returns why a user who is a node may not write its own Node so; old is nil when it is new. What decides which pods come to a
// machine is not the machine's to say: taints, and labels that are not about what it is. A stolen one would call the pods that it wants to see.
func CheckNodeChange(u *User, old, n *corev1.Node) error {
	if u.Node() == "" {
		return nil
	}
	var had map[string]string
	if old != nil {
		had = old.Labels
		if !equality.Semantic.DeepEqual(old.Spec.Taints, n.Spec.Taints) {
			return errors.New("a node may not change its own taints")
		}
		if !equality.Semantic.DeepEqual(old.OwnerReferences, n.OwnerReferences) {
			return errors.New("a node may not change its own owners")
		}
	}
	changed := map[string]bool{}
	for _, labels := range []map[string]string{had, n.Labels} {
		for k := range labels {
			v, is := n.Labels[k]
			if w, was := had[k]; is != was || v != w {
				changed[k] = true
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(changed)) {
		if !isNodesOwn(k) {
			return fmt.Errorf("a node may not change its own label %s", k)
		}
	}
	return nil
}

// ownLabels are Kubernetes' labels that a machine gives itself; those below kubelet.kubernetes.io and node.kubernetes.io are, too.
var ownLabels = []string{
	corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
	corev1.LabelInstanceType, corev1.LabelInstanceTypeStable, corev1.LabelOSStable, corev1.LabelArchStable, "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
}

// isNodesOwn reports whether a node may set a label of its Node: any but Kubernetes' own that are not about the machine.
func isNodesOwn(label string) bool {
	domain, _, ok := strings.Cut(label, "/")
	within := func(of string) bool { return domain == of || strings.HasSuffix(domain, "."+of) }
	if !ok || !within("kubernetes.io") && !within("k8s.io") {
		return true
	}
	return slices.Contains(ownLabels, label) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

// CheckPodStatus returns why a user who is a node may not write the status of a pod so: by its labels it might come to serve what others do.
func CheckPodStatus(u *User, old, p *corev1.Pod) error {
	if u.Node() != "" && !maps.Equal(old.Labels, p.Labels) {
		return errors.New("a node may not change the labels of a pod")
	}
	return nil
}
