package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func service(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "s"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func named(p *corev1.Pod, name string, port int32) *corev1.Pod {
	p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: name, ContainerPort: port}}}}
	return p
}

// tell writes groups as "ports: address ready/serving/terminating ...".
func tell(groups []sliceGroup) []string {
	out := []string{}
	for _, g := range groups {
		line := string(g.family) + " " + portsKey(g.ports) + ":"
		for _, e := range g.endpoints {
			state := ""
			for _, c := range []struct {
				name string
				is   *bool
			}{{"r", e.Conditions.Ready}, {"s", e.Conditions.Serving}, {"t", e.Conditions.Terminating}} {
				if *c.is {
					state += c.name
				}
			}
			line += " " + e.Addresses[0] + "=" + state
		}
		out = append(out, line)
	}
	return out
}

func TestBackends(t *testing.T) {
	publish := func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }
	byName := func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") }
	noPorts := func(s *corev1.Service) { s.Spec.Ports, s.Spec.ClusterIP = nil, corev1.ClusterIPNone }
	twoPorts := func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP})
	}
	ended := func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
	for _, c := range []struct {
		name    string
		service *corev1.Service
		pods    []*corev1.Pod
		slices  []string
		subsets string
	}{
		{"ready and not", service(), []*corev1.Pod{newTestPod("a", withIP("10.0.0.1")), newTestPod("b", withIP("10.0.0.2"), unready)}, []string{"IPv4 http/TCP/8080/: 10.0.0.1=rs 10.0.0.2="}, "10.0.0.1 / 10.0.0.2"},
		{"ending but serving", service(), []*corev1.Pod{newTestPod("a", withIP("10.0.0.1"), ending)}, []string{"IPv4 http/TCP/8080/: 10.0.0.1=st"}, ""},
		{"published while not ready and ending", service(publish), []*corev1.Pod{newTestPod("a", withIP("10.0.0.1"), unready), newTestPod("b", withIP("10.0.0.2"), ending)}, []string{"IPv4 http/TCP/8080/: 10.0.0.1=rs 10.0.0.2=rst"}, "10.0.0.1 10.0.0.2 / "},
		{"without address, or ended", service(), []*corev1.Pod{newTestPod("a", withIP("")), newTestPod("b", ended)}, []string{}, ""},
		{"named target ports differ", service(byName), []*corev1.Pod{named(newTestPod("a", withIP("10.0.0.1")), "web", 8000), named(newTestPod("b", withIP("10.0.0.2")), "web", 9000), named(newTestPod("c"), "other", 1)}, []string{"IPv4 http/TCP/8000/: 10.0.0.1=rs", "IPv4 http/TCP/9000/: 10.0.0.2=rs"}, "10.0.0.1 / ; 10.0.0.2 / "},
		{"several ports", service(twoPorts), []*corev1.Pod{newTestPod("a", withIP("10.0.0.1"))}, []string{"IPv4 dns/UDP/53/,http/TCP/8080/: 10.0.0.1=rs"}, "10.0.0.1 / "},
		{"headless without ports", service(noPorts), []*corev1.Pod{newTestPod("a", withIP("10.0.0.1"))}, []string{"IPv4 : 10.0.0.1=rs"}, "10.0.0.1 / "},
	} {
		t.Run(c.name, func(t *testing.T) {
			backends := backendsOf(c.service, c.pods, func(string) string { return "" })
			if d := cmp.Diff(c.slices, tell(groupBackends(nil, backends))); d != "" {
				t.Errorf("slices (-want +got):\n%s", d)
			}
			subsets, _ := renderSubsets(c.service, backends)
			var got []string
			for _, s := range subsets {
				got = append(got, ips(s.Addresses)+" / "+ips(s.NotReadyAddresses))
			}
			if strings.Join(got, "; ") != c.subsets {
				t.Errorf("subsets %q, want %q", strings.Join(got, "; "), c.subsets)
			}
		})
	}
}

func ips(l []corev1.EndpointAddress) string {
	var out []string
	for _, a := range l {
		out = append(out, a.IP)
	}
	return strings.Join(out, " ")
}

func TestADualStackServiceHasSlicesOfBothFamilies(t *testing.T) {
	s := service(func(s *corev1.Service) {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
	})
	p := newTestPod("a", func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}} })
	backends := backendsOf(s, []*corev1.Pod{p}, func(string) string { return "z" })
	want := []string{"IPv6 http/TCP/8080/: fd00::1=rs", "IPv4 http/TCP/8080/: 10.0.0.1=rs"}
	if d := cmp.Diff(want, tell(groupBackends(s.Spec.IPFamilies, backends))); d != "" {
		t.Errorf("slices (-want +got):\n%s", d)
	}
}

func TestAnOverfullEndpointsObjectSaysSo(t *testing.T) {
	var pods []*corev1.Pod
	for i := range maxAddresses + 5 {
		pods = append(pods, newTestPod(fmt.Sprintf("p%04d", i), withIP(fmt.Sprintf("10.0.%d.%d", i/200, i%200))))
	}
	subsets, truncated := renderSubsets(service(), backendsOf(service(), pods, func(string) string { return "" }))
	if !truncated || len(subsets[0].Addresses) != maxAddresses {
		t.Errorf("%d addresses, truncated %t", len(subsets[0].Addresses), truncated)
	}
}

// group is n endpoints of one set of ports, from pod number first on.
func group(first, n int) sliceGroup {
	g := sliceGroup{family: discoveryv1.AddressTypeIPv4, ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}}}
	for i := first; i < first+n; i++ {
		g.endpoints = append(g.endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.0.%d.%d", i/200, i%200)},
			TargetRef: &corev1.ObjectReference{UID: types.UID(fmt.Sprint("pod-", i))},
		})
	}
	return g
}

// store gives what planSlices returned the names and revisions that a store would.
func store(put []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	for i, s := range put {
		if s.Name == "" {
			s.Name, s.ResourceVersion = fmt.Sprint("new-", i), "1"
		}
	}
	return put
}

func sizes(l []*discoveryv1.EndpointSlice) []int {
	out := []int{}
	for _, s := range l {
		out = append(out, len(s.Endpoints))
	}
	slices.Sort(out)
	return out
}

func TestSlicesChangeAsLittleAsTheyCan(t *testing.T) {
	put, remove := planSlices([]sliceGroup{group(0, 250)}, nil)
	if d := cmp.Diff([]int{50, 100, 100}, sizes(put)); d != "" || len(remove) != 0 {
		t.Fatalf("sizes (-want +got):\n%s remove %d", d, len(remove))
	}
	stored := store(put)
	again, remove := planSlices([]sliceGroup{group(0, 250)}, stored)
	if d := cmp.Diff(stored, again); d != "" || len(remove) != 0 {
		t.Fatalf("a second run changes something:\n%s", d)
	}
	// The first pod goes and another comes: one slice changes.
	next, remove := planSlices([]sliceGroup{group(1, 250)}, stored)
	changed := 0
	for i := range next {
		if !cmp.Equal(next[i], stored[i]) {
			changed++
		}
	}
	if changed != 1 || len(next) != 3 || len(remove) != 0 {
		t.Fatalf("%d of %d slices changed, %d removed", changed, len(next), len(remove))
	}
	none, remove := planSlices(nil, stored)
	if len(none) != 0 || len(remove) != 3 {
		t.Fatalf("for no endpoints: %d kept, %d removed", len(none), len(remove))
	}
	// An address that went to another pod is replaced, not kept.
	moved := group(0, 1)
	moved.endpoints[0].TargetRef.UID = "other"
	put, _ = planSlices([]sliceGroup{moved}, stored)
	if len(put) != 1 || len(put[0].Endpoints) != 1 || put[0].Endpoints[0].TargetRef.UID != "other" {
		t.Fatalf("slices %+v", put)
	}
}
