package proxy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/proxy/source"
	"shoal/proxy/source/sourcetest"
)

const (
	here    = "192.168.7.1" // this machine, node-1
	gateway = "10.244.1.1"
	localA  = "10.244.1.5"
	localB  = "10.244.1.6"
	remote  = "10.244.2.5"
	outside = "203.0.113.9"
	vip     = "10.43.0.20"
)

// load renders objects for node-1 and returns a machine that holds the rules.
func load(t *testing.T, down func(*source.Endpoint) bool, objects ...api.Object) *Fake {
	t.Helper()
	return loadFacts(t, factsOf(down, objects...))
}

func loadFacts(t *testing.T, facts *Facts) *Fake {
	t.Helper()
	f := testMachine()
	for _, input := range diff(nil, Render(facts).chains) {
		if err := f.Restore(t.Context(), input); err != nil {
			t.Fatalf("%v in\n%s", err, input)
		}
	}
	for _, j := range jumps {
		if err := f.Link(t.Context(), j.table, j.from, j.to); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func factsOf(down func(*source.Endpoint) bool, objects ...api.Object) *Facts {
	f := &Facts{
		Node: "node-1", PodCIDR: netip.MustParsePrefix("10.244.0.0/15"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
		Slices: map[client.Key][]*discoveryv1.EndpointSlice{}, Down: down,
	}
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Service:
			f.Services = append(f.Services, o)
		case *discoveryv1.EndpointSlice:
			key, _ := source.ServiceOf(o)
			f.Slices[key] = append(f.Slices[key], o)
		}
	}
	return f
}

func with(svc *corev1.Service, change func(*corev1.ServiceSpec)) *corev1.Service {
	change(&svc.Spec)
	return svc
}

func localOnly(internal, external bool) func(*corev1.ServiceSpec) {
	return func(s *corev1.ServiceSpec) {
		if local := corev1.ServiceInternalTrafficPolicyLocal; internal {
			s.InternalTrafficPolicy = &local
		}
		if external {
			s.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}
	}
}

// packets maps {from, to} to where a TCP packet may end up.
type packets map[[2]string][]string

func (ps packets) check(t *testing.T, f *Fake) {
	t.Helper()
	for way, want := range ps {
		got := f.Ways(Packet{Proto: "tcp", From: netip.MustParseAddr(way[0]), To: netip.MustParseAddrPort(way[1])})
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s → %s (-want +got):\n%s", way[0], way[1], d)
		}
	}
}

func TestPackets(t *testing.T) {
	web := func() *corev1.Service { return sourcetest.Service("default/web", vip, "80") }
	np := func() *corev1.Service { return sourcetest.Service("default/web", vip, "80@30080") }
	slice := func(e ...string) *discoveryv1.EndpointSlice {
		return sourcetest.Slice("default/web", []string{"8080"}, e...)
	}
	both := []string{localA + "@node-1", remote + "@node-2"}
	for name, c := range map[string]struct {
		down    []string
		objects []api.Object
		want    packets
	}{
		"cluster IP from everywhere": {
			objects: []api.Object{web(), slice(both...)},
			want: packets{
				{localB, vip + ":80"}:  {localA + ":8080", remote + ":8080"},
				{localA, vip + ":80"}:  {localA + ":8080 masqueraded", remote + ":8080"}, // hairpin
				{gateway, vip + ":80"}: {localA + ":8080", remote + ":8080"},
				{here, vip + ":80"}:    {localA + ":8080 masqueraded", remote + ":8080 masqueraded"},
				{outside, vip + ":80"}: {localA + ":8080 masqueraded", remote + ":8080 masqueraded"},
				{localB, vip + ":81"}:  {"reject"},
			},
		},
		"nobody behind it": {
			objects: []api.Object{np(), slice(localA + "@node-1-")},
			want: packets{
				{localB, vip + ":80"}:      {"reject"},
				{here, vip + ":80"}:        {"reject"},
				{outside, here + ":30080"}: {"reject"},
			},
		},
		"node port from everywhere": {
			objects: []api.Object{np(), slice(remote + "@node-2")},
			want: packets{
				{outside, here + ":30080"}:       {remote + ":8080 masqueraded"},
				{localA, here + ":30080"}:        {remote + ":8080 masqueraded"},
				{localA, gateway + ":30080"}:     {remote + ":8080 masqueraded"},
				{here, here + ":30080"}:          {remote + ":8080 masqueraded"},
				{"127.0.0.1", "127.0.0.1:30080"}: {remote + ":8080 masqueraded"},
				{outside, here + ":30081"}:       {here + ":30081"},
				{outside, "192.168.7.2:30080"}:   {"192.168.7.2:30080"},
				{localA, "192.168.7.2:30080"}:    {"192.168.7.2:30080 masqueraded"},
				{outside, "127.0.0.1:10250"}:     {"drop"}, // route_localnet must not open loopback
				{"127.0.0.1", "127.0.0.1:10250"}: {"127.0.0.1:10250"},
			},
		},
		"internal policy Local": {
			objects: []api.Object{with(web(), localOnly(true, false)), slice(both...)},
			want:    packets{{localB, vip + ":80"}: {localA + ":8080"}, {outside, vip + ":80"}: {localA + ":8080 masqueraded"}},
		},
		"internal policy Local without a local one": {
			objects: []api.Object{with(web(), localOnly(true, false)), slice(remote + "@node-2")},
			want:    packets{{localB, vip + ":80"}: {"reject"}},
		},
		"external policy Local keeps the caller's address": {
			objects: []api.Object{with(np(), localOnly(false, true)), slice(both...)},
			want: packets{
				{outside, here + ":30080"}: {localA + ":8080"},
				{localB, here + ":30080"}:  {localA + ":8080", remote + ":8080"},
				{here, here + ":30080"}:    {localA + ":8080 masqueraded", remote + ":8080 masqueraded"},
				{localB, vip + ":80"}:      {localA + ":8080", remote + ":8080"},
			},
		},
		"external policy Local without a local one": {
			objects: []api.Object{with(np(), localOnly(false, true)), slice(remote + "@node-2")},
			want: packets{
				{outside, here + ":30080"}: {"drop"},
				{localB, here + ":30080"}:  {remote + ":8080"},
			},
		},
		"external address": {
			objects: []api.Object{
				with(web(), func(s *corev1.ServiceSpec) { s.ExternalIPs = []string{"198.51.100.7"} }), slice(remote + "@node-2"),
			},
			want: packets{
				{outside, "198.51.100.7:80"}: {remote + ":8080 masqueraded"},
				{localA, "198.51.100.7:80"}:  {remote + ":8080 masqueraded"},
				{here, "198.51.100.7:80"}:    {remote + ":8080 masqueraded"},
			},
		},
		"external address with nobody behind it": {
			objects: []api.Object{
				with(web(), func(s *corev1.ServiceSpec) { s.ExternalIPs = []string{"198.51.100.7"} }),
			},
			want: packets{{outside, "198.51.100.7:80"}: {"reject"}, {here, "198.51.100.7:80"}: {"reject"}},
		},
		"terminating endpoints serve when nobody is ready": {
			objects: []api.Object{web(), slice(localA+"@node-1~", remote+"@node-2-")},
			want:    packets{{localB, vip + ":80"}: {localA + ":8080"}},
		},
		"terminating endpoints rest when somebody is ready": {
			objects: []api.Object{web(), slice(localA+"@node-1~", remote+"@node-2")},
			want:    packets{{localB, vip + ":80"}: {remote + ":8080"}},
		},
		"a gone machine's endpoints are withdrawn": {
			down: []string{"node-2"}, objects: []api.Object{web(), slice(both...)},
			want: packets{{localB, vip + ":80"}: {localA + ":8080"}},
		},
		"a set is never emptied": {
			down: []string{"node-2", "node-3"}, objects: []api.Object{web(), slice(remote+"@node-2", "10.244.3.5@node-3")},
			want: packets{{localB, vip + ":80"}: {remote + ":8080", "10.244.3.5:8080"}},
		},
		"pods leave with this machine's address": {
			want: packets{
				{localA, "198.51.100.1:443"}: {"198.51.100.1:443 masqueraded"},
				{localA, remote + ":9"}:      {remote + ":9"},
				{localA, localA + ":9"}:      {localA + ":9"},
				{localA, here + ":22"}:       {here + ":22"},
				{remote, localA + ":9"}:      {localA + ":9"},
				{here, "198.51.100.1:443"}:   {"198.51.100.1:443"},
				{localA, "10.43.9.9:80"}:     {"reject"}, // no such Service
			},
		},
		"headless and external names have no rules": {
			objects: []api.Object{
				with(web(), func(s *corev1.ServiceSpec) { s.ClusterIP = corev1.ClusterIPNone }), slice(both...),
			},
			want: packets{{localB, vip + ":80"}: {"reject"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			down := func(e *source.Endpoint) bool {
				for _, n := range c.down {
					if e.Node == n {
						return true
					}
				}
				return false
			}
			c.want.check(t, load(t, down, c.objects...))
		})
	}
}

// TestNamesAreAskedElsewhere: what pods ask when their own machine does not answer is not that machine.
func TestNamesAreAskedElsewhere(t *testing.T) {
	for endpoints, want := range map[string][]string{
		gateway + "@node-1 10.244.2.1@node-2 10.244.3.1@node-3": {"10.244.2.1:53", "10.244.3.1:53"},
		gateway + "@node-1": {gateway + ":53"}, // better than nobody
	} {
		f := factsOf(nil, sourcetest.Service("kube-system/names", names, "53"), sourcetest.Slice("kube-system/names", []string{"53"}, strings.Fields(endpoints)...))
		f.OtherDNS = netip.MustParseAddr(names)
		packets{{localA, names + ":53"}: want}.check(t, loadFacts(t, f))
	}
}

func TestSeveralPortsAndProtocols(t *testing.T) {
	f := load(t, nil,
		sourcetest.Service("kube-system/dns", "10.43.0.10", "dns:53/udp", "dns-tcp:53/tcp", "metrics:9153"),
		sourcetest.Slice("kube-system/dns", []string{"dns:5353/udp", "dns-tcp:5354/tcp"}, remote+"@node-2"))
	for way, want := range map[[2]string]string{
		{"udp", "10.43.0.10:53"}:   remote + ":5353",
		{"tcp", "10.43.0.10:53"}:   remote + ":5354",
		{"tcp", "10.43.0.10:9153"}: "reject",
	} {
		got := f.Ways(Packet{Proto: way[0], From: netip.MustParseAddr(localA), To: netip.MustParseAddrPort(way[1])})
		if d := cmp.Diff([]string{want}, got); d != "" {
			t.Errorf("%v (-want +got):\n%s", way, d)
		}
	}
}

func TestAffinityKeepsACallerUntilItsTimeIsOver(t *testing.T) {
	seconds := int32(60)
	f := load(t, nil,
		with(sourcetest.Service("default/web", vip, "80"), func(s *corev1.ServiceSpec) {
			s.SessionAffinity = corev1.ServiceAffinityClientIP
			s.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
		}),
		sourcetest.Slice("default/web", []string{"8080"}, localA+"@node-1", remote+"@node-2"))
	now := time.Unix(1000, 0)
	f.Now = func() time.Time { return now }
	send := func(from string, first bool) string {
		return f.Send(Packet{Proto: "tcp", From: netip.MustParseAddr(from), To: netip.MustParseAddrPort(vip + ":80")},
			func(float64) bool { return first }).To.Addr().String()
	}
	steps := []struct {
		after time.Duration
		from  string
		first bool
		want  string
	}{
		{0, localB, true, localA},
		{50 * time.Second, localB, false, localA},
		{50 * time.Second, localB, false, localA}, // each call starts the time again
		{0, outside, false, remote},               // others are free to choose
		{61 * time.Second, localB, false, remote},
		{0, localB, true, remote},
	}
	for i, s := range steps {
		now = now.Add(s.after)
		if got := send(s.from, s.first); got != s.want {
			t.Errorf("step %d: got %s, want %s", i, got, s.want)
		}
	}
}

func TestChancesAreEqual(t *testing.T) {
	left := 1.0
	for n := 5; n > 1; n-- {
		var p float64
		r, err := parseRule("-m statistic --mode random --probability " + probability(n) + " -j ACCEPT")
		if err != nil {
			t.Fatal(err)
		}
		r.matches[0](nil, &packet{choose: func(c float64) bool { p = c; return true }})
		if share := left * p; share < 0.19999 || share > 0.20001 {
			t.Errorf("share of endpoint %d is %f", 5-n, share)
		}
		left *= 1 - p
	}
}
