package proxy

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/proxy/source"
	"shoal/proxy/source/sourcetest"
)

func newRigless(k Programmer) *Proxy {
	return New(Config{
		Node: "node-1", Source: source.New(source.Config{Client: sourcetest.New()}), Programmer: k,
		PodCIDR: netip.MustParsePrefix("10.244.0.0/15"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
	})
}

// world is two nodes with pods and somebody outside.
type world struct {
	node1, node2, outside *host
	a, b, c               *host // pods: a and b on node1, c on node2
	proxy                 *kernelProxy
}

func newWorld(t testing.TB, program string) *world {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skip(err)
	}
	w := &world{node1: newNode(t, gateway), node2: newNode(t, "10.244.2.1"), outside: newHost(t)}
	cable(t, w.node1, "up0", here+"/24", w.node2, "up0", "192.168.7.2/24")
	cable(t, w.node1, "out0", "203.0.113.1/24", w.outside, "eth0", outside+"/24")
	route(t, w.node1, "10.244.2.0/24", "192.168.7.2")
	route(t, w.node2, "10.244.1.0/24", here)
	for _, dst := range []string{"10.43.0.0/16", "192.168.7.0/24", "198.51.100.7/32"} {
		route(t, w.outside, dst, "203.0.113.1")
	}
	w.a, w.b = newPod(t, w.node1, gateway, localA), newPod(t, w.node1, gateway, localB)
	w.c = newPod(t, w.node2, "10.244.2.1", remote)
	serve(t, w.a, ":8080", "a")
	serve(t, w.c, ":8080", "c")
	serve(t, w.outside, ":8080", "outside")
	serve(t, w.node1, gateway+":8080", "node")
	w.proxy = newKernelProxy(w.node1, program)
	return w
}

func endpointsOf(e ...string) api.Object {
	return sourcetest.Slice("default/web", []string{"tcp:8080", "udp:8080/udp"}, e...)
}

func both(t *testing.T, f func(t *testing.T, program string)) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(program, func(t *testing.T) { f(t, program) })
	}
}

func TestKernelCarriesPackets(t *testing.T) {
	both(t, func(t *testing.T, program string) {
		w := newWorld(t, program)
		svc := func() *corev1.Service {
			return sourcetest.Service("default/web", vip, "tcp:80@30080", "udp:80@30080/udp")
		}
		onA, onC := endpointsOf(localA+"@node-1"), endpointsOf(remote+"@node-2")
		type calls []struct {
			from *host
			to   string
			want string
		}
		for _, s := range []struct {
			name    string
			objects []api.Object
			calls   calls
		}{
			{"endpoint here", []api.Object{svc(), onA}, calls{
				{w.b, vip + ":80", "a " + localB},
				{w.a, vip + ":80", "a " + gateway}, // hairpin
				{w.node1, vip + ":80", "a " + gateway},
				{w.outside, vip + ":80", "a " + gateway},
				{w.outside, here + ":30080", "a " + gateway},
				{w.node1, "127.0.0.1:30080", "a " + gateway},
				{w.b, gateway + ":30080", "a " + gateway},
				{w.a, here + ":30080", "a " + gateway},
				{w.c, here + ":30080", "a " + gateway},
			}},
			{"endpoint there", []api.Object{svc(), onC}, calls{
				{w.b, vip + ":80", "c " + localB},
				{w.node1, vip + ":80", "c " + gateway},
				{w.outside, vip + ":80", "c " + here},
				{w.outside, here + ":30080", "c " + here},
				{w.node1, "127.0.0.1:30080", "c " + here},
				{w.b, gateway + ":30080", "c " + here},
			}},
			{"endpoint is the node", []api.Object{svc(), endpointsOf(gateway + "@node-1")}, calls{
				{w.b, vip + ":80", "node " + localB},
				{w.node1, vip + ":80", "node " + gateway},
				{w.outside, vip + ":80", "node " + outside},
				{w.outside, here + ":30080", "node " + outside},
			}},
			{"external policy Local", []api.Object{with(svc(), localOnly(false, true)), onA}, calls{
				{w.outside, here + ":30080", "a " + outside},
				{w.b, here + ":30080", "a " + localB},
				{w.node1, "127.0.0.1:30080", "a " + gateway},
			}},
			{"internal policy Local", []api.Object{with(svc(), localOnly(true, false)), endpointsOf(localA+"@node-1", remote+"@node-2")}, calls{
				{w.b, vip + ":80", "a " + localB}, {w.b, vip + ":80", "a " + localB}, {w.b, vip + ":80", "a " + localB},
			}},
			{"external address", []api.Object{
				with(svc(), func(s *corev1.ServiceSpec) { s.ExternalIPs = []string{"198.51.100.7"} }), onC,
			}, calls{{w.outside, "198.51.100.7:80", "c " + here}, {w.b, "198.51.100.7:80", "c " + here}}},
			{"pods leave with the node's address", nil, calls{
				{w.b, outside + ":8080", "outside 203.0.113.1"}, {w.b, remote + ":8080", "c " + localB}, {w.c, localA + ":8080", "a " + remote},
			}},
		} {
			w.proxy.apply(t, factsOf(nil, s.objects...))
			for _, c := range s.calls {
				for _, network := range []string{"tcp4", "udp4"} {
					if d := cmp.Diff(c.want, call(t, c.from, network, c.to)); d != "" {
						t.Errorf("%s: %s to %s (-want +got):\n%s", s.name, network, c.to, d)
					}
				}
			}
			w.audit(t, s.name, factsOf(nil, s.objects...))
		}
	})
}

// audit checks that the kernel prints the rules exactly as they were rendered.
func (w *world) audit(t *testing.T, when string, f *Facts) {
	t.Helper()
	chains, missing, err := readKernel(t.Context(), w.proxy.c.Programmer)
	if err != nil {
		t.Fatal(err)
	}
	want := Render(f).chains
	if d := cmp.Diff(want, chains); d != "" || len(missing) > 0 {
		t.Errorf("%s: kernel differs from render, jumps missing: %v (-want +got):\n%s", when, missing, d)
	}
}

func TestKernelRefusesAtOnceWhenNobodyIsThere(t *testing.T) {
	both(t, func(t *testing.T, program string) {
		w := newWorld(t, program)
		w.proxy.apply(t, factsOf(nil, sourcetest.Service("default/web", vip, "80@30080")))
		for name, c := range map[string]struct {
			from *host
			to   string
		}{
			"pod": {w.b, vip + ":80"}, "host": {w.node1, vip + ":80"}, "outside": {w.outside, vip + ":80"},
			"node port": {w.outside, here + ":30080"}, "no such Service": {w.b, "10.43.200.1:80"}, "no such port": {w.b, vip + ":81"},
		} {
			for range 5 {
				begun := time.Now()
				got := call(t, c.from, "tcp4", c.to)
				if !strings.Contains(got, "connection refused") || time.Since(begun) > 500*time.Millisecond {
					t.Errorf("%s: %s after %s", name, got, time.Since(begun))
				}
			}
		}
	})
}

func TestKernelHairpinNeverStalls(t *testing.T) {
	w := newWorld(t, "iptables-nft")
	w.proxy.apply(t, factsOf(nil, sourcetest.Service("default/web", vip, "tcp:80"), endpointsOf(localA+"@node-1")))
	for range 30 {
		begun := time.Now()
		if got := call(t, w.a, "tcp4", vip+":80"); got != "a "+gateway || time.Since(begun) > 500*time.Millisecond {
			t.Fatalf("%s after %s", got, time.Since(begun))
		}
	}
}

func TestKernelAffinity(t *testing.T) {
	both(t, func(t *testing.T, program string) {
		w := newWorld(t, program)
		sticky := func(on bool) *Facts {
			svc := sourcetest.Service("default/web", vip, "tcp:80")
			if on {
				svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			}
			return factsOf(nil, svc, endpointsOf(localA+"@node-1", remote+"@node-2"))
		}
		seen := func() int {
			var who []string
			for range 30 {
				name, _, _ := strings.Cut(call(t, w.b, "tcp4", vip+":80"), " ")
				if !slices.Contains(who, name) {
					who = append(who, name)
				}
			}
			return len(who)
		}
		w.proxy.apply(t, sticky(false))
		if n := seen(); n != 2 {
			t.Errorf("without affinity %d endpoints answered", n)
		}
		w.proxy.apply(t, sticky(true))
		if n := seen(); n != 1 {
			t.Errorf("with affinity %d endpoints answered", n)
		}
		w.audit(t, "affinity", sticky(true))
	})
}

func TestKernelMovesUDPAndLeavesTerminatingTCP(t *testing.T) {
	w := newWorld(t, "iptables-nft")
	facts := func(e ...string) *Facts {
		return factsOf(nil, sourcetest.Service("default/web", vip, "tcp:80", "udp:80/udp"), endpointsOf(e...))
	}
	w.proxy.apply(t, facts(localA+"@node-1"))
	udp, err := connect(t, w.b, "udp4", vip+":80")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := connect(t, w.b, "tcp4", vip+":80")
	if err != nil {
		t.Fatal(err)
	}
	expect := func(when, wantUDP, wantTCP string) {
		t.Helper()
		if got, err := say(udp); got != wantUDP {
			t.Errorf("%s: UDP: %s (%v)", when, got, err)
		}
		got, err := say(tcp)
		if wantTCP == "" && err == nil || wantTCP != "" && got != wantTCP {
			t.Errorf("%s: TCP: %s (%v)", when, got, err)
		}
	}
	expect("at start", "a "+localB, "a "+localB)
	w.proxy.apply(t, facts(localA+"@node-1", remote+"@node-2"))
	expect("one more", "a "+localB, "a "+localB)
	w.proxy.apply(t, facts(localA+"@node-1~", remote+"@node-2"))
	expect("terminating", "c "+localB, "a "+localB)
	w.proxy.apply(t, facts(remote+"@node-2"))
	expect("gone", "c "+localB, "") // reset by the other endpoint, not silence
}

func TestKernelCleanLeavesNothing(t *testing.T) {
	both(t, func(t *testing.T, program string) {
		w := newWorld(t, program)
		w.proxy.apply(t, crowd(50, 3))
		if err := Clean(t.Context(), w.proxy.c.Programmer); err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{tableNAT, tableFilter} {
			text, err := w.proxy.c.Programmer.Save(t.Context(), table)
			if err != nil || strings.Contains(string(text), prefix) {
				t.Errorf("left in %s (%v):\n%s", table, err, text)
			}
		}
	})
}

func TestKernelStartsFromWhatAnEarlierProcessLeft(t *testing.T) {
	both(t, func(t *testing.T, program string) {
		w := newWorld(t, program)
		w.proxy.apply(t, crowd(50, 3))
		next := newKernelProxy(w.node1, program)
		next.apply(t, crowd(50, 3))
		if n := next.Applied().Bytes; n != 0 {
			t.Errorf("sent %d bytes", n)
		}
		// Another tool flushed everything.
		for _, j := range jumps {
			if err := next.c.Programmer.Unlink(t.Context(), j.table, j.from, j.to); err != nil {
				t.Fatal(err)
			}
		}
		next.k.known = false
		next.apply(t, crowd(50, 3))
		w.audit(t, "jumps removed", crowd(50, 3))
	})
}

func BenchmarkKernelApply(b *testing.B) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		for _, n := range []int{100, 1000, 5000, 10000} {
			b.Run(fmt.Sprintf("%s/services=%d", program, n), func(b *testing.B) {
				h := newNode(b, gateway)
				p := newKernelProxy(h, program)
				f := crowd(n, 3)
				begun := time.Now()
				p.apply(b, f)
				full := time.Since(begun)
				p.k.known = false
				begun = time.Now()
				p.apply(b, f)
				audit := time.Since(begun)
				turn := 0
				for b.Loop() {
					turn++
					f := *f
					f.Slices = cloneWith(f.Slices, fmt.Sprintf("10.244.77.%d@node-77", turn%250+1))
					p.apply(b, &f)
				}
				b.ReportMetric(float64(full.Microseconds())/1000, "full-ms")
				b.ReportMetric(float64(audit.Microseconds())/1000, "audit-ms")
			})
		}
	}
}
