package api

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	maxAddresses = 100  // of an endpoint
	maxEndpoints = 1000 // of a slice
	maxPorts     = 20000
	maxZoneHints = 8
	notAnIP      = "must be a valid IP address"
)

func validateEndpoints(e *corev1.Endpoints) field.ErrorList {
	var errs field.ErrorList
	for i := range e.Subsets {
		s, at := &e.Subsets[i], field.NewPath("subsets").Index(i)
		if len(s.Addresses)+len(s.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(at, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j := range s.Addresses {
			errs = append(errs, validateEndpointAddress(&s.Addresses[j], at.Child("addresses").Index(j))...)
		}
		for j := range s.NotReadyAddresses {
			errs = append(errs, validateEndpointAddress(&s.NotReadyAddresses[j], at.Child("notReadyAddresses").Index(j))...)
		}
		for j, p := range s.Ports {
			errs = append(errs, validateEndpointPort(p, len(s.Ports) > 1, at.Child("ports").Index(j))...)
		}
	}
	return errs
}

func validateEndpointsUpdate(updated, _ *corev1.Endpoints) field.ErrorList {
	return validateEndpoints(updated)
}

func validateEndpointAddress(a *corev1.EndpointAddress, at *field.Path) field.ErrorList {
	errs := isIP(a.IP, at.Child("ip"))
	if a.Hostname != "" {
		errs = append(errs, isLabel(a.Hostname, at.Child("hostname"))...)
	}
	if a.NodeName != nil {
		errs = append(errs, isSubdomain(*a.NodeName, at.Child("nodeName"))...)
	}
	return append(errs, reachable(a.IP, at.Child("ip"))...)
}

// reachable refuses addresses that mean something else on every machine.
func reachable(s string, at *field.Path) field.ErrorList {
	ip, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(at, s, notAnIP)}
	case ip.IsUnspecified():
		return field.ErrorList{field.Invalid(at, s, "may not be unspecified (0.0.0.0 or ::)")}
	case ip.IsLoopback():
		return field.ErrorList{field.Invalid(at, s, "may not be in the loopback range (127.0.0.0/8, ::1/128)")}
	case ip.IsLinkLocalUnicast():
		return field.ErrorList{field.Invalid(at, s, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")}
	case ip.IsLinkLocalMulticast():
		return field.ErrorList{field.Invalid(at, s, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")}
	}
	return nil
}

func validateEndpointPort(p corev1.EndpointPort, named bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if named && p.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else if p.Name != "" {
		errs = append(errs, isLabel(p.Name, at.Child("name"))...)
	}
	errs = append(errs, isPort(p.Port, at.Child("port"))...)
	errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
	if p.AppProtocol != nil {
		errs = append(errs, isQualifiedName(*p.AppProtocol, at.Child("appProtocol"))...)
	}
	return errs
}

func validateProtocol(p corev1.Protocol, at *field.Path) field.ErrorList {
	return oneOf(p, at, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
}

func validateEndpointSlice(s *discoveryv1.EndpointSlice) field.ErrorList {
	errs := oneOf(s.AddressType, field.NewPath("addressType"), discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
	if len(s.Endpoints) > maxEndpoints {
		errs = append(errs, field.TooMany(field.NewPath("endpoints"), len(s.Endpoints), maxEndpoints))
		return errs
	}
	for i := range s.Endpoints {
		errs = append(errs, validateSliceEndpoint(&s.Endpoints[i], s.AddressType, field.NewPath("endpoints").Index(i))...)
	}
	if len(s.Ports) > maxPorts {
		return append(errs, field.TooMany(field.NewPath("ports"), len(s.Ports), maxPorts))
	}
	names := seen[string]{}
	for i := range s.Ports {
		p, at := &s.Ports[i], field.NewPath("ports").Index(i)
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		if name != "" {
			errs = append(errs, isLabel(name, at.Child("name"))...)
		}
		if names.add(name) {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		if p.Protocol == nil {
			errs = append(errs, field.Required(at.Child("protocol"), ""))
		} else {
			errs = append(errs, validateProtocol(*p.Protocol, at.Child("protocol"))...)
		}
		if p.AppProtocol != nil {
			errs = append(errs, isQualifiedName(*p.AppProtocol, at.Child("appProtocol"))...)
		}
	}
	return errs
}

func validateEndpointSliceUpdate(updated, old *discoveryv1.EndpointSlice) field.ErrorList {
	return append(validateEndpointSlice(updated), unchanged(updated.AddressType, old.AddressType, field.NewPath("addressType"))...)
}

func validateSliceEndpoint(e *discoveryv1.Endpoint, t discoveryv1.AddressType, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	addresses := at.Child("addresses")
	switch {
	case len(e.Addresses) == 0:
		errs = append(errs, field.Required(addresses, "must contain at least 1 address"))
	case len(e.Addresses) > maxAddresses:
		errs = append(errs, field.TooMany(addresses, len(e.Addresses), maxAddresses))
	}
	for i, a := range e.Addresses {
		at := addresses.Index(i)
		switch t {
		case discoveryv1.AddressTypeIPv4:
			if ip, err := netip.ParseAddr(a); err != nil || !ip.Is4() {
				errs = append(errs, field.Invalid(at, a, "must be a valid IPv4 address"))
			}
			errs = append(errs, reachable(a, at)...)
		case discoveryv1.AddressTypeIPv6:
			if ip, err := netip.ParseAddr(a); err != nil || !ip.Is6() {
				errs = append(errs, field.Invalid(at, a, "must be a valid IPv6 address"))
			}
			errs = append(errs, reachable(a, at)...)
		case discoveryv1.AddressTypeFQDN:
			errs = append(errs, validation.IsFullyQualifiedDomainName(at, a)...)
		}
	}
	if e.NodeName != nil {
		errs = append(errs, isSubdomain(*e.NodeName, at.Child("nodeName"))...)
	}
	if e.Hostname != nil {
		errs = append(errs, isLabel(*e.Hostname, at.Child("hostname"))...)
	}
	errs = append(errs, metavalidation.ValidateLabels(e.DeprecatedTopology, at.Child("deprecatedTopology"))...)
	if e.Hints != nil {
		errs = append(errs, validateHints(e.Hints, at.Child("hints"))...)
	}
	return errs
}

func validateHints(h *discoveryv1.EndpointHints, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	zones := at.Child("forZones")
	if len(h.ForZones) > maxZoneHints {
		return append(errs, field.TooMany(zones, len(h.ForZones), maxZoneHints))
	}
	known := seen[string]{}
	for i, z := range h.ForZones {
		at := zones.Index(i).Child("name")
		if known.add(z.Name) {
			errs = append(errs, field.Duplicate(at, z.Name))
		}
		errs = append(errs, each(at, z.Name, validation.IsValidLabelValue(strings.TrimSpace(z.Name)))...)
	}
	return errs
}
