package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// pod returns one such as "shop/web 1 app=web,tier=front http=8080 dns=53/udp": its last byte of 10.244.1 (this machine), or of 10.244.2 with "2." in front.
func pod(text string) Pod {
	words := strings.Fields(text)
	ns, name, _ := strings.Cut(words[0], "/")
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{}}}
	p.Spec.Containers = []corev1.Container{{Name: "c"}}
	for _, w := range words[2:] {
		key, value, _ := strings.Cut(w, "=")
		var n int32
		if _, err := fmt.Sscan(value, &n); err != nil {
			p.Labels[key] = value
			continue
		}
		port := corev1.ContainerPort{Name: key, ContainerPort: n, Protocol: corev1.ProtocolTCP}
		if strings.HasSuffix(value, "/udp") {
			port.Protocol = corev1.ProtocolUDP
		}
		p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, port)
	}
	here, at := true, "10.244.1."+words[1]
	if strings.Contains(words[1], ".") {
		here, at = false, "10.244."+words[1]
	}
	return Pod{p, netip.MustParseAddr(at), here}
}

func read(t *testing.T, name, spec string) *networkingv1.NetworkPolicy {
	t.Helper()
	p := &networkingv1.NetworkPolicy{}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	p.Namespace, p.Name, _ = strings.Cut(name, "/")
	return p
}

// told writes isolations: "in 1,2: peers ports; peers ports".
func told(all []Isolation) []string {
	var out []string
	for _, iso := range all {
		s := "in"
		if iso.Egress {
			s = "out"
		}
		for i, a := range iso.Pods {
			s += map[bool]string{true: " ", false: ","}[i == 0] + strings.TrimPrefix(a.String(), "10.244.1.")
		}
		s += ":"
		for i, a := range iso.Allow {
			if i > 0 {
				s += ";"
			}
			if a.Peers == nil {
				s += " all"
			}
			for _, p := range a.Peers {
				s += " " + strings.TrimPrefix(strings.TrimSuffix(p.String(), "/32"), "10.244.")
			}
			for _, p := range a.Ports {
				s += fmt.Sprintf(" %s/%d", p.Protocol, p.First)
				if p.Last != p.First {
					s += fmt.Sprintf("-%d", p.Last)
				}
			}
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func TestDecide(t *testing.T) {
	pods := []Pod{
		pod("shop/web-0 10 app=web http=8080"), pod("shop/web-1 11 app=web http=9090"), pod("shop/db 12 app=db sql=5432"),
		pod("shop/far 2.10 app=web http=8080 dns=53/udp"), pod("bank/web 20 app=web http=80"), pod("bank/far 2.20 app=db"),
	}
	namespaces := []*corev1.Namespace{
		{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "a"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "bank", Labels: map[string]string{"team": "b"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "empty", Labels: map[string]string{"team": "c"}}},
	}
	for name, c := range map[string]struct {
		policies []string // of shop/p0, shop/p1, ...
		want     []string
	}{
		"none": {},
		"nobody is selected": {
			policies: []string{`{podSelector: {matchLabels: {app: nothing}}, policyTypes: [Ingress]}`},
		},
		"default deny, both ways": {
			policies: []string{`{podSelector: {}, policyTypes: [Ingress, Egress]}`},
			want:     []string{"in 10,11,12:", "out 10,11,12:"},
		},
		"all may come": {
			policies: []string{`{podSelector: {}, policyTypes: [Ingress], ingress: [{}]}`},
			want:     []string{"in 10,11,12: all"},
		},
		"only one port": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{ports: [{port: 5432}]}]}`},
			want:     []string{"in 12: all tcp/5432"},
		},
		"a range, a whole protocol": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{ports: [{port: 1, endPort: 9, protocol: TCP}, {protocol: UDP}, {protocol: SCTP, port: 7}]}]}`},
			want:     []string{"in 12: all sctp/7 tcp/1-9 udp/0-65535"},
		},
		"pods of the same namespace": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}`},
			want:     []string{"in 12: 1.10 1.11 2.10"},
		},
		"pods of other namespaces": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}]}]}`},
			want:     []string{"in 12: 1.20 2.20"},
		},
		"some pods of other namespaces": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}, podSelector: {matchLabels: {app: web}}}]}]}`},
			want:     []string{"in 12: 1.20"},
		},
		"a namespace without pods lets nobody in": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: c}}}]}]}`},
			want:     []string{"in 12:"},
		},
		"every pod": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}}]}]}`},
			want:     []string{"in 12: 0.0/15"},
		},
		"every web": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]}`},
			want:     []string{"in 12: 1.10 1.11 1.20 2.10"},
		},
		"addresses with exceptions": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 192.168.0.0/22, except: [192.168.1.0/24]}}]}]}`},
			want:     []string{"in 12: 192.168.0.0/24 192.168.2.0/23"},
		},
		"a name that each pod gives another port": {
			policies: []string{`{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{ports: [{port: http}]}]}`},
			want:     []string{"in 10: all tcp/8080", "in 11: all tcp/9090"},
		},
		"a name that nobody has": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{ports: [{port: http}]}]}`},
			want:     []string{"in 12:"},
		},
		"a name of another protocol": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{ports: [{port: sql, protocol: UDP}]}]}`},
			want:     []string{"in 12:"},
		},
		"names of those who are called": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}, {ipBlock: {cidr: 1.0.0.0/8}}], ports: [{port: http}, {port: 53, protocol: UDP}]}]}`},
			want:     []string{"out 12: 1.0.0.0/8 1.10 1.11 1.12 2.10 udp/53; 1.10 2.10 tcp/8080; 1.11 tcp/9090"},
		},
		"names, to anybody": {
			policies: []string{`{podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}`},
			want:     []string{"out 12: 1.10 2.10 tcp/8080; 1.11 tcp/9090; 1.20 tcp/80"},
		},
		"policies add up": {
			policies: []string{
				`{podSelector: {}, policyTypes: [Ingress]}`,
				`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]}`,
				`{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 9.9.9.9/32}}]}, {from: [{ipBlock: {cidr: 9.9.9.9/32}}]}]}`,
			},
			want: []string{"in 10,11:", "in 12: 1.10 1.11 2.10 tcp/5432; 9.9.9.9"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := &Facts{PodRange: netip.MustParsePrefix("10.244.0.0/15"), Namespaces: namespaces, Pods: pods}
			for i, text := range c.policies {
				f.Policies = append(f.Policies, read(t, fmt.Sprintf("shop/p%d", i), text))
			}
			if d := cmp.Diff(c.want, told(Decide(f))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			slices.Reverse(f.Policies)
			slices.Reverse(f.Pods)
			if d := cmp.Diff(c.want, told(Decide(f))); d != "" {
				t.Errorf("in another order (-want +got):\n%s", d)
			}
		})
	}
}

// TestKeysAreStable: what a policy says does not rename what it isolates, so that only one chain changes.
func TestKeysAreStable(t *testing.T) {
	key := func(spec string) string {
		all := Decide(&Facts{Policies: []*networkingv1.NetworkPolicy{read(t, "a/p", spec)}, Pods: []Pod{pod("a/b 1 x=y http=80")}})
		if len(all) != 1 {
			t.Fatalf("isolations: %+v", all)
		}
		return all[0].Key
	}
	a, b := key(`{podSelector: {}, policyTypes: [Ingress]}`), key(`{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}`)
	if a != b {
		t.Errorf("%q and %q", a, b)
	}
	if c := key(`{podSelector: {}, policyTypes: [Egress]}`); c == a {
		t.Errorf("both directions are called %q", c)
	}
}

func FuzzBlocks(f *testing.F) {
	f.Add("10.0.0.0/8", "10.1.0.0/16", uint32(0x0a010001))
	f.Add("0.0.0.0/0", "255.255.255.255/32", uint32(0xffffffff))
	f.Add("0.0.0.0/0", "0.0.0.0/0", uint32(1))
	f.Add("10.0.0.0/33", "x", uint32(1))
	f.Add("::/0", "::1/128", uint32(1))
	f.Fuzz(func(t *testing.T, cidr, except string, n uint32) {
		addr := netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		got := rangesOf(&networkingv1.IPBlock{CIDR: cidr, Except: []string{except}})
		in := slices.ContainsFunc(got, func(p netip.Prefix) bool { return p.Contains(addr) })
		all, err1 := netip.ParsePrefix(cidr)
		part, err2 := netip.ParsePrefix(except)
		if want := err1 == nil && err2 == nil && all.Contains(addr) && !part.Contains(addr); in != want {
			t.Errorf("%s without %s: %s in %v is %t", cidr, except, addr, got, in)
		}
		if len(got) > 32 {
			t.Errorf("%d prefixes", len(got))
		}
	})
}
