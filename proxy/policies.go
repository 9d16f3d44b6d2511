package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/proxy/policy"
)

const (
	chainPolicies = prefix + "POLICIES" // filter FORWARD: which of this machine's pods are isolated
	ingressKind   = "IN-"
	egressKind    = "OUT-"

	// xt_multiport takes this many numbers; a range is two.
	portsPerRule = 15
)

// Protect gives a pod of this machine its address and returns when the policies about it are in force. Until then it must not run. It blocks while these
// are not known; the error is ctx's, or says what could not be read.
func (p *Proxy) Protect(ctx context.Context, pod *corev1.Pod, addr netip.Addr) error {
	if p.c.Policies == nil || pod.Spec.HostNetwork {
		return nil
	}
	concerned, err := p.c.Policies.Place(ctx, pod, addr)
	if err != nil || !concerned {
		return err
	}
	p.mu.Lock()
	need := p.begun + 1 // the next turn to begin sees it
	p.mu.Unlock()
	p.poke()
	for {
		p.mu.Lock()
		now := p.serving
		p.mu.Unlock()
		if now.policies >= need {
			return nil
		}
		select {
		case <-now.changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for NetworkPolicies to be in force: %w", context.Cause(ctx))
		}
	}
}

// Release takes a pod's address back.
func (p *Proxy) Release(uid types.UID) {
	if p.c.Policies != nil {
		p.c.Policies.Remove(uid)
	}
}

// policies renders what isolated pods may receive and send. Only new connections pass here: what was let through once goes on. Who sends is asked before who
// receives.
func (r *renderer) policies(all []policy.Isolation) {
	r.add(tableFilter, chainPolicies)
	var isolated []netip.Addr
	for i := range all {
		isolated = append(isolated, all[i].Pods...)
	}
	slices.SortFunc(isolated, netip.Addr.Compare)
	if len(isolated) > 0 && r.f.OtherDNS.IsValid() {
		// Its own machine answers a pod's questions for names, and no policy is asked; while that does not, others do.
		for _, proto := range []string{"tcp", "udp"} {
			r.add(tableFilter, chainPolicies, " -p ", proto, " -m conntrack --ctorigdst ", r.f.OtherDNS.String(), " -m ", proto, " --dport 53 -j RETURN")
		}
	}
	for _, a := range slices.Compact(isolated) {
		r.add(tableFilter, chainPolicies, " -s ", a.String(), "/32 -d ", a.String(), "/32 -j RETURN") // a pod may always call itself
	}
	for _, egress := range []bool{true, false} {
		side := " -d "
		if egress {
			side = " -s "
		}
		for i := range all {
			if all[i].Egress != egress {
				continue
			}
			chain := r.isolation(&all[i])
			for _, a := range all[i].Pods {
				r.add(tableFilter, chainPolicies, side, a.String(), "/32 -j ", chain)
			}
		}
	}
}

// isolation renders the chain of one isolation and returns its name: what is allowed leaves it, the rest is refused.
func (r *renderer) isolation(iso *policy.Isolation) string {
	kind, side := ingressKind, " -s "
	if iso.Egress {
		kind, side = egressKind, " -d "
	}
	chain := prefix + kind + hashOf(iso.Key)
	for _, a := range iso.Allow {
		peers := []string{""}
		if a.Peers != nil {
			peers = peers[:0]
			for _, p := range a.Peers {
				if p.Bits() == 0 {
					peers = append(peers, "") // as it is printed
				} else {
					peers = append(peers, side+p.String())
				}
			}
		}
		ports := portMatches(a.Ports)
		for _, peer := range peers {
			for _, port := range ports {
				r.add(tableFilter, chain, peer, port, " -j RETURN")
			}
		}
	}
	policies := iso.Policies
	const most = 200 // of the 255 that a comment may have
	if len(policies) > most {
		policies = policies[:most]
	}
	comment := ` -m comment --comment "isolated by ` + policies + `"`
	// A reset to a pod's bridge does not pass where addresses are translated back, so it would come from nobody the caller knows.
	r.add(tableFilter, chain, " -p tcp -m conntrack ! --ctstate DNAT", comment, rejectTCP)
	r.add(tableFilter, chain, comment, rejectOther)
	return chain
}

// portMatches words ports: those of one protocol in as few rules as can be.
func portMatches(ports []policy.Ports) []string {
	if ports == nil {
		return []string{""}
	}
	var out []string
	var list []string
	used := 0
	flush := func(proto string) {
		if len(list) > 0 {
			out = append(out, " -p "+proto+" -m multiport --dports "+strings.Join(list, ","))
		}
		list, used = nil, 0
	}
	for i, p := range ports {
		text, size := strconv.Itoa(int(p.First)), 1
		if p.Last != p.First {
			text, size = text+":"+strconv.Itoa(int(p.Last)), 2
		}
		switch {
		case p.All():
			flush(p.Protocol)
			out = append(out, " -p "+p.Protocol)
		case used+size > portsPerRule:
			flush(p.Protocol)
			fallthrough
		default:
			list, used = append(list, text), used+size
		}
		if i+1 == len(ports) || ports[i+1].Protocol != p.Protocol {
			flush(p.Protocol)
		}
	}
	return out
}

// isPolicy reports whether a chain is made of NetworkPolicies.
func isPolicy(c Chain) bool {
	return c.Table == tableFilter && (c.Name == chainPolicies || strings.HasPrefix(c.Name, prefix+ingressKind) || strings.HasPrefix(c.Name, prefix+egressKind))
}

// keepPolicies leaves those chains as the kernel holds them.
func keepPolicies(want, have map[Chain]string) {
	for c := range want {
		if isPolicy(c) {
			delete(want, c)
		}
	}
	for c, text := range have {
		if isPolicy(c) {
			want[c] = text
		}
	}
	want[Chain{tableFilter, chainPolicies}] += ""
}
