package proxy

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// stale returns the tracked connections that must be forgotten when the rules made from old give way to those made from
// now. Both are in the order of Facts.ports.
//
// UDP knows no connections: a caller goes on sending to where its first packet went, so a flow to an endpoint that is no
// longer chosen is forgotten, and so is one that began before there was any endpoint. TCP connections end by themselves,
// and one to a terminating pod must be left in peace; but one to an endpoint that has gone for good would hang, while
// forgotten it is reset by the next endpoint.
func stale(old, now []port) []Flow {
	index := make(map[string]int, len(now))
	for i := range now {
		index[now[i].hash] = i
	}
	seen := make(map[string]bool, len(old))
	var out []Flow
	for i := range old {
		was := &old[i]
		seen[was.hash] = true
		j, ok := index[was.hash]
		switch {
		case was.proto == "tcp" && ok:
			out = append(out, lost(was, &now[j])...)
		case was.proto == "udp" && ok:
			out = append(out, withdrawn(was, &now[j])...)
		case was.proto == "udp":
			out = append(out, withdrawn(was, &port{})...)
		}
	}
	for i := range now {
		if p := &now[i]; !seen[p.hash] && p.proto == "udp" && len(p.all) > 0 {
			out = append(out, untranslated(p)...)
		}
	}
	return out
}

// withdrawn returns the UDP flows that is would not send where was sent them.
func withdrawn(was, is *port) []Flow {
	same := was.vip == is.vip && was.nodePort == is.nodePort && slices.Equal(was.externalIPs, is.externalIPs)
	if same && slices.Equal(was.all, is.all) && slices.Equal(was.local, is.local) {
		return nil
	}
	gone := was.all
	if same {
		gone = missing(was.all, is.all)
		// An endpoint that only a local policy gave up may still serve callers of the other kind: those are forgotten
		// with it, which costs them one translation.
		for _, e := range missing(was.local, is.local) {
			if !slices.Contains(gone, e) {
				gone = append(gone, e)
			}
		}
	}
	var out []Flow
	for _, e := range gone {
		out = append(out, flowsTo(was, e, unix.IPPROTO_UDP)...)
	}
	if len(is.all) > 0 && (!same || len(was.all) == 0) {
		out = append(out, untranslated(is)...)
	}
	return out
}

// lost returns the TCP connections to endpoints that are gone for good, or unreachable.
func lost(was, is *port) []Flow {
	// The only endpoint of a Service is chosen although its machine is down, and goes later: then it is not among the known.
	gone := missing(was.known, is.known)
	for _, e := range append(missing(was.all, is.all), missing(was.local, is.local)...) {
		if !slices.Contains(is.known, e) && !slices.Contains(gone, e) {
			gone = append(gone, e)
		}
	}
	var out []Flow
	for _, e := range gone {
		if !slices.Contains(is.all, e) && !slices.Contains(is.local, e) {
			out = append(out, flowsTo(was, e, unix.IPPROTO_TCP)...)
		}
	}
	return out
}

// flowsTo returns the connections through Service p to endpoint e.
func flowsTo(p *port, e netip.AddrPort, proto uint8) []Flow {
	out := []Flow{{Proto: proto, To: p.vip, Port: p.number, Endpoint: e}}
	for _, ip := range p.externalIPs {
		out = append(out, Flow{Proto: proto, To: ip, Port: p.number, Endpoint: e})
	}
	if p.nodePort != 0 {
		out = append(out, Flow{Proto: proto, Port: p.nodePort, Endpoint: e})
	}
	return out
}

// untranslated returns the flows that callers may have begun before p could be translated, or that an earlier process
// translated otherwise.
func untranslated(p *port) []Flow {
	right := slices.Concat(p.all, p.local)
	out := []Flow{{Proto: unix.IPPROTO_UDP, To: p.vip, Port: p.number, Except: right}}
	for _, ip := range p.externalIPs {
		out = append(out, Flow{Proto: unix.IPPROTO_UDP, To: ip, Port: p.number, Except: right})
	}
	if p.nodePort != 0 {
		out = append(out, Flow{Proto: unix.IPPROTO_UDP, Port: p.nodePort, Except: right})
	}
	return out
}

// missing returns what a has and b has not. Both are short, or nearly equal and sorted.
func missing(a, b []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, e := range a {
		if _, ok := slices.BinarySearchFunc(b, e, netip.AddrPort.Compare); !ok {
			out = append(out, e)
		}
	}
	return out
}
