package api

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const maxAffinitySeconds = 86400

// Address and port ranges, and whether an address or port is taken, are the allocator's to check.

func validateService(s *corev1.Service) field.ErrorList {
	spec, at := &s.Spec, field.NewPath("spec")
	errs := validateServiceType(s, at)
	if len(spec.Ports) == 0 && !IsHeadless(s) && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(at.Child("ports"), ""))
	}
	errs = append(errs, validateServicePorts(s, at.Child("ports"))...)
	if spec.Selector != nil {
		errs = append(errs, metavalidation.ValidateLabels(spec.Selector, at.Child("selector"))...)
	}
	errs = append(errs, validateAffinityOf(spec, at)...)
	errs = append(errs, validateClusterIPs(s, at)...)
	errs = append(errs, validateOutside(s, at)...)
	if spec.InternalTrafficPolicy != nil {
		errs = append(errs, oneOf(*spec.InternalTrafficPolicy, at.Child("internalTrafficPolicy"),
			corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	} else if spec.Type != corev1.ServiceTypeExternalName && knownServiceType(spec.Type) {
		errs = append(errs, field.Required(at.Child("internalTrafficPolicy"), ""))
	}
	return append(errs, optionalOneOf(spec.TrafficDistribution, at.Child("trafficDistribution"),
		corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameNode, corev1.ServiceTrafficDistributionPreferSameZone)...)
}

func knownServiceType(t corev1.ServiceType) bool {
	return slices.Contains([]corev1.ServiceType{
		corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort,
	}, t)
}

func validateServiceType(s *corev1.Service, at *field.Path) field.ErrorList {
	spec := &s.Spec
	errs := oneOf(spec.Type, at.Child("type"),
		corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort)
	switch spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		for i, p := range spec.Ports {
			if p.Port == 10250 {
				errs = append(errs, field.Invalid(at.Child("ports").Index(i), p.Port, "may not expose port 10250 externally since it is used by kubelet"))
			}
		}
		if IsHeadless(s) {
			errs = append(errs, field.Invalid(at.Child("clusterIPs").Index(0), spec.ClusterIP, "may not be set to 'None' for LoadBalancer services"))
		}
	case corev1.ServiceTypeNodePort:
		if IsHeadless(s) {
			errs = append(errs, field.Invalid(at.Child("clusterIPs").Index(0), spec.ClusterIP, "may not be set to 'None' for NodePort services"))
		}
	case corev1.ServiceTypeExternalName:
		if len(spec.ClusterIPs) > 0 || spec.ClusterIP != "" {
			errs = append(errs, field.Forbidden(at.Child("clusterIPs"), "may not be set for ExternalName services"))
		}
		if len(spec.IPFamilies) > 0 {
			errs = append(errs, field.Forbidden(at.Child("ipFamilies"), "may not be set for ExternalName services"))
		}
		if spec.IPFamilyPolicy != nil {
			errs = append(errs, field.Forbidden(at.Child("ipFamilyPolicy"), "may not be set for ExternalName services"))
		}
		if name := strings.TrimSuffix(spec.ExternalName, "."); name != "" {
			errs = append(errs, isSubdomain(name, at.Child("externalName"))...)
		} else {
			errs = append(errs, field.Required(at.Child("externalName"), ""))
		}
	}
	return errs
}

func validateServicePorts(s *corev1.Service, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	type number struct {
		protocol corev1.Protocol
		port     int32
	}
	names, ports, nodePorts := seen[string]{}, seen[number]{}, seen[number]{}
	for i := range s.Spec.Ports {
		p, at := &s.Spec.Ports[i], at.Index(i)
		switch {
		case p.Name == "" && len(s.Spec.Ports) > 1:
			errs = append(errs, field.Required(at.Child("name"), ""))
		case p.Name != "":
			errs = append(errs, isLabel(p.Name, at.Child("name"))...)
			if names.add(p.Name) {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
		}
		errs = append(errs, isPort(p.Port, at.Child("port"))...)
		errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
		if !IsHeadless(s) {
			errs = append(errs, isPortOrName(p.TargetPort, at.Child("targetPort"))...)
		} else if p.TargetPort.StrVal != "" || p.TargetPort.IntVal != 0 {
			errs = append(errs, isPortOrName(p.TargetPort, at.Child("targetPort"))...)
		}
		if p.AppProtocol != nil {
			errs = append(errs, isQualifiedName(*p.AppProtocol, at.Child("appProtocol"))...)
		}
		if ports.add(number{p.Protocol, p.Port}) {
			errs = append(errs, field.Duplicate(at, corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}))
		}
		if p.NodePort == 0 {
			continue
		}
		if s.Spec.Type == corev1.ServiceTypeClusterIP || s.Spec.Type == corev1.ServiceTypeExternalName {
			errs = append(errs, field.Forbidden(at.Child("nodePort"), "may not be used when `type` is '"+string(s.Spec.Type)+"'"))
		}
		if nodePorts.add(number{p.Protocol, p.NodePort}) {
			errs = append(errs, field.Duplicate(at.Child("nodePort"), p.NodePort))
		}
	}
	return errs
}

func validateAffinityOf(spec *corev1.ServiceSpec, at *field.Path) field.ErrorList {
	errs := oneOf(spec.SessionAffinity, at.Child("sessionAffinity"), corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	at = at.Child("sessionAffinityConfig")
	c := spec.SessionAffinityConfig
	switch {
	case spec.SessionAffinity == corev1.ServiceAffinityNone && c != nil:
		errs = append(errs, field.Forbidden(at, "must not be set when session affinity is None"))
	case spec.SessionAffinity != corev1.ServiceAffinityClientIP:
	case c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil:
		errs = append(errs, field.Required(at, "when session affinity type is ClientIP"))
	case *c.ClientIP.TimeoutSeconds <= 0 || *c.ClientIP.TimeoutSeconds > maxAffinitySeconds:
		errs = append(errs, field.Invalid(at.Child("clientIP", "timeoutSeconds"), *c.ClientIP.TimeoutSeconds, "must be greater than 0 and less than 86400"))
	}
	return errs
}

// validateClusterIPs checks virtual addresses and families on a cluster that has IPv4 only.
func validateClusterIPs(s *corev1.Service, at *field.Path) field.ErrorList {
	spec := &s.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	ips, families := at.Child("clusterIPs"), at.Child("ipFamilies")
	var errs field.ErrorList
	if spec.IPFamilyPolicy != nil {
		errs = append(errs, optionalOneOf(spec.IPFamilyPolicy, at.Child("ipFamilyPolicy"),
			corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack)...)
	}
	switch {
	case len(spec.ClusterIPs) == 0 && spec.ClusterIP != "":
		errs = append(errs, field.Required(ips, ""))
	case len(spec.ClusterIPs) > 0 && spec.ClusterIPs[0] != spec.ClusterIP:
		errs = append(errs, field.Invalid(ips, spec.ClusterIPs, "element [0] must match clusterIP"))
	}
	known := seen[corev1.IPFamily]{}
	for i, f := range spec.IPFamilies {
		if f != corev1.IPv4Protocol && f != corev1.IPv6Protocol {
			errs = append(errs, field.NotSupported(families.Index(i), f, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}))
		} else if known.add(f) {
			errs = append(errs, field.Duplicate(families.Index(i), f))
		}
	}
	dual := len(spec.IPFamilies) == 2 || len(spec.ClusterIPs) == 2
	if dual && spec.IPFamilyPolicy != nil && *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack {
		errs = append(errs, field.Invalid(at.Child("ipFamilyPolicy"), *spec.IPFamilyPolicy, "must be RequireDualStack or PreferDualStack when multiple 'ipFamilies' are specified"))
	}
	if IsHeadless(s) {
		if len(spec.ClusterIPs) > 1 {
			errs = append(errs, field.Invalid(ips, spec.ClusterIPs, "'None' must be the first and only value"))
		}
		if len(spec.Selector) > 0 {
			errs = append(errs, singleStack(s, at)...)
		}
		return errs
	}
	if len(spec.ClusterIPs) > 2 {
		errs = append(errs, field.Invalid(ips, spec.ClusterIPs, "may only hold up to 2 values"))
	}
	for i, ip := range spec.ClusterIPs {
		bad := isIP(ip, ips.Index(i))
		errs = append(errs, bad...)
		if len(bad) == 0 && i < len(spec.IPFamilies) {
			if a, err := netip.ParseAddr(ip); err == nil && a.Is4() != (spec.IPFamilies[i] == corev1.IPv4Protocol) {
				errs = append(errs, field.Invalid(ips.Index(i), ip, "expected an "+string(spec.IPFamilies[i])+" value as indicated by `ipFamilies["+string(rune('0'+i))+"]`"))
			}
		}
	}
	return append(errs, singleStack(s, at)...)
}

// singleStack refuses what only a cluster with both families can give; it speaks only of services not yet allocated.
func singleStack(s *corev1.Service, at *field.Path) field.ErrorList {
	if p := s.Spec.IPFamilyPolicy; p != nil && *p == corev1.IPFamilyPolicyRequireDualStack {
		return field.ErrorList{field.Invalid(at.Child("ipFamilyPolicy"), *p, "this cluster is not configured for dual-stack services")}
	}
	if len(s.Spec.ClusterIPs) > 0 && !IsHeadless(s) {
		return nil
	}
	if len(s.Spec.IPFamilies) == 1 && s.Spec.IPFamilies[0] == corev1.IPv6Protocol {
		return field.ErrorList{field.Invalid(at.Child("ipFamilies").Index(0), s.Spec.IPFamilies[0], "not configured on this cluster")}
	}
	return nil
}

// validateOutside checks how the service is reached from outside of the cluster.
func validateOutside(s *corev1.Service, at *field.Path) field.ErrorList {
	spec := &s.Spec
	var errs field.ErrorList
	for i, ip := range spec.ExternalIPs {
		at := at.Child("externalIPs").Index(i)
		if bad := isIP(ip, at); len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			errs = append(errs, reachable(ip, at)...)
		}
	}
	balanced := spec.Type == corev1.ServiceTypeLoadBalancer
	if len(spec.LoadBalancerSourceRanges) > 0 {
		at := at.Child("LoadBalancerSourceRanges")
		if !balanced {
			errs = append(errs, field.Forbidden(at, "may only be used when `type` is 'LoadBalancer'"))
		}
		for _, r := range spec.LoadBalancerSourceRanges {
			if len(validation.IsValidCIDRForLegacyField(at, strings.TrimSpace(r), false, nil)) > 0 {
				errs = append(errs, field.Invalid(at, spec.LoadBalancerSourceRanges, "must be a list of IP ranges. For example, 10.240.0.0/24,10.250.0.0/24 "))
				break
			}
		}
	}
	if spec.AllocateLoadBalancerNodePorts != nil && !balanced {
		errs = append(errs, field.Forbidden(at.Child("allocateLoadBalancerNodePorts"), "may only be used when `type` is 'LoadBalancer'"))
	} else if balanced && spec.AllocateLoadBalancerNodePorts == nil {
		errs = append(errs, field.Required(at.Child("allocateLoadBalancerNodePorts"), ""))
	}
	if spec.LoadBalancerClass != nil {
		if balanced {
			errs = append(errs, isQualifiedName(*spec.LoadBalancerClass, at.Child("loadBalancerClass"))...)
		} else {
			errs = append(errs, field.Forbidden(at.Child("loadBalancerClass"), "may only be used when `type` is 'LoadBalancer'"))
		}
	}
	return append(errs, validateExternalPolicy(s, at)...)
}

func validateExternalPolicy(s *corev1.Service, at *field.Path) field.ErrorList {
	spec := &s.Spec
	var errs field.ErrorList
	policy := at.Child("externalTrafficPolicy")
	switch {
	case !reachableFromOutside(spec) && spec.ExternalTrafficPolicy != "":
		errs = append(errs, field.Invalid(policy, spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
	case reachableFromOutside(spec):
		errs = append(errs, oneOf(spec.ExternalTrafficPolicy, policy, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	}
	health := at.Child("healthCheckNodePort")
	switch {
	case spec.HealthCheckNodePort == 0:
	case !NeedsHealthCheckPort(s):
		errs = append(errs, field.Invalid(health, spec.HealthCheckNodePort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	default:
		errs = append(errs, isPort(spec.HealthCheckNodePort, health)...)
	}
	return errs
}

func validateServiceUpdate(updated, old *corev1.Service) field.ErrorList {
	return append(validateAllocated(updated, old), validateService(updated)...)
}

// validateAllocated: while the service has a virtual address, the address and its family stay.
func validateAllocated(updated, old *corev1.Service) field.ErrorList {
	was, is, at := &old.Spec, &updated.Spec, field.NewPath("spec")
	if was.Type == corev1.ServiceTypeExternalName || is.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var errs field.ErrorList
	if len(was.ClusterIPs) > 0 {
		at := at.Child("clusterIPs").Index(0)
		switch {
		case len(is.ClusterIPs) == 0:
			errs = append(errs, field.Invalid(at, is.ClusterIPs, "primary clusterIP can not be unset"))
		case is.ClusterIPs[0] != was.ClusterIPs[0]:
			errs = append(errs, field.Invalid(at, is.ClusterIPs, "may not change once set"))
		}
	}
	if len(was.IPFamilies) > 0 {
		at := at.Child("ipFamilies").Index(0)
		switch {
		case len(is.IPFamilies) == 0:
			errs = append(errs, field.Invalid(at, is.IPFamilies, "primary ipFamily can not be unset"))
		case is.IPFamilies[0] != was.IPFamilies[0]:
			errs = append(errs, field.Invalid(at, is.IPFamilies, "may not change once set"))
		}
	}
	if was.Type == corev1.ServiceTypeLoadBalancer && is.Type == corev1.ServiceTypeLoadBalancer && !same(was.LoadBalancerClass, is.LoadBalancerClass) {
		errs = append(errs, field.Invalid(at.Child("loadBalancerClass"), is.LoadBalancerClass, "may not change once set"))
	}
	return errs
}

func validateServiceStatus(updated, _ *corev1.Service) field.ErrorList {
	ingress := updated.Status.LoadBalancer.Ingress
	at := field.NewPath("status", "loadBalancer", "ingress")
	var errs field.ErrorList
	if len(ingress) > 0 && updated.Spec.Type != corev1.ServiceTypeLoadBalancer {
		errs = append(errs, field.Forbidden(at, "may only be used when `spec.type` is \"LoadBalancer\""))
	}
	for i := range ingress {
		g, at := &ingress[i], at.Index(i)
		if g.IP != "" {
			errs = append(errs, isIP(g.IP, at.Child("ip"))...)
		}
		if g.IPMode != nil && g.IP == "" {
			errs = append(errs, field.Forbidden(at.Child("ipMode"), "may not be specified when `ip` is not set"))
		} else {
			errs = append(errs, optionalOneOf(g.IPMode, at.Child("ipMode"), corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP)...)
		}
		if g.Hostname == "" {
			continue
		}
		errs = append(errs, isSubdomain(g.Hostname, at.Child("hostname"))...)
		if _, err := netip.ParseAddr(g.Hostname); err == nil {
			errs = append(errs, field.Invalid(at.Child("hostname"), g.Hostname, "must be a DNS name, not an IP address"))
		}
	}
	return errs
}
