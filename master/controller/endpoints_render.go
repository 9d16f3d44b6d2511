package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilnet "k8s.io/utils/net"

	"shoal/internal/api"
)

// backend is one pod, or one Node, behind a Service.
type backend struct {
	addresses   []string
	ready       bool // may get new connections
	serving     bool // answers, though it may be ending
	terminating bool
	hostname    string
	node, zone  string
	target      *corev1.ObjectReference
	ports       []discoveryv1.EndpointPort
}

// sliceGroup is what slices of one address family and one set of ports hold together.
type sliceGroup struct {
	family    discoveryv1.AddressType
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
}

// backendsOf returns the pods that stand behind s, in the order of their names. zone tells a Node's zone.
func backendsOf(s *corev1.Service, pods []*corev1.Pod, zone func(node string) string) []backend {
	var out []backend
	for _, p := range pods {
		if api.IsPodTerminal(p) || p.Status.PodIP == "" && len(p.Status.PodIPs) == 0 {
			continue
		}
		ports := portsOf(s, p)
		if len(ports) == 0 && len(s.Spec.Ports) > 0 {
			continue
		}
		b := backend{
			serving: api.IsPodReady(p) || s.Spec.PublishNotReadyAddresses, terminating: p.DeletionTimestamp != nil,
			node: p.Spec.NodeName, zone: zone(p.Spec.NodeName), ports: ports,
			target: &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		}
		b.ready = b.serving && (!b.terminating || s.Spec.PublishNotReadyAddresses)
		if p.Spec.Hostname != "" && p.Spec.Subdomain == s.Name {
			b.hostname = p.Spec.Hostname
		}
		for _, ip := range p.Status.PodIPs {
			b.addresses = append(b.addresses, ip.IP)
		}
		if len(b.addresses) == 0 {
			b.addresses = []string{p.Status.PodIP}
		}
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b backend) int { return cmp.Compare(a.target.Name, b.target.Name) })
	return out
}

// portsOf resolves the Service's ports for one pod; a name the pod does not have is left out.
func portsOf(s *corev1.Service, p *corev1.Pod) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for _, sp := range s.Spec.Ports {
		protocol := cmp.Or(sp.Protocol, corev1.ProtocolTCP)
		port := sp.Port
		switch {
		case sp.TargetPort.Type == intstr.String:
			port = namedPort(p, sp.TargetPort.StrVal, protocol)
		case sp.TargetPort.IntVal != 0:
			port = sp.TargetPort.IntVal
		}
		if port != 0 {
			out = append(out, discoveryv1.EndpointPort{Name: new(sp.Name), Protocol: &protocol, Port: &port, AppProtocol: sp.AppProtocol})
		}
	}
	return out
}

func namedPort(p *corev1.Pod, name string, protocol corev1.Protocol) int32 {
	containers := slices.Clone(p.Spec.Containers)
	for i := range p.Spec.InitContainers {
		if api.IsSidecar(&p.Spec.InitContainers[i]) {
			containers = append(containers, p.Spec.InitContainers[i])
		}
	}
	for _, c := range containers {
		for _, cp := range c.Ports {
			if cp.Name == name && cmp.Or(cp.Protocol, corev1.ProtocolTCP) == protocol {
				return cp.ContainerPort
			}
		}
	}
	return 0
}

// groupBackends splits backends by address family and set of ports.
func groupBackends(families []corev1.IPFamily, backends []backend) []sliceGroup {
	if len(families) == 0 {
		families = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	var out []sliceGroup
	for _, family := range families {
		index := map[string]int{}
		for _, b := range backends {
			address, ok := addressOf(family, b.addresses)
			if !ok {
				continue
			}
			key := portsKey(b.ports)
			i, had := index[key]
			if !had {
				i = len(out)
				index[key] = i
				out = append(out, sliceGroup{family: discoveryv1.AddressType(family), ports: b.ports})
			}
			out[i].endpoints = append(out[i].endpoints, endpointOf(b, address))
		}
	}
	return out
}

func addressOf(family corev1.IPFamily, addresses []string) (string, bool) {
	for _, a := range addresses {
		if utilnet.IsIPv6String(a) == (family == corev1.IPv6Protocol) {
			return a, true
		}
	}
	return "", false
}

func endpointOf(b backend, address string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses:  []string{address},
		Conditions: discoveryv1.EndpointConditions{Ready: new(b.ready), Serving: new(b.serving), Terminating: new(b.terminating)},
		TargetRef:  b.target,
	}
	if b.hostname != "" {
		e.Hostname = &b.hostname
	}
	if b.node != "" {
		e.NodeName = &b.node
	}
	if b.zone != "" {
		e.Zone = &b.zone
	}
	return e
}

// portsKey is equal for equal sets of ports.
func portsKey(ports []discoveryv1.EndpointPort) string {
	keys := make([]string, len(ports))
	for i, p := range ports {
		keys[i] = fmt.Sprintf("%s/%s/%d/%s", deref(p.Name), deref(p.Protocol), deref(p.Port), deref(p.AppProtocol))
	}
	slices.Sort(keys)
	return strings.Join(keys, ",")
}

func deref[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// maxAddresses is how many addresses an Endpoints object holds; more are left out, with an annotation that says so.
const maxAddresses = 1000

// renderSubsets returns what the older Endpoints object holds: addresses of equal ports together, those that end left
// out unless the Service publishes them.
func renderSubsets(s *corev1.Service, backends []backend) (subsets []corev1.EndpointSubset, truncated bool) {
	family := corev1.IPv4Protocol
	if len(s.Spec.IPFamilies) > 0 {
		family = s.Spec.IPFamilies[0]
	}
	byPorts := map[string]*corev1.EndpointSubset{}
	n := 0
	for _, b := range backends {
		address, ok := addressOf(family, b.addresses)
		if !ok || b.terminating && !s.Spec.PublishNotReadyAddresses {
			continue
		}
		if n++; n > maxAddresses {
			truncated = true
			break
		}
		key := portsKey(b.ports)
		sub := byPorts[key]
		if sub == nil {
			sub = &corev1.EndpointSubset{Ports: endpointPorts(b.ports)}
			byPorts[key] = sub
		}
		a := corev1.EndpointAddress{IP: address, Hostname: b.hostname, TargetRef: b.target}
		if b.node != "" {
			a.NodeName = &b.node
		}
		if b.ready {
			sub.Addresses = append(sub.Addresses, a)
		} else {
			sub.NotReadyAddresses = append(sub.NotReadyAddresses, a)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byPorts)) {
		sub := byPorts[key]
		byIP := func(a, b corev1.EndpointAddress) int { return cmp.Compare(a.IP, b.IP) }
		slices.SortFunc(sub.Addresses, byIP)
		slices.SortFunc(sub.NotReadyAddresses, byIP)
		subsets = append(subsets, *sub)
	}
	return subsets, truncated
}

func endpointPorts(ports []discoveryv1.EndpointPort) []corev1.EndpointPort {
	var out []corev1.EndpointPort
	for _, p := range ports {
		out = append(out, corev1.EndpointPort{Name: deref(p.Name), Protocol: deref(p.Protocol), Port: deref(p.Port), AppProtocol: p.AppProtocol})
	}
	slices.SortFunc(out, func(a, b corev1.EndpointPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out
}

// serviceOwner makes o go when s does.
func serviceOwner(s *corev1.Service) []metav1.OwnerReference {
	return []metav1.OwnerReference{*metav1.NewControllerRef(s, corev1.SchemeGroupVersion.WithKind("Service"))}
}
