package api

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateNetworkPolicy(p *networkingv1.NetworkPolicy) field.ErrorList {
	return validateNetworkPolicySpec(&p.Spec, nil)
}

// validateNetworkPolicyUpdate accepts the ranges of addresses that are stored already, however they are written.
func validateNetworkPolicyUpdate(updated, old *networkingv1.NetworkPolicy) field.ErrorList {
	var stored []string
	note := func(peers []networkingv1.NetworkPolicyPeer) {
		for _, p := range peers {
			if p.IPBlock != nil {
				stored = append(append(stored, p.IPBlock.CIDR), p.IPBlock.Except...)
			}
		}
	}
	for _, r := range old.Spec.Ingress {
		note(r.From)
	}
	for _, r := range old.Spec.Egress {
		note(r.To)
	}
	return validateNetworkPolicySpec(&updated.Spec, stored)
}

func validateNetworkPolicySpec(s *networkingv1.NetworkPolicySpec, stored []string) field.ErrorList {
	at := field.NewPath("spec")
	errs := isSelector(&s.PodSelector, at.Child("podSelector"))
	for i := range s.Ingress {
		at, r := at.Child("ingress").Index(i), &s.Ingress[i]
		errs = append(errs, validatePolicyPorts(r.Ports, at.Child("ports"))...)
		errs = append(errs, validatePolicyPeers(r.From, stored, at.Child("from"))...)
	}
	for i := range s.Egress {
		at, r := at.Child("egress").Index(i), &s.Egress[i]
		errs = append(errs, validatePolicyPorts(r.Ports, at.Child("ports"))...)
		errs = append(errs, validatePolicyPeers(r.To, stored, at.Child("to"))...)
	}
	known := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	if len(s.PolicyTypes) > len(known) {
		return append(errs, field.Invalid(at.Child("policyTypes"), s.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, t := range s.PolicyTypes {
		if !slices.Contains(known, t) {
			errs = append(errs, field.NotSupported(at.Child("policyTypes").Index(i), t, known))
		}
	}
	return errs
}

func isSelector(s *metav1.LabelSelector, at *field.Path) field.ErrorList {
	return metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, at)
}

func validatePolicyPorts(ports []networkingv1.NetworkPolicyPort, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range ports {
		p, at := &ports[i], at.Index(i)
		errs = append(errs, optionalOneOf(p.Protocol, at.Child("protocol"), corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
		if p.Port != nil {
			errs = append(errs, isPortOrName(*p.Port, at.Child("port"))...)
		}
		if p.EndPort == nil {
			continue
		}
		at = at.Child("endPort")
		switch end := *p.EndPort; {
		case p.Port == nil:
			errs = append(errs, field.Invalid(at, end, "may not be specified when `port` is not specified"))
		case p.Port.Type != intstr.Int:
			errs = append(errs, field.Invalid(at, end, "may not be specified when `port` is non-numeric"))
		default:
			if end < p.Port.IntVal {
				errs = append(errs, field.Invalid(at, end, "must be greater than or equal to `port`"))
			}
			errs = append(errs, isPort(end, at)...)
		}
	}
	return errs
}

func validatePolicyPeers(peers []networkingv1.NetworkPolicyPeer, stored []string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range peers {
		p, at := &peers[i], at.Index(i)
		selects := p.PodSelector != nil || p.NamespaceSelector != nil
		if p.PodSelector != nil {
			errs = append(errs, isSelector(p.PodSelector, at.Child("podSelector"))...)
		}
		if p.NamespaceSelector != nil {
			errs = append(errs, isSelector(p.NamespaceSelector, at.Child("namespaceSelector"))...)
		}
		if p.IPBlock != nil {
			errs = append(errs, validateIPBlock(p.IPBlock, stored, at.Child("ipBlock"))...)
		}
		switch {
		case !selects && p.IPBlock == nil:
			errs = append(errs, field.Required(at, "must specify a peer"))
		case selects && p.IPBlock != nil:
			errs = append(errs, field.Forbidden(at, "may not specify both ipBlock and another peer"))
		}
	}
	return errs
}

func validateIPBlock(b *networkingv1.IPBlock, stored []string, at *field.Path) field.ErrorList {
	if b.CIDR == "" {
		return field.ErrorList{field.Required(at.Child("cidr"), "")}
	}
	errs := validation.IsValidCIDRForLegacyField(at.Child("cidr"), b.CIDR, true, stored)
	all, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return errs
	}
	for i, text := range b.Except {
		at := at.Child("except").Index(i)
		errs = append(errs, validation.IsValidCIDRForLegacyField(at, text, true, stored)...)
		part, err := netip.ParsePrefix(text)
		if err == nil && (!all.Contains(part.Addr()) || all.Bits() >= part.Bits()) {
			errs = append(errs, field.Invalid(at, text, "must be a strict subset of `cidr`"))
		}
	}
	return errs
}
