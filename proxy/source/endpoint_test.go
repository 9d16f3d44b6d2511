package source_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"shoal/proxy/source"
	"shoal/proxy/source/sourcetest"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct{ name, endpoints, down, want string }{
		{"ready ones", "10.0.0.1@a 10.0.0.2@b", "", "1 2"},
		{"not the unready", "10.0.0.1@a- 10.0.0.2@b", "", "2"},
		{"not the terminating", "10.0.0.1@a~ 10.0.0.2@b", "", "2"},
		{"terminating when nobody is ready", "10.0.0.1@a~ 10.0.0.2@b-", "", "1"},
		{"not those down", "10.0.0.1@a 10.0.0.2@b", "a", "2"},
		{"terminating when all ready ones are down", "10.0.0.1@a 10.0.0.2@b~", "a", "2"},
		{"ready ones when everything is down", "10.0.0.1@a 10.0.0.2@b~", "a b", "1"},
		{"terminating when that is all, and down", "10.0.0.1@a~", "a", "1"},
		{"nobody", "10.0.0.1@a-", "", ""},
		{"an address once", "10.0.0.1@a- 10.0.0.1@a", "", "1"},
		{"unknown machines are up", "10.0.0.1 10.0.0.2@b", "b", "1"},
	} {
		sl := sourcetest.Slice("default/web", []string{"http:80"}, strings.Fields(c.endpoints)...)
		all := source.Endpoints([]*discoveryv1.EndpointSlice{sl}, "http", corev1.ProtocolTCP)
		var got []string
		for _, e := range source.Choose(all, func(e *source.Endpoint) bool {
			return e.Node != "" && strings.Contains(c.down, e.Node)
		}) {
			got = append(got, strings.TrimPrefix(e.Addr.Addr().String(), "10.0.0."))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %q, want %q", c.name, s, c.want)
		}
	}
}

func TestEndpointsOfOtherPortsAndFamiliesAreNotMixedIn(t *testing.T) {
	sl := sourcetest.Slice("default/web", []string{"http:80", "dns:53/udp"}, "10.0.0.1@a")
	six := sl.DeepCopy()
	six.AddressType = discoveryv1.AddressTypeIPv6
	six.Endpoints[0].Addresses = []string{"fd00::1"}
	all := []*discoveryv1.EndpointSlice{sl, six}
	for _, c := range []struct {
		name  string
		proto corev1.Protocol
		want  int
	}{{"http", corev1.ProtocolTCP, 1}, {"http", corev1.ProtocolUDP, 0}, {"dns", corev1.ProtocolUDP, 1}, {"", corev1.ProtocolTCP, 0}} {
		if got := source.Endpoints(all, c.name, c.proto); len(got) != c.want {
			t.Errorf("%q %s: %v", c.name, c.proto, got)
		}
	}
	if got := source.Addresses(all); len(got) != 1 {
		t.Errorf("addresses: %v", got)
	}
}
