package api

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// The rows of networking.k8s.io. Nothing acts on these objects yet: traffic is not restricted by policies, and no
// controller serves ingresses.
var (
	NetworkPolicies = row[networkingv1.NetworkPolicy, networkingv1.NetworkPolicyList](networkingv1.SchemeGroupVersion, "NetworkPolicy", "networkpolicies", "netpol").with(networkPolicyRow)
	Ingresses       = row[networkingv1.Ingress, networkingv1.IngressList](networkingv1.SchemeGroupVersion, "Ingress", "ingresses", "ing").with(ingressRow)
	IngressClasses  = row[networkingv1.IngressClass, networkingv1.IngressClassList](networkingv1.SchemeGroupVersion, "IngressClass", "ingressclasses").with(ingressClassRow)
)

func networkPolicyRow(k *Kind) {
	k.Default = on(defaultNetworkPolicy)
	k.Validate, k.ValidateUpdate = check(validateNetworkPolicy), compare(validateNetworkPolicyUpdate)
	k.Columns, k.Cells = networkPolicyColumns(), cells(networkPolicyCells)
	k.Generation = true
}

func ingressRow(k *Kind) {
	k.Subresources = []Subresource{{Name: "status", Kind: "Ingress", Verbs: statusVerbs()}}
	k.PrepareCreate = on(func(i *networkingv1.Ingress) { i.Status = networkingv1.IngressStatus{} })
	k.PrepareUpdate = pair(func(updated, old *networkingv1.Ingress) { updated.Status = old.Status })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateNewIngress), compare(validateIngressUpdate), compare(validateIngressStatus)
	k.CopyStatus = pair(func(to, from *networkingv1.Ingress) { to.Status = *from.Status.DeepCopy() })
	k.Columns, k.Cells = ingressColumns(), cells(ingressCells)
	k.Generation = true
}

func ingressClassRow(k *Kind) {
	k.Namespaced = false
	k.Default = on(func(c *networkingv1.IngressClass) {
		if p := c.Spec.Parameters; p != nil {
			unset(&p.Scope, networkingv1.IngressClassParametersReferenceScopeCluster)
		}
	})
	k.Validate, k.ValidateUpdate = check(validateIngressClass), compare(validateIngressClassUpdate)
	k.Columns, k.Cells = ingressClassColumns(), cells(ingressClassCells)
	k.Generation = true
}

// defaultNetworkPolicy: a policy is about what comes in, and about what goes out when it says something of that.
func defaultNetworkPolicy(p *networkingv1.NetworkPolicy) {
	s := &p.Spec
	if len(s.PolicyTypes) == 0 {
		s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(s.Egress) > 0 {
			s.PolicyTypes = append(s.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
	tcp := func(ports []networkingv1.NetworkPolicyPort) {
		for i := range ports {
			unset(&ports[i].Protocol, corev1.ProtocolTCP)
		}
	}
	for i := range s.Ingress {
		tcp(s.Ingress[i].Ports)
	}
	for i := range s.Egress {
		tcp(s.Egress[i].Ports)
	}
}
