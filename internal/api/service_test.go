package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// stored is a service of a type as it is after its allocations.
func stored(t corev1.ServiceType) *corev1.Service {
	s := &corev1.Service{Spec: corev1.ServiceSpec{Type: t, Ports: []corev1.ServicePort{{Port: 80}}}}
	if t == corev1.ServiceTypeExternalName {
		s.Spec.ExternalName = "x.example.com"
	}
	Services.Default(s)
	Services.PrepareCreate(s)
	if NeedsClusterIP(s) {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.43.0.9", []string{"10.43.0.9"}
	}
	if NeedsNodePorts(s) {
		s.Spec.Ports[0].NodePort = 30001
	}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "1.2.3.4"}}
	return s
}

// replace does what an update does before it is validated.
func replace(old, given *corev1.Service) *corev1.Service {
	Services.Default(given)
	Services.PrepareUpdate(given, old)
	return given
}

func TestSameManifestAgainKeepsWhatWasAllocated(t *testing.T) {
	for _, kind := range []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer} {
		t.Run(string(kind), func(t *testing.T) {
			old := stored(kind)
			got := replace(old, &corev1.Service{Spec: corev1.ServiceSpec{Type: kind, Ports: []corev1.ServicePort{{Port: 80}}}})
			if diff := cmp.Diff(old, got); diff != "" {
				t.Errorf("it changed:\n%s", diff)
			}
			if errs := Services.ValidateUpdate(got, old); len(errs) > 0 {
				t.Error(errs)
			}
		})
	}
}

func TestHeadlessManifestAgain(t *testing.T) {
	old := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "None", Selector: map[string]string{"a": "b"}}}
	Services.Default(old)
	Services.PrepareCreate(old)
	got := replace(old, &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "None", Selector: map[string]string{"a": "b"}}})
	if diff := cmp.Diff(old, got); diff != "" {
		t.Error(diff)
	}
}

func TestChangeOfTypeDropsWhatNoLongerApplies(t *testing.T) {
	types := []corev1.ServiceType{
		corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName,
	}
	for _, from := range types {
		for _, to := range types {
			t.Run(string(from)+" to "+string(to), func(t *testing.T) {
				old := stored(from)
				// As a patch of nothing but the type leaves it.
				given := old.DeepCopy()
				given.Spec.Type = to
				if to == corev1.ServiceTypeExternalName {
					given.Spec.ExternalName = "x.example.com"
				}
				got := replace(old, given)
				if NeedsClusterIP(got) {
					got.Spec.ClusterIP, got.Spec.ClusterIPs = "10.43.0.10", []string{"10.43.0.10"}
				}
				if errs := Services.ValidateUpdate(got, old); len(errs) > 0 {
					t.Errorf("%v\n%+v", errs, got.Spec)
				}
				if NeedsNodePorts(got) != (got.Spec.Ports[0].NodePort != 0) && from != corev1.ServiceTypeClusterIP && from != corev1.ServiceTypeExternalName {
					t.Errorf("node port %d", got.Spec.Ports[0].NodePort)
				}
				if HasClusterIP(got) == (to == corev1.ServiceTypeExternalName) {
					t.Errorf("cluster IP %q", got.Spec.ClusterIP)
				}
			})
		}
	}
}

func TestAddressesStay(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*corev1.ServiceSpec)
	}{
		{"another", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.43.0.99" }},
		{"emptied", func(s *corev1.ServiceSpec) { s.ClusterIP = "" }},
		{"headless", func(s *corev1.ServiceSpec) { s.ClusterIP = "None" }},
		{"another family", func(s *corev1.ServiceSpec) { s.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := stored(corev1.ServiceTypeClusterIP)
			given := old.DeepCopy()
			c.change(&given.Spec)
			if errs := Services.ValidateUpdate(replace(old, given), old); len(errs) == 0 {
				t.Error("it was accepted")
			}
		})
	}
}

func TestNodePortMovesWithItsPort(t *testing.T) {
	old := stored(corev1.ServiceTypeNodePort)
	got := replace(old, &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{
		{Name: "new", Port: 81}, {Name: "old", Port: 80},
	}}})
	if got.Spec.Ports[0].NodePort != 0 || got.Spec.Ports[1].NodePort != 30001 {
		t.Errorf("got %+v", got.Spec.Ports)
	}
}
