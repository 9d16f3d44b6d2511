package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"shoal/internal/client"
	"shoal/proxy/source"
)

// found is what is known of a name.
type found struct {
	exists        bool
	answer, extra []dns.RR
	alias         string // an external name, with the final dot
}

// lookup answers for rel, a name below the zone in lower case ("" is the zone itself), with records called name.
func (s *Server) lookup(rel, name string, qtype uint16) found {
	if rel == "" {
		return found{exists: true}
	}
	labels := strings.Split(rel, ".")
	slices.Reverse(labels) // svc, ns, service, …
	switch {
	case labels[0] == "dns-version" && len(labels) == 1:
		f := found{exists: true}
		if qtype == dns.TypeTXT {
			f.answer = []dns.RR{&dns.TXT{Hdr: header(name, dns.TypeTXT), Txt: []string{"1.1.0"}}}
		}
		return f
	case labels[0] == "pod":
		return podRecord(labels[1:], name, qtype)
	case labels[0] != "svc":
		return found{}
	case len(labels) == 1:
		return found{exists: true}
	case len(labels) == 2:
		return found{exists: s.c.Source.HasService(labels[1])}
	}
	key := client.Key{Namespace: labels[1], Name: labels[2]}
	svc, ok := s.c.Source.Service(key)
	if !ok {
		return found{}
	}
	rest := labels[3:]
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		if len(rest) > 0 || svc.Spec.ExternalName == "" {
			return found{}
		}
		return found{exists: true, alias: dns.Fqdn(svc.Spec.ExternalName)}
	}
	switch len(rest) {
	case 0:
		return s.serviceRecord(svc, key, name, qtype)
	case 1:
		if strings.HasPrefix(rest[0], "_") {
			return found{exists: hasProtocol(svc, rest[0])}
		}
		return s.endpointRecord(key, rest[0], name, qtype)
	case 2:
		return s.portRecord(svc, key, rest[0], rest[1], name, qtype)
	}
	return found{}
}

// podRecord answers a-b-c-d.ns.pod: the address is in the name.
func podRecord(labels []string, name string, qtype uint16) found {
	switch len(labels) {
	case 0, 1:
		return found{exists: true}
	case 2:
		addr, err := netip.ParseAddr(strings.ReplaceAll(labels[1], "-", "."))
		if err != nil || !addr.Is4() {
			return found{}
		}
		return found{exists: true, answer: addresses(name, qtype, addr)}
	}
	return found{}
}

func (s *Server) serviceRecord(svc *corev1.Service, key client.Key, name string, qtype uint16) found {
	f := found{exists: true}
	if qtype == dns.TypeSRV {
		for i := range svc.Spec.Ports {
			f.add(s.srv(svc, key, &svc.Spec.Ports[i], name))
		}
		return f
	}
	if source.HasVIP(svc) {
		if vip, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil {
			f.answer = addresses(name, qtype, vip)
		}
		return f
	}
	f.answer = addresses(name, qtype, s.rotate(addrsOf(s.choose(source.Addresses(s.c.Source.Slices(key)))))...)
	return f
}

// endpointRecord answers for one endpoint of a Service, by hostname or by its address in dashes.
func (s *Server) endpointRecord(key client.Key, label, name string, qtype uint16) found {
	all := source.Addresses(s.c.Source.Slices(key))
	mine := all[:0]
	for _, e := range all {
		if endpointLabel(&e) == label && e.Usable() {
			mine = append(mine, e)
		}
	}
	if len(mine) == 0 {
		return found{}
	}
	return found{exists: true, answer: addresses(name, qtype, addrsOf(s.choose(mine))...)}
}

// portRecord answers _port._proto.
func (s *Server) portRecord(svc *corev1.Service, key client.Key, proto, port, name string, qtype uint16) found {
	var f found
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if port != "_"+p.Name || p.Name == "" || proto != protocolLabel(p) {
			continue
		}
		f.exists = true
		if qtype == dns.TypeSRV {
			f.add(s.srv(svc, key, p, name))
		}
	}
	return f
}

// srv returns the SRV records of one port and the addresses of their targets.
func (s *Server) srv(svc *corev1.Service, key client.Key, p *corev1.ServicePort, name string) (answer, extra []dns.RR) {
	base := key.Name + "." + key.Namespace + ".svc." + s.zone
	record := func(target string, port uint16, weight uint16) dns.RR {
		return &dns.SRV{Hdr: header(name, dns.TypeSRV), Weight: weight, Port: port, Target: target}
	}
	if source.HasVIP(svc) {
		vip, err := netip.ParseAddr(svc.Spec.ClusterIP)
		if err != nil {
			return nil, nil
		}
		return []dns.RR{record(base, uint16(p.Port), 100)}, addresses(base, dns.TypeA, vip)
	}
	proto := p.Protocol
	if proto == "" {
		proto = corev1.ProtocolTCP
	}
	chosen := s.choose(source.Endpoints(s.c.Source.Slices(key), p.Name, proto))
	for i := range chosen {
		target := endpointLabel(&chosen[i]) + "." + base
		answer = append(answer, record(target, chosen[i].Addr.Port(), uint16(max(1, 100/len(chosen)))))
		extra = append(extra, addresses(target, dns.TypeA, chosen[i].Addr.Addr())...)
	}
	return answer, extra
}

func (f *found) add(answer, extra []dns.RR) {
	f.answer, f.extra = append(f.answer, answer...), append(f.extra, extra...)
}

// names reports whether addr is one that only we can name.
func (s *Server) names(addr netip.Addr) bool {
	return slices.ContainsFunc(s.c.Reverse, func(p netip.Prefix) bool { return p.Contains(addr) }) ||
		len(s.c.Source.ServicesAt(addr)) > 0
}

// reverse answers with the Services and endpoints at addr.
func (s *Server) reverse(q *dns.Msg, question dns.Question, addr netip.Addr) *dns.Msg {
	if !s.synced.Load() {
		return failure(q, dns.RcodeServerFailure)
	}
	var targets []string
	for _, svc := range s.c.Source.ServicesAt(addr) {
		targets = append(targets, svc.Name+"."+svc.Namespace+".svc."+s.zone)
	}
	for _, sl := range s.c.Source.SlicesAt(addr) {
		key, ok := source.ServiceOf(sl)
		if !ok {
			continue
		}
		for _, e := range source.Addresses([]*discoveryv1.EndpointSlice{sl}) {
			if e.Addr.Addr() == addr && e.Usable() {
				targets = append(targets, endpointLabel(&e)+"."+key.Name+"."+key.Namespace+".svc."+s.zone)
			}
		}
	}
	m := reply(q)
	slices.Sort(targets)
	targets = slices.Compact(targets)
	if question.Qtype == dns.TypePTR {
		for _, t := range targets {
			m.Answer = append(m.Answer, &dns.PTR{Hdr: header(question.Name, dns.TypePTR), Ptr: t})
		}
	}
	s.deny(m, len(targets) > 0)
	return m
}

// reversed reads d.c.b.a.in-addr.arpa.
func reversed(name string) (netip.Addr, bool) {
	rest, ok := strings.CutSuffix(name, ".in-addr.arpa.")
	if !ok {
		return netip.Addr{}, false
	}
	parts := strings.Split(rest, ".")
	slices.Reverse(parts)
	addr, err := netip.ParseAddr(strings.Join(parts, "."))
	return addr, err == nil && addr.Is4()
}

func (s *Server) choose(all []source.Endpoint) []source.Endpoint { return source.Choose(all, s.c.Down) }

// rotate begins with another address each time: many callers take the first.
func (s *Server) rotate(all []netip.Addr) []netip.Addr {
	if len(all) < 2 {
		return all
	}
	n := int(s.turn.Add(1)) % len(all)
	return append(all[n:len(all):len(all)], all[:n]...)
}

func addrsOf(all []source.Endpoint) []netip.Addr {
	out := make([]netip.Addr, len(all))
	for i := range all {
		out[i] = all[i].Addr.Addr()
	}
	return out
}

// addresses returns A records; nothing for other types.
func addresses(name string, qtype uint16, all ...netip.Addr) []dns.RR {
	if qtype != dns.TypeA && qtype != dns.TypeANY {
		return nil
	}
	out := make([]dns.RR, 0, len(all))
	for _, a := range all {
		if a.Is4() {
			out = append(out, &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()})
		}
	}
	return out
}

func endpointLabel(e *source.Endpoint) string {
	if e.Hostname != "" {
		return strings.ToLower(e.Hostname)
	}
	return strings.ReplaceAll(e.Addr.Addr().String(), ".", "-")
}

func protocolLabel(p *corev1.ServicePort) string {
	if p.Protocol == "" {
		return "_tcp"
	}
	return "_" + strings.ToLower(string(p.Protocol))
}

func hasProtocol(svc *corev1.Service, label string) bool {
	return slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool {
		return p.Name != "" && protocolLabel(&p) == label
	})
}
