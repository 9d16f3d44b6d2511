package api

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// IsHeadless reports whether the service has no virtual address by its own wish.
func IsHeadless(s *corev1.Service) bool { return s.Spec.ClusterIP == corev1.ClusterIPNone }

// HasClusterIP reports whether the service has a virtual address.
func HasClusterIP(s *corev1.Service) bool {
	return s.Spec.Type != corev1.ServiceTypeExternalName && s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone
}

// NeedsClusterIP reports whether a virtual address is to be allocated for the service.
func NeedsClusterIP(s *corev1.Service) bool {
	return s.Spec.Type != corev1.ServiceTypeExternalName && s.Spec.ClusterIP == ""
}

// NeedsNodePorts reports whether the service's ports without one are to get a port of every node.
func NeedsNodePorts(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

// NeedsHealthCheckPort reports whether a service has a node port for asking where its endpoints are.
func NeedsHealthCheckPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// Selects reports whether a selector of equalities, which must not be empty, chooses these labels. An empty selector
// chooses nothing: that is how services and replication controllers mean it.
func Selects(selector, of map[string]string) bool {
	return len(selector) > 0 && labels.Set(selector).AsSelectorPreValidated().Matches(labels.Set(of))
}

// defaultService fills in everything but addresses and address families.
func defaultService(s *corev1.Service) {
	spec := &s.Spec
	blank(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		spec.SessionAffinityConfig = nil
	case corev1.ServiceAffinityClientIP:
		unset(&spec.SessionAffinityConfig, corev1.SessionAffinityConfig{})
		unset(&spec.SessionAffinityConfig.ClientIP, corev1.ClientIPConfig{})
		unset(&spec.SessionAffinityConfig.ClientIP.TimeoutSeconds, corev1.DefaultClientIPServiceAffinitySeconds)
	}
	blank(&spec.Type, corev1.ServiceTypeClusterIP)
	for i := range spec.Ports {
		p := &spec.Ports[i]
		blank(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if reachableFromOutside(spec) {
		blank(&spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	switch spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		unset(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		unset(&spec.AllocateLoadBalancerNodePorts, true)
		for i := range s.Status.LoadBalancer.Ingress {
			if g := &s.Status.LoadBalancer.Ingress[i]; g.IP != "" {
				unset(&g.IPMode, corev1.LoadBalancerIPModeVIP)
			}
		}
	}
}

// reachableFromOutside: by node ports, a load balancer or addresses of its own.
func reachableFromOutside(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer ||
		(spec.Type == corev1.ServiceTypeClusterIP && len(spec.ExternalIPs) > 0)
}

func prepareNewService(s *corev1.Service) {
	s.Status = corev1.ServiceStatus{}
	alignClusterIPs(&s.Spec, nil)
	defaultFamilies(&s.Spec)
}

// alignClusterIPs makes the two spellings of the virtual address agree, following the one that was changed.
func alignClusterIPs(spec, old *corev1.ServiceSpec) {
	if old == nil {
		if spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 {
			spec.ClusterIPs = []string{spec.ClusterIP}
		}
		return
	}
	sameIP, sameIPs := spec.ClusterIP == old.ClusterIP, slices.Equal(spec.ClusterIPs, old.ClusterIPs)
	switch {
	case !sameIP && spec.ClusterIP == "" && sameIPs:
		spec.ClusterIPs = nil
	case !sameIP && sameIPs:
		spec.ClusterIPs = []string{spec.ClusterIP}
	case sameIP && len(spec.ClusterIPs) == 0:
		spec.ClusterIPs = slices.Clone(old.ClusterIPs)
	}
}

// defaultFamilies: one IPv4 stack, except that a headless service without selector lists addresses of both families.
func defaultFamilies(spec *corev1.ServiceSpec) {
	if spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	if spec.ClusterIP == corev1.ClusterIPNone && len(spec.Selector) == 0 && spec.IPFamilyPolicy == nil && len(spec.IPFamilies) == 0 {
		unset(&spec.IPFamilyPolicy, corev1.IPFamilyPolicyRequireDualStack)
		spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		return
	}
	if spec.IPFamilyPolicy == nil && len(spec.IPFamilies) < 2 && len(spec.ClusterIPs) < 2 {
		unset(&spec.IPFamilyPolicy, corev1.IPFamilyPolicySingleStack)
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
}

// prepareServiceUpdate keeps what was allocated and the client did not repeat, and drops what no longer applies when
// the type changes.
func prepareServiceUpdate(updated, old *corev1.Service) {
	updated.Status = *old.Status.DeepCopy()
	spec, was := &updated.Spec, &old.Spec
	external, wasExternal := spec.Type == corev1.ServiceTypeExternalName, was.Type == corev1.ServiceTypeExternalName
	if !external && !wasExternal {
		// Both empty: a manifest that never named an address. One emptied: a wish that validation refuses.
		if spec.ClusterIP == "" && len(spec.ClusterIPs) == 0 {
			spec.ClusterIP, spec.ClusterIPs = was.ClusterIP, slices.Clone(was.ClusterIPs)
		}
		if len(spec.IPFamilies) == 0 && spec.IPFamilyPolicy == nil {
			spec.IPFamilies = slices.Clone(was.IPFamilies)
			if was.IPFamilyPolicy != nil {
				unset(&spec.IPFamilyPolicy, *was.IPFamilyPolicy)
			}
		}
	}
	alignClusterIPs(spec, was)
	keepNodePorts(updated, old)
	dropOutOfType(updated, old)
	defaultFamilies(spec)
}

func keepNodePorts(updated, old *corev1.Service) {
	if NeedsNodePorts(updated) && NeedsNodePorts(old) {
		had := map[corev1.ServicePort]int32{}
		inUse := map[int32]bool{}
		for _, p := range old.Spec.Ports {
			had[portIdentity(p)] = p.NodePort
		}
		for _, p := range updated.Spec.Ports {
			inUse[p.NodePort] = true
		}
		for i := range updated.Spec.Ports {
			p := &updated.Spec.Ports[i]
			if n := had[portIdentity(*p)]; p.NodePort == 0 && n != 0 && !inUse[n] {
				p.NodePort = n
			}
		}
	}
	if NeedsHealthCheckPort(updated) && NeedsHealthCheckPort(old) && updated.Spec.HealthCheckNodePort == 0 {
		updated.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

// portIdentity is what makes a port the same port after an update.
func portIdentity(p corev1.ServicePort) corev1.ServicePort {
	return corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}
}

// dropOutOfType clears fields that the old type had and the new one cannot have, unless the client set them anew.
func dropOutOfType(updated, old *corev1.Service) {
	spec, was := &updated.Spec, &old.Spec
	external := func(s *corev1.ServiceSpec) bool { return s.Type == corev1.ServiceTypeExternalName }
	if external(spec) && !external(was) {
		if spec.ClusterIP == was.ClusterIP && slices.Equal(spec.ClusterIPs, was.ClusterIPs) {
			spec.ClusterIP, spec.ClusterIPs = "", nil
		}
		if slices.Equal(spec.IPFamilies, was.IPFamilies) {
			spec.IPFamilies = nil
		}
		if same(spec.IPFamilyPolicy, was.IPFamilyPolicy) {
			spec.IPFamilyPolicy = nil
		}
		if same(spec.InternalTrafficPolicy, was.InternalTrafficPolicy) {
			spec.InternalTrafficPolicy = nil
		}
	}
	if !NeedsNodePorts(updated) && NeedsNodePorts(old) && len(spec.Ports) == len(was.Ports) && !nodePortsChanged(spec, was) {
		for i := range spec.Ports {
			spec.Ports[i].NodePort = 0
		}
	}
	if !NeedsHealthCheckPort(updated) && NeedsHealthCheckPort(old) && spec.HealthCheckNodePort == was.HealthCheckNodePort {
		spec.HealthCheckNodePort = 0
	}
	if spec.Type != corev1.ServiceTypeLoadBalancer && was.Type == corev1.ServiceTypeLoadBalancer {
		if same(spec.AllocateLoadBalancerNodePorts, was.AllocateLoadBalancerNodePorts) {
			spec.AllocateLoadBalancerNodePorts = nil
		}
		if same(spec.LoadBalancerClass, was.LoadBalancerClass) {
			spec.LoadBalancerClass = nil
		}
	}
	if !reachableFromOutside(spec) && reachableFromOutside(was) && spec.ExternalTrafficPolicy == was.ExternalTrafficPolicy {
		spec.ExternalTrafficPolicy = ""
	}
}

func nodePortsChanged(spec, was *corev1.ServiceSpec) bool {
	for i := range spec.Ports {
		if spec.Ports[i].NodePort != was.Ports[i].NodePort {
			return true
		}
	}
	return false
}

func same[T comparable](a, b *T) bool {
	return (a == nil) == (b == nil) && (a == nil || *a == *b)
}
