package proxy

import (
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// Chain names one chain of one table.
type Chain struct{ Table, Name string }

// Rules is the whole content of our chains: the rules of each as iptables-save prints them ("-A NAME …\n" each). It is
// not changed once rendered.
type Rules struct {
	chains map[Chain]string
	// services is what the rules were made from, kept to find the flows that a later render leaves stale.
	services      []port
	hostPorts     []HostPort
	keepHostPorts bool // they are not known: their chain is what the kernel holds, set before it is applied
	keepPolicies  bool // the same for NetworkPolicies
}

const (
	prefix = "SHOAL-"

	tableNAT    = "nat"
	tableFilter = "filter"

	chainServices    = prefix + "SERVICES"    // nat PREROUTING and OUTPUT
	chainVIPs        = prefix + "VIPS"        // by /24 of the service range
	chainNodePorts   = prefix + "NODEPORTS"   // by block of ports
	chainHostPorts   = prefix + "HOSTPORTS"   // of this machine's pods
	chainExternals   = prefix + "EXTERNALS"   // external addresses
	chainPostrouting = prefix + "POSTROUTING" // nat POSTROUTING
	chainHairpin     = prefix + "HAIRPIN"
	chainInput       = prefix + "INPUT" // filter
	chainForward     = prefix + "FORWARD"
	chainOutput      = prefix + "OUTPUT"
	chainNoPort      = prefix + "NO-NODEPORT" // node ports without endpoints
	chainNoExternal  = prefix + "NO-EXTERNAL" // external addresses without endpoints

	// masquerade is the mark of packets that leave with this machine's address. One bit that neither kube-proxy
	// (0x4000, 0x8000) nor Docker uses.
	masquerade = "0x100000/0x100000"

	// The kernel sends few ICMP errors a second to one caller, and as many resets as it takes.
	rejectTCP   = " -j REJECT --reject-with tcp-reset"
	rejectOther = " -j REJECT --reject-with icmp-port-unreachable"

	portsPerBlock = 64
)

// jump is a place where one of the kernel's own chains enters one of ours.
type jump struct{ table, from, to string }

var jumps = [...]jump{
	{tableNAT, "PREROUTING", chainServices},
	{tableNAT, "OUTPUT", chainServices},
	{tableNAT, "POSTROUTING", chainPostrouting},
	{tableFilter, "INPUT", chainInput},
	{tableFilter, "FORWARD", chainForward},
	{tableFilter, "OUTPUT", chainOutput},
}

// Render turns facts into rules. It is pure: the same facts give the same rules, byte for byte.
func Render(f *Facts) *Rules {
	ports := f.ports()
	r := &renderer{
		f: f, chains: make(map[Chain][]byte, len(ports)+64),
		hairpin: map[netip.Addr]bool{}, vipBlocks: map[netip.Addr]bool{}, portBlocks: map[int]bool{},
	}
	r.base()
	for i := range ports {
		r.port(&ports[i])
	}
	r.hostPorts(f.HostPorts)
	r.policies(f.Isolations)
	r.finish()
	out := &Rules{chains: make(map[Chain]string, len(r.chains)), services: ports, hostPorts: f.HostPorts}
	for c, text := range r.chains {
		out.chains[c] = string(text)
	}
	return out
}

type renderer struct {
	f          *Facts
	chains     map[Chain][]byte
	hairpin    map[netip.Addr]bool // pods that may call themselves
	vipBlocks  map[netip.Addr]bool // first address of each /24 in use
	portBlocks map[int]bool        // first port of each block in use
	buf        []byte
}

// add appends one rule to a chain, which it creates; no words create an empty chain.
func (r *renderer) add(table, chain string, words ...string) {
	c := Chain{table, chain}
	text := r.chains[c]
	if len(words) > 0 {
		text = append(append(text, "-A "...), chain...)
		for _, w := range words {
			text = append(text, w...)
		}
		text = append(text, '\n')
	}
	r.chains[c] = text
}

func (r *renderer) base() {
	pods, vips := r.f.PodCIDR.String(), r.f.ServiceCIDR.String()
	for _, c := range []string{chainVIPs, chainNodePorts, chainExternals, chainHairpin} {
		r.add(tableNAT, c)
	}
	for _, c := range []string{chainNoPort, chainNoExternal} {
		r.add(tableFilter, c)
	}

	// Callers that are no pods come back through this machine, or the endpoint's answer would miss the translation.
	r.add(tableNAT, chainServices, " ! -s ", pods, " -d ", vips, " -j MARK --set-xmark ", masquerade)
	r.add(tableNAT, chainServices, " -d ", vips, " -j ", chainVIPs)
	r.add(tableNAT, chainServices, " -j ", chainExternals)
	r.add(tableNAT, chainServices, " -m addrtype --dst-type LOCAL -j ", chainHostPorts)
	r.add(tableNAT, chainServices, " -m addrtype --dst-type LOCAL -j ", chainNodePorts)

	r.add(tableNAT, chainPostrouting, " -m mark --mark ", masquerade, " -j MASQUERADE --random-fully")
	r.add(tableNAT, chainPostrouting, " -s ", pods, " -d ", pods, " -j ", chainHairpin)
	r.add(tableNAT, chainPostrouting, " -s ", pods, " -d ", pods, " -j RETURN")
	r.add(tableNAT, chainPostrouting, " -s ", pods, " ! -d ", vips, " -m addrtype ! --dst-type LOCAL -j MASQUERADE --random-fully")

	// route_localnet, which NodePorts on localhost need, would let neighbours reach services that listen on loopback.
	r.add(tableFilter, chainInput, " ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP")
	r.add(tableFilter, chainInput, " -m conntrack --ctstate NEW -j ", chainNoExternal)
	r.add(tableFilter, chainInput, " -m conntrack --ctstate NEW -m addrtype --dst-type LOCAL -j ", chainNoPort)

	// Packets that conntrack cannot place are not translated; let through, they make the caller reset its connection.
	r.add(tableFilter, chainForward, " -s ", pods, " -m conntrack --ctstate INVALID -j DROP")
	// What still bears a service address here was not translated: there is no such service, or nobody behind it.
	for _, c := range []string{chainForward, chainOutput} {
		r.add(tableFilter, c, " -d ", vips, " -p tcp -m conntrack --ctstate NEW", rejectTCP)
		r.add(tableFilter, c, " -d ", vips, " -m conntrack --ctstate NEW", rejectOther)
		r.add(tableFilter, c, " -m conntrack --ctstate NEW -j ", chainNoExternal)
	}
	r.add(tableFilter, chainForward, " -m conntrack --ctstate NEW -j ", chainPolicies)
	r.add(tableFilter, chainForward, " -s ", pods, " -j ACCEPT")
	r.add(tableFilter, chainForward, " -d ", pods, " -j ACCEPT")
}

// port renders one port of one Service.
func (r *renderer) port(p *port) {
	proto := " -p " + p.proto + " -m " + p.proto + " --dport "
	internal, external := p.internal(), p.external()
	for _, a := range p.selves {
		r.hairpin[a] = true
	}
	if len(internal) > 0 && p.vip.IsValid() {
		chain := p.chain(internalKind(p))
		r.balance(p, chain, internal)
		vip := p.vip.String()
		if r.f.ServiceCIDR.Contains(p.vip) {
			r.add(tableNAT, r.vipBlock(p.vip), " -d ", vip, "/32", proto, strconv.Itoa(int(p.number)), p.comment(), " -j ", chain)
		} else {
			r.add(tableNAT, chainExternals, " -d ", vip, "/32", proto, strconv.Itoa(int(p.number)), p.comment(), " -j ", chain)
		}
	}
	if p.nodePort == 0 && len(p.externalIPs) == 0 {
		return
	}
	nodePort, number := strconv.Itoa(int(p.nodePort)), strconv.Itoa(int(p.number))
	if len(p.all) == 0 || len(external) == 0 && !p.externalLocal {
		if p.nodePort != 0 {
			r.add(tableFilter, chainNoPort, proto, nodePort, p.comment(), p.reject())
		}
		for _, ip := range p.externalIPs {
			r.add(tableFilter, chainNoExternal, " -d ", ip.String(), "/32", proto, number, p.comment(), p.reject())
		}
		return
	}
	entry := r.external(p, external)
	if p.nodePort != 0 {
		r.add(tableNAT, r.portBlock(p.nodePort), proto, nodePort, p.comment(), " -j ", entry)
	}
	for _, ip := range p.externalIPs {
		r.add(tableNAT, chainExternals, " -d ", ip.String(), "/32", proto, number, p.comment(), " -j ", entry)
	}
	if len(external) > 0 {
		return
	}
	// Local policy without an endpoint here: a balancer's probe must see silence, not a refusal that others answer.
	if p.nodePort != 0 {
		r.add(tableFilter, chainNoPort, proto, nodePort, p.comment(), " -j DROP")
	}
	for _, ip := range p.externalIPs {
		r.add(tableFilter, chainNoExternal, " -d ", ip.String(), "/32", proto, number, p.comment(), " -j DROP")
	}
}

// external renders the chain that outside traffic of p enters, and returns its name.
func (r *renderer) external(p *port, chosen []netip.AddrPort) string {
	entry := p.chain("X")
	all := p.chain("C")
	r.balance(p, all, p.all)
	if !p.externalLocal {
		r.add(tableNAT, entry, " -j MARK --set-xmark ", masquerade)
		r.add(tableNAT, entry, " -j ", all)
		return entry
	}
	// Pods and this machine's own processes are not "outside": they may go to every endpoint.
	r.add(tableNAT, entry, " -s ", r.f.PodCIDR.String(), " -j ", all)
	r.add(tableNAT, entry, " -m addrtype --src-type LOCAL -j MARK --set-xmark ", masquerade)
	r.add(tableNAT, entry, " -m addrtype --src-type LOCAL -j ", all)
	if len(chosen) > 0 {
		local := p.chain("L")
		r.balance(p, local, chosen)
		r.add(tableNAT, entry, " -j ", local)
	}
	return entry
}

// balance renders a chain that sends each new connection to one of the endpoints, each with the same chance.
func (r *renderer) balance(p *port, chain string, endpoints []netip.AddrPort) {
	c := Chain{tableNAT, chain}
	if _, done := r.chains[c]; done {
		return
	}
	b := r.buf[:0]
	rule := func() { b = append(append(append(append(b, "-A "...), chain...), " -p "...), p.proto...) }
	target := func(e netip.AddrPort) {
		b = append(e.AppendTo(append(b, " -j DNAT --to-destination "...)), '\n')
	}
	if p.affinity > 0 {
		for _, e := range endpoints {
			rule()
			b = append(strconv.AppendInt(append(b, " -m recent --update --seconds "...), int64(p.affinity), 10), " --reap --name "...)
			b = append(append(b, p.list(e)...), " --mask 255.255.255.255 --rsource"...)
			target(e)
		}
	}
	for i, e := range endpoints {
		rule()
		if left := len(endpoints) - i; left > 1 {
			b = append(append(b, " -m statistic --mode random --probability "...), probability(left)...)
		}
		if p.affinity > 0 {
			b = append(append(append(b, " -m recent --set --name "...), p.list(e)...), " --mask 255.255.255.255 --rsource"...)
		}
		target(e)
	}
	r.buf = b
	r.chains[c] = slices.Clone(b)
}

// finish renders what depends on all Services: the dispatch to blocks, and pods of this machine that may call themselves.
func (r *renderer) finish() {
	for _, a := range slices.SortedFunc(maps.Keys(r.vipBlocks), netip.Addr.Compare) {
		r.add(tableNAT, chainVIPs, " -d ", a.String(), "/24 -j ", prefix, "V-", a.String())
	}
	for _, first := range slices.Sorted(maps.Keys(r.portBlocks)) {
		ports := strconv.Itoa(first) + ":" + strconv.Itoa(first+portsPerBlock-1)
		for _, proto := range []string{"tcp", "udp"} {
			r.add(tableNAT, chainNodePorts, " -p ", proto, " -m ", proto, " --dport ", ports, " -j ", prefix, "N-", strconv.Itoa(first))
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(r.hairpin), netip.Addr.Compare) {
		r.add(tableNAT, chainHairpin, " -s ", a.String(), "/32 -d ", a.String(), "/32 -j MASQUERADE --random-fully")
	}
}

// vipBlock returns the chain that holds the cluster addresses near vip. Blocks keep the dispatch short, and a new Service
// a change of a few rules.
func (r *renderer) vipBlock(vip netip.Addr) string {
	block, _ := vip.Prefix(24)
	r.vipBlocks[block.Addr()] = true
	return prefix + "V-" + block.Addr().String()
}

func (r *renderer) portBlock(p uint16) string {
	first := int(p) / portsPerBlock * portsPerBlock
	r.portBlocks[first] = true
	return prefix + "N-" + strconv.Itoa(first)
}

// probability is 1/n as iptables-save prints it: the kernel keeps 31 bits.
func probability(n int) string {
	const unit = 1 << 31
	return strconv.FormatFloat(float64((unit+n/2)/n)/unit, 'f', 11, 64)
}

func internalKind(p *port) string {
	if p.internalLocal {
		return "L"
	}
	return "C"
}

// chain returns the name of one of p's chains. Names are at most 28 characters, so the Service's is hashed.
func (p *port) chain(kind string) string { return prefix + kind + "-" + p.hash }

// list names the xt_recent list of one endpoint.
func (p *port) list(e netip.AddrPort) string { return p.hash + "-" + e.String() }

func (p *port) reject() string {
	if p.proto == "tcp" {
		return rejectTCP
	}
	return rejectOther
}

func (p *port) comment() string {
	return ` -m comment --comment "` + p.name + `"`
}

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:10])
}

func protocol(p corev1.Protocol) (string, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return "tcp", true
	case corev1.ProtocolUDP:
		return "udp", true
	}
	return "", false
}
