package proxy

import (
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// HostPort is a port of this machine that leads to one of its pods.
type HostPort struct {
	Name string     // of the pod, for people
	UDP  bool       // else TCP
	IP   netip.Addr // of the machine's addresses the one it is at; invalid for all
	Port uint16
	To   netip.AddrPort
}

var hostPortsChain = Chain{tableNAT, chainHostPorts}

// SetHostPorts says which ports of this machine lead to pods. Until it is called those of an earlier process stay: this one does not know its pods yet.
func (p *Proxy) SetHostPorts(all []HostPort) {
	p.mu.Lock()
	p.hostPorts, p.hostPortsKnown = slices.Clone(all), true
	p.mu.Unlock()
	p.poke()
}

func (p *Proxy) currentHostPorts() ([]HostPort, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hostPorts, p.hostPortsKnown
}

// hostPorts renders the chain of these ports. Callers see the caller's own address, but this machine's processes and the pod itself, whose answers would
// miss the translation.
func (r *renderer) hostPorts(all []HostPort) {
	r.add(tableNAT, chainHostPorts)
	for _, h := range all {
		proto := "tcp"
		if h.UDP {
			proto = "udp"
		}
		at := " -p " + proto + " -m " + proto + " --dport " + strconv.Itoa(int(h.Port))
		if h.IP.IsValid() {
			at = " -d " + h.IP.String() + "/32" + at
		}
		r.add(tableNAT, chainHostPorts, at, " -m addrtype --src-type LOCAL -j MARK --set-xmark ", masquerade)
		r.add(tableNAT, chainHostPorts, " -s ", h.To.Addr().String(), "/32", at, " -j MARK --set-xmark ", masquerade)
		r.add(tableNAT, chainHostPorts, at, ` -m comment --comment "`, h.Name, `" -j DNAT --to-destination `, h.To.String())
	}
}

// staleHostPorts returns the tracked connections that led, or ought to lead, elsewhere.
func staleHostPorts(old, now []HostPort) []Flow {
	var out []Flow
	for _, h := range old {
		if !slices.Contains(now, h) {
			out = append(out, Flow{Proto: h.number(), To: h.IP, Port: h.Port, Endpoint: h.To})
		}
	}
	for _, h := range now {
		if h.UDP && !slices.Contains(old, h) { // flows that began before
			out = append(out, Flow{Proto: h.number(), To: h.IP, Port: h.Port, Except: []netip.AddrPort{h.To}})
		}
	}
	return out
}

func (h HostPort) number() uint8 {
	if h.UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}
