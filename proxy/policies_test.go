package proxy

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"shoal/internal/api"
	"shoal/proxy/policy"
	"shoal/proxy/source"
	"shoal/proxy/source/sourcetest"
)

func policyOf(t testing.TB, name, spec string) *networkingv1.NetworkPolicy {
	t.Helper()
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

func podAt(name, node, addr string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{PodIP: addr},
	}
}

// decide returns what policies mean for a and b, here, and c, elsewhere.
func decide(all ...*networkingv1.NetworkPolicy) []policy.Isolation {
	at := func(name, addr string, here bool) policy.Pod {
		return policy.Pod{Pod: podAt(name, "", addr), Addr: netip.MustParseAddr(addr), Here: here}
	}
	return policy.Decide(&policy.Facts{
		PodRange: netip.MustParsePrefix("10.244.0.0/15"), Policies: all, Namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "default"}}},
		Pods: []policy.Pod{at("a", localA, true), at("b", localB, true), at("c", remote, false)},
	})
}

const (
	names   = "10.43.0.11"
	denyAll = `{podSelector: {}, policyTypes: [Ingress, Egress]}`
	onlyC   = `{podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: c}}}], ports: [{port: 8080}]}]}`
)

func TestPoliciesOnPackets(t *testing.T) {
	refused := []string{"reject"}
	to := func(s string) []string { return []string{s} }
	for name, c := range map[string]struct {
		policies []string
		want     packets
	}{
		"nothing": {want: packets{{outside, localA + ":8080"}: to(localA + ":8080")}},
		"nobody comes in, nobody goes out": {
			policies: []string{denyAll},
			want: packets{
				{remote, localA + ":8080"}: refused, {localB, localA + ":8080"}: refused, {localA, outside + ":80"}: refused,
				{outside, localB + ":1"}:    refused,
				{gateway, localA + ":8080"}: to(localA + ":8080"),             // its own machine
				{localA, gateway + ":53"}:   to(gateway + ":53"),              // and back
				{localA, vip + ":80"}:       to(localA + ":8080 masqueraded"), // itself
				{localA, localA + ":8080"}:  to(localA + ":8080 masqueraded"),
				{localB, vip + ":80"}:       refused, // by what it is translated to
				{remote, "10.244.3.3:80"}:   to("10.244.3.3:80"),
				{localA, names + ":53"}:     to("10.244.2.1:53"), // another machine answers
				{localA, "10.244.2.1:53"}:   refused,
				{localA, names + ":54"}:     refused,
			},
		},
		"one comes, to one port": {
			policies: []string{onlyC},
			want: packets{
				{remote, localA + ":8080"}: to(localA + ":8080"), {remote, localA + ":8081"}: refused, {localB, localA + ":8080"}: refused,
				{localA, outside + ":80"}: to(outside + ":80 masqueraded"), {outside, localB + ":1"}: to(localB + ":1"),
			},
		},
		"ranges": {
			policies: []string{`{podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress], ingress: [{ports: [{port: 80}, {port: 100, endPort: 200}, {port: 300, endPort: 400}, {port: 1, endPort: 2}, {port: 10, endPort: 20}, {port: 30, endPort: 40}, {port: 50, endPort: 60}, {port: 500, endPort: 600}, {port: 700, endPort: 800}]}]}`},
			want: packets{
				{remote, localA + ":80"}: to(localA + ":80"), {remote, localA + ":150"}: to(localA + ":150"), {remote, localA + ":800"}: to(localA + ":800"),
				{remote, localA + ":90"}: refused, {remote, localA + ":801"}: refused,
			},
		},
		"who goes out must be let in as well": {
			policies: []string{
				`{podSelector: {matchLabels: {app: b}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}`,
				`{podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress]}`,
			},
			want: packets{
				{localB, localA + ":8080"}: refused, {localB, remote + ":8080"}: to(remote + ":8080"), {localB, outside + ":80"}: refused,
			},
		},
		"everywhere but": {
			policies: []string{`{podSelector: {matchLabels: {app: b}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [203.0.113.0/24]}}]}]}`},
			want:     packets{{localB, outside + ":80"}: refused, {localB, "198.51.100.1:80"}: to("198.51.100.1:80 masqueraded")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var all []*networkingv1.NetworkPolicy
			for i, spec := range c.policies {
				all = append(all, policyOf(t, string(rune('p'+i)), spec))
			}
			f := factsOf(nil, append(web(localA+"@node-1"), sourcetest.Service("kube-system/names", names, "53", "more:54"), sourcetest.Slice("kube-system/names", []string{"53", "more:54"}, "10.244.2.1@node-2"))...)
			f.Isolations, f.OtherDNS = decide(all...), netip.MustParseAddr(names)
			c.want.check(t, loadFacts(t, f))
		})
	}
}

func TestPortsInAsFewRulesAsCanBe(t *testing.T) {
	var many []policy.Ports
	for i := range uint16(16) {
		many = append(many, policy.Ports{Protocol: "tcp", First: 2 * i, Last: 2 * i})
	}
	many = append(many, policy.Ports{Protocol: "udp", Last: 65535}, policy.Ports{Protocol: "udp", First: 5, Last: 6})
	want := []string{
		" -p tcp -m multiport --dports 0,2,4,6,8,10,12,14,16,18,20,22,24,26,28", " -p tcp -m multiport --dports 30", " -p udp", " -p udp -m multiport --dports 5:6",
	}
	if d := cmp.Diff(want, portMatches(many)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestALongNameFitsIntoAComment: the kernel's comments have an end.
func TestALongNameFitsIntoAComment(t *testing.T) {
	p := policyOf(t, strings.Repeat("n", 253), denyAll)
	p.Namespace = "default"
	for c, text := range Render(&Facts{PodCIDR: netip.MustParsePrefix("10.244.0.0/15"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"), Isolations: decide(p)}).chains {
		for line := range strings.Lines(text) {
			if _, comment, ok := strings.Cut(line, `--comment "`); ok {
				if comment, _, _ = strings.Cut(comment, `"`); len(comment) > 255 {
					t.Errorf("%s: a comment of %d bytes", c.Name, len(comment))
				}
			}
			if len(c.Name) > 28 {
				t.Errorf("chain %s", c.Name)
			}
		}
	}
}

// policyRig is a proxy that follows policies.
type policyRig struct {
	*Proxy
	cluster *sourcetest.Cluster
	fake    *Fake
	stop    func()
}

// newPolicyRig must be called inside a synctest bubble.
func newPolicyRig(t *testing.T, fake *Fake, cluster *sourcetest.Cluster) *policyRig {
	t.Helper()
	r := &policyRig{cluster: cluster, fake: fake}
	pods := netip.MustParsePrefix("10.244.0.0/15")
	src := source.New(source.Config{Client: cluster})
	policies := policy.New(policy.Config{Node: "node-1", Client: cluster, PodRange: pods})
	r.Proxy = New(Config{
		Node: "node-1", Source: src, Policies: policies, Programmer: fake, PodCIDR: pods, ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = src.Run(ctx) })
	wg.Go(func() { _ = policies.Run(ctx) })
	wg.Go(func() { _ = r.Run(ctx) })
	r.stop = func() {
		cancel()
		wg.Wait()
	}
	synctest.Wait()
	return r
}

func (r *policyRig) reach(t *testing.T, when, from string, want bool) {
	t.Helper()
	synctest.Wait()
	got := r.fake.Send(Packet{Proto: "tcp", From: netip.MustParseAddr(from), To: netip.MustParseAddrPort(localA + ":8080")}, nil)
	if (got.Verdict == "accept") != want {
		t.Errorf("%s: %s → a: %s, want it let in: %t", when, from, got, want)
	}
}

func TestPoliciesAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := sourcetest.New()
		a, c := podAt("a", "node-1", localA), podAt("c", "node-2", remote)
		cluster.Apply(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, a, c)
		r := newPolicyRig(t, testMachine(), cluster)
		defer func() { r.stop() }()
		r.reach(t, "no policy", localB, true)
		deny := policyOf(t, "deny", denyAll)
		cluster.Apply(deny)
		r.reach(t, "default deny", localB, false)
		r.reach(t, "default deny", remote, false)
		cluster.Apply(policyOf(t, "allow", onlyC))
		r.reach(t, "c may", remote, true)
		r.reach(t, "c may", localB, false)
		c.Labels = map[string]string{"app": "other"}
		cluster.Apply(c)
		r.reach(t, "c is another one", remote, false)
		c.Labels = map[string]string{"app": "c"}
		c.Status.Phase = corev1.PodSucceeded
		cluster.Apply(c)
		r.reach(t, "c is over, its address may be anybody's", remote, false)

		// A restart: nothing is known, and nothing changes.
		r.stop()
		restores := r.fake.Restores()
		r = newPolicyRig(t, r.fake, cluster)
		r.reach(t, "restart", localB, false)
		if n := r.fake.Restores(); n != restores {
			t.Errorf("%d restores for what was right", n-restores)
		}
		cluster.Remove(deny, policyOf(t, "allow", onlyC))
		r.reach(t, "no policy any more", localB, true)
	})
}

// TestWhatTheKernelHoldsStaysWhileNothingIsKnown: a peer that comes back and cannot read the API yet opens nothing.
func TestWhatTheKernelHoldsStaysWhileNothingIsKnown(t *testing.T) {
	f := factsOf(nil, web(localA+"@node-1")...)
	f.Isolations = decide(policyOf(t, "deny", denyAll))
	fake := loadFacts(t, f)
	p := newRigless(fake)
	unknown := factsOf(nil, web(remote+"@node-2")...)
	want := Render(unknown)
	want.keepPolicies = true
	if err := p.program(t.Context(), &kernel{}, want); err != nil {
		t.Fatal(err)
	}
	packets{{localB, localA + ":8080"}: {"reject"}, {localB, remote + ":8080"}: {"reject"}}.check(t, fake)
	packets{{gateway, vip + ":80"}: {remote + ":8080"}}.check(t, fake)
}

// TestAPodIsIsolatedBeforeItRuns: Protect returns when its address is in the rules, although its status says nothing of it yet.
func TestAPodIsIsolatedBeforeItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := sourcetest.New()
		cluster.Apply(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, policyOf(t, "deny", denyAll))
		blocked := make(chan struct{})
		fake := testMachine()
		fake.Fail = func(operation string) error {
			select {
			case <-blocked:
				return nil
			default:
			}
			if operation == "restore" {
				return errors.New("not now")
			}
			return nil
		}
		r := newPolicyRig(t, fake, cluster)
		defer r.stop()
		a := podAt("a", "node-1", "")
		cluster.Apply(a)
		a.ResourceVersion = "3"
		done := make(chan error, 1)
		go func() { done <- r.Protect(t.Context(), a, netip.MustParseAddr(localA)) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("protected by rules that are not there: %v", err)
		default:
		}
		close(blocked)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		r.reach(t, "protected", localB, false)

		// Its status says so too, then with its end the address is free.
		a.Status.PodIP = localA
		cluster.Apply(a)
		r.reach(t, "status", localB, false)
		cluster.Remove(a)
		r.reach(t, "deleted, but it still has its address", localB, false)
		r.Release(a.UID)
		r.reach(t, "released", localB, true)

		// A pod that no policy selects waits for nobody.
		other := podAt("o", "node-1", "")
		other.Namespace = "other"
		begun := time.Now()
		if err := r.Protect(t.Context(), other, netip.MustParseAddr(localA)); err != nil || time.Since(begun) != 0 {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}

// TestProtectEndsWithItsContext: a pod that is deleted while nothing can be programmed does not wait for ever.
func TestProtectEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := sourcetest.New()
		cluster.Apply(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, policyOf(t, "deny", denyAll))
		fake := testMachine()
		fake.Fail = func(string) error { return errors.New("never") }
		r := newPolicyRig(t, fake, cluster)
		defer r.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := r.Protect(ctx, podAt("a", "node-1", ""), netip.MustParseAddr(localA))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "NetworkPolicies") {
			t.Errorf("error %v", err)
		}
	})
}

// TestOnlyWhatChangedIsSent: a peer that comes is one chain's change.
func TestOnlyWhatChangedIsSent(t *testing.T) {
	render := func(spec string) map[Chain]string {
		f := factsOf(nil)
		f.Isolations = decide(policyOf(t, "deny", denyAll), policyOf(t, "p", spec))
		return Render(f).chains
	}
	old, now := render(onlyC), render(strings.ReplaceAll(onlyC, "app: c", "app: b"))
	var changed []string
	for c, text := range now {
		if old[c] != text {
			changed = append(changed, c.Name)
		}
	}
	if len(changed) != 1 || !strings.HasPrefix(changed[0], prefix+ingressKind) || len(old) != len(now) {
		t.Errorf("changed: %v", changed)
	}
}

func TestKernelHoldsPoliciesUp(t *testing.T) {
	both(t, func(t *testing.T, program string) {
		w := newWorld(t, program)
		svc := sourcetest.Service("default/web", vip, "tcp:80@30080", "udp:80@30080/udp")
		facts := func(policies ...*networkingv1.NetworkPolicy) *Facts {
			f := factsOf(nil, []api.Object{svc, endpointsOf(localA + "@node-1")}...)
			f.Isolations, f.OtherDNS = decide(policies...), netip.MustParseAddr(names)
			return f
		}
		const lenient = `{podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress, Egress], egress: [{ports: [{port: 9, endPort: 99, protocol: SCTP}]}, {to: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 1}]}], ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 8080}, {port: 8080, protocol: UDP}, {port: 1, endPort: 9}]}, {from: [{ipBlock: {cidr: 203.0.113.0/24}}], ports: [{protocol: TCP}]}]}`
		open, denied, some := facts(), facts(policyOf(t, "deny", denyAll)), facts(policyOf(t, "deny", denyAll), policyOf(t, "some", lenient))
		w.proxy.apply(t, open)
		going, err := connect(t, w.c, "tcp4", localA+":8080")
		if err != nil {
			t.Fatal(err)
		}
		defer going.Close()
		if _, err := say(going); err != nil {
			t.Fatal(err)
		}
		for _, s := range []struct {
			name  string
			facts *Facts
			may   map[*host][]string
			not   map[*host][]string
		}{
			{name: "open", facts: open, may: map[*host][]string{w.b: {localA + ":8080", vip + ":80"}, w.c: {localA + ":8080"}, w.outside: {here + ":30080"}, w.a: {outside + ":8080"}}},
			{
				name: "denied", facts: denied,
				may: map[*host][]string{w.node1: {localA + ":8080", vip + ":80"}, w.a: {vip + ":80", gateway + ":8080"}},
				not: map[*host][]string{w.b: {localA + ":8080", vip + ":80", outside + ":8080"}, w.c: {localA + ":8080"}, w.outside: {here + ":30080"}, w.a: {outside + ":8080", remote + ":8080"}},
			},
			{
				name: "some", facts: some,
				may: map[*host][]string{w.outside: {here + ":30080"}},
				not: map[*host][]string{w.c: {localA + ":8080"}, w.b: {localA + ":8080"}}, // b may not go out
			},
		} {
			w.proxy.apply(t, s.facts)
			w.audit(t, s.name, s.facts)
			for from, all := range s.may {
				for _, to := range all {
					if got := call(t, from, "tcp4", to); strings.Contains(got, "refused") || strings.Contains(got, "timeout") {
						t.Errorf("%s: %s: %s", s.name, to, got)
					}
				}
			}
			for from, all := range s.not {
				for _, to := range all {
					c, err := connect(t, from, "tcp4", to)
					if err == nil {
						c.Close()
					}
					if !errors.Is(err, unix.ECONNREFUSED) {
						t.Errorf("%s: %s is not refused: %v", s.name, to, err)
					}
				}
			}
			if _, err := say(going); err != nil {
				t.Errorf("%s: what was let through once: %v", s.name, err)
			}
		}
	})
}

func BenchmarkPolicies(b *testing.B) {
	pods := make([]policy.Pod, 0, 10_000)
	for i := range 10_000 {
		addr := netip.AddrFrom4([4]byte{10, 244, byte(i / 250), byte(2 + i%250)})
		p := podAt("x", "", addr.String())
		p.Namespace = "ns" + string(rune('a'+i%20))
		pods = append(pods, policy.Pod{Pod: p, Addr: addr, Here: i < 250})
	}
	var all []*networkingv1.NetworkPolicy
	for i := range 20 {
		p := policyOf(b, "same", `{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}]}], egress: [{to: [{podSelector: {}}]}]}`)
		p.Namespace = "ns" + string(rune('a'+i))
		all = append(all, p)
	}
	f := &policy.Facts{PodRange: netip.MustParsePrefix("10.244.0.0/15"), Policies: all, Pods: pods}
	for b.Loop() {
		Render(&Facts{PodCIDR: f.PodRange, ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"), Isolations: policy.Decide(f)})
	}
	rules := 0
	for c, text := range Render(&Facts{PodCIDR: f.PodRange, ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"), Isolations: policy.Decide(f)}).chains {
		if isPolicy(c) {
			rules += strings.Count(text, "\n")
		}
	}
	b.ReportMetric(float64(rules), "rules")
}
