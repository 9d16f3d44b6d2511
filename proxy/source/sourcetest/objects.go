package sourcetest

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
)

func kindOf(o api.Object) *api.Kind {
	switch o.(type) {
	case *corev1.Service:
		return api.Services
	case *discoveryv1.EndpointSlice:
		return api.EndpointSlices
	case *networkingv1.NetworkPolicy:
		return api.NetworkPolicies
	case *corev1.Namespace:
		return api.Namespaces
	case *corev1.Pod:
		return api.Pods
	}
	panic(fmt.Sprintf("sourcetest: no kind for %T", o))
}

// Service returns a ClusterIP Service called "ns/name" with ports such as "80", "http:80", "dns:53/udp" or, with a node
// port, "http:80@30080".
func Service(name, vip string, ports ...string) *corev1.Service {
	ns, n, _ := strings.Cut(name, "/")
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: n},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: vip, ClusterIPs: []string{vip},
			SessionAffinity: corev1.ServiceAffinityNone,
		},
	}
	for _, text := range ports {
		p := portOf(text)
		if p.NodePort != 0 {
			svc.Spec.Type = corev1.ServiceTypeNodePort
		}
		svc.Spec.Ports = append(svc.Spec.Ports, p)
	}
	return svc
}

// Slice returns the EndpointSlice of the Service "ns/name" with ports as in Service (the endpoints' own numbers) and
// endpoints such as "10.244.1.5@node-1", with the suffixes "-" (not ready), "~" (terminating, serving) and "=name"
// (hostname).
func Slice(name string, ports []string, endpoints ...string) *discoveryv1.EndpointSlice {
	ns, n, _ := strings.Cut(name, "/")
	sl := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: n + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: n},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, text := range ports {
		p := portOf(text)
		sl.Ports = append(sl.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol})
	}
	for _, text := range endpoints {
		sl.Endpoints = append(sl.Endpoints, endpointOf(text))
	}
	return sl
}

func portOf(text string) corev1.ServicePort {
	p := corev1.ServicePort{Protocol: corev1.ProtocolTCP}
	if name, rest, ok := strings.Cut(text, ":"); ok {
		p.Name, text = name, rest
	}
	if rest, proto, ok := strings.Cut(text, "/"); ok {
		p.Protocol, text = corev1.Protocol(strings.ToUpper(proto)), rest
	}
	if rest, node, ok := strings.Cut(text, "@"); ok {
		p.NodePort, text = number(node), rest
	}
	p.Port = number(text)
	return p
}

func number(text string) int32 {
	var n int32
	if _, err := fmt.Sscan(text, &n); err != nil {
		panic(err)
	}
	return n
}

func endpointOf(text string) discoveryv1.Endpoint {
	yes, no := true, false
	e := discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no}}
	if rest, name, ok := strings.Cut(text, "="); ok {
		e.Hostname, text = &name, rest
	}
	if rest, ok := strings.CutSuffix(text, "-"); ok {
		e.Conditions.Ready, e.Conditions.Serving, text = &no, &no, rest
	}
	if rest, ok := strings.CutSuffix(text, "~"); ok {
		e.Conditions.Ready, e.Conditions.Terminating, text = &no, &yes, rest
	}
	if rest, node, ok := strings.Cut(text, "@"); ok {
		e.NodeName, text = &node, rest
	}
	e.Addresses = []string{netip.MustParseAddr(text).String()}
	return e
}

// Liveness is what a test believes of machines: alive unless set. Safe for concurrent use.
type Liveness struct {
	mu      sync.Mutex
	states  map[string]api.Liveness
	changed chan struct{}
}

// NewLiveness returns one that takes every machine to be alive.
func NewLiveness() *Liveness {
	return &Liveness{states: map[string]api.Liveness{}, changed: make(chan struct{})}
}

// Set changes the state of one machine.
func (l *Liveness) Set(node string, s api.Liveness) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.states[node] = s
	close(l.changed)
	l.changed = make(chan struct{})
}

// Liveness is source.Liveness's.
func (l *Liveness) Liveness(node string) api.Liveness {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.states[node]; ok {
		return s
	}
	return api.Alive
}

// Changed is source.Liveness's.
func (l *Liveness) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}
