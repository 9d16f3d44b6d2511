// Package policy decides what NetworkPolicies let the pods of one machine receive and send. Decide is pure; Source holds what it is decided from. How that
// becomes packet rules is package proxy's. Its invariant: a pod that a policy selects is isolated from the moment it has an address.
//
// As in Kubernetes: a pod is isolated in a direction once a policy of that direction selects it, and then what any of its policies allows is allowed. What
// comes from its own machine, goes there, or goes to itself is never held up, and pods in their machine's network have no policies.
package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Facts is everything that is decided from.
type Facts struct {
	PodRange   netip.Prefix // of the whole cluster
	Policies   []*networkingv1.NetworkPolicy
	Namespaces []*corev1.Namespace
	Pods       []Pod // of the whole cluster
}

// Pod is one with an address of its own.
type Pod struct {
	*corev1.Pod
	Addr netip.Addr
	Here bool // on this machine
}

// Isolation is what some pods of this machine may receive, or send: nothing but what is allowed.
type Isolation struct {
	Egress bool // else ingress
	// Key names it: the same policies give the same key, whatever they say, as long as the names of ports mean the same.
	Key string
	// Policies is for people: NAMESPACE/NAME of the first, and how many others.
	Policies string
	Pods     []netip.Addr // sorted
	Allow    []Allow
}

// Allow lets through what comes from (or goes to) one of some addresses at one of some ports.
type Allow struct {
	Peers []netip.Prefix // sorted; nil: every address
	Ports []Ports        // nil: every port of every protocol
}

// Ports are some of one protocol.
type Ports struct {
	Protocol    string // tcp, udp, sctp
	First, Last uint16 // 0 and 65535: all
}

// All reports whether p are all ports of their protocol.
func (p Ports) All() bool { return p.First == 0 && p.Last == 65535 }

// policy is one with its selector read.
type policy struct {
	*networkingv1.NetworkPolicy
	selector labels.Selector
}

// Decide returns the isolations of this machine's pods, in a fixed order.
func Decide(f *Facts) []Isolation {
	if len(f.Policies) == 0 {
		return nil
	}
	w := newWorld(f)
	byNamespace := map[string][]policy{}
	for _, p := range f.Policies {
		if s, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector); err == nil {
			byNamespace[p.Namespace] = append(byNamespace[p.Namespace], policy{p, s})
		}
	}
	for _, all := range byNamespace {
		slices.SortFunc(all, func(a, b policy) int { return cmp.Compare(a.Name, b.Name) })
	}
	found := map[string]*Isolation{}
	for i := range f.Pods {
		pod := &f.Pods[i]
		if !pod.Here {
			continue
		}
		for _, egress := range []bool{false, true} {
			chosen := selecting(byNamespace[pod.Namespace], pod, egress)
			if len(chosen) == 0 {
				continue
			}
			key := keyOf(chosen, pod, egress)
			iso := found[key]
			if iso == nil {
				iso = &Isolation{Egress: egress, Key: key, Policies: summary(chosen), Allow: w.allow(chosen, pod, egress)}
				found[key] = iso
			}
			iso.Pods = append(iso.Pods, pod.Addr)
		}
	}
	out := make([]Isolation, 0, len(found))
	for _, iso := range found {
		slices.SortFunc(iso.Pods, netip.Addr.Compare)
		out = append(out, *iso)
	}
	slices.SortFunc(out, func(a, b Isolation) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

// selecting returns the policies of one direction that select a pod.
func selecting(all []policy, pod *Pod, egress bool) []policy {
	kind := networkingv1.PolicyTypeIngress
	if egress {
		kind = networkingv1.PolicyTypeEgress
	}
	var out []policy
	for _, p := range all {
		if slices.Contains(p.Spec.PolicyTypes, kind) && p.selector.Matches(labels.Set(pod.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

// keyOf names what some policies mean for a pod. What comes in is named by the pod's own ports, so these are part of it.
func keyOf(chosen []policy, pod *Pod, egress bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%t", pod.Namespace, egress)
	for _, p := range chosen {
		fmt.Fprintf(&b, "/%s", p.Name)
		if egress {
			continue
		}
		for i := range p.Spec.Ingress {
			for _, port := range p.Spec.Ingress[i].Ports {
				if name := nameOf(&port); name != "" {
					fmt.Fprintf(&b, ":%s=%v", name, named(pod, name, protocolOf(&port)))
				}
			}
		}
	}
	return b.String()
}

func summary(chosen []policy) string {
	s := chosen[0].Namespace + "/" + chosen[0].Name
	if more := len(chosen) - 1; more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}
