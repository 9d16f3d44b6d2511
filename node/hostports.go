package node

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/node/runtime"
)

// HostPort is a port of this machine that leads to one of its pods.
type HostPort struct {
	Pod  string // NAMESPACE/NAME
	UDP  bool   // else TCP
	IP   netip.Addr
	Port uint16
	To   netip.AddrPort
}

// hostPorts keeps which ports of the machine lead to its pods, and tells of changes.
type hostPorts struct {
	tell func([]HostPort)

	mu    sync.Mutex
	known bool // of every pod that was there at the start it has been said whether it has any
	byPod map[types.UID][]HostPort
}

func newHostPorts(tell func([]HostPort)) *hostPorts {
	return &hostPorts{tell: tell, byPod: map[types.UID][]HostPort{}}
}

// set says which of the machine's ports lead to a pod now.
func (h *hostPorts) set(uid types.UID, ports []HostPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Equal(h.byPod[uid], ports) {
		return
	}
	if h.byPod[uid] = ports; len(ports) == 0 {
		delete(h.byPod, uid)
	}
	h.tellLocked()
}

// begin is called once everything that was there at the start has been set; nothing is told before.
func (h *hostPorts) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known = true
	h.tellLocked()
}

func (h *hostPorts) tellLocked() {
	if !h.known || h.tell == nil {
		return
	}
	all := []HostPort{}
	for _, ports := range h.byPod {
		all = append(all, ports...)
	}
	slices.SortFunc(all, func(a, b HostPort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), a.IP.Compare(b.IP), cmp.Compare(a.Pod, b.Pod), a.To.Compare(b.To))
	})
	h.tell(all)
}

// hostPortsOf are the ports that lead to a pod at ip. One in its machine's network has them by itself.
func hostPortsOf(p *corev1.Pod, ip netip.Addr) []HostPort {
	if p.Spec.HostNetwork || !ip.IsValid() {
		return nil
	}
	var out []HostPort
	for _, port := range portsOfMachine(p) {
		if port.Protocol == corev1.ProtocolSCTP {
			continue
		}
		h := HostPort{
			Pod: p.Namespace + "/" + p.Name, UDP: port.Protocol == corev1.ProtocolUDP, Port: uint16(port.HostPort),
			To: netip.AddrPortFrom(ip, uint16(port.ContainerPort)),
		}
		if at, err := netip.ParseAddr(port.HostIP); err == nil && at.Is4() && !at.IsUnspecified() {
			h.IP = at
		}
		out = append(out, h)
	}
	return out
}

// open says which of the machine's ports lead to a pod, whose sandbox is as observed.
func (h *hostPorts) open(p *corev1.Pod, s runtime.Sandbox) {
	var ports []HostPort
	if s.Running {
		ip, _ := netip.ParseAddr(s.IP)
		ports = hostPortsOf(p, ip)
	}
	h.set(p.UID, ports)
}

// takesPorts reports whether two pods want one port of their machine.
func takesPorts(a, b *corev1.Pod) bool {
	for _, x := range portsOfMachine(a) {
		for _, y := range portsOfMachine(b) {
			anywhere := x.HostIP == "" || x.HostIP == "0.0.0.0" || y.HostIP == "" || y.HostIP == "0.0.0.0"
			if x.HostPort == y.HostPort && cmp.Or(x.Protocol, corev1.ProtocolTCP) == cmp.Or(y.Protocol, corev1.ProtocolTCP) && (anywhere || x.HostIP == y.HostIP) {
				return true
			}
		}
	}
	return false
}

// portsOfMachine are the ports of its machine that a pod asks for: its containers', and those of the sidecars that run beside them.
func portsOfMachine(p *corev1.Pod) (out []corev1.ContainerPort) {
	add := func(c *corev1.Container) {
		for _, port := range c.Ports {
			if port.HostPort != 0 {
				out = append(out, port)
			}
		}
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; api.IsSidecar(c) {
			add(c)
		}
	}
	for i := range p.Spec.Containers {
		add(&p.Spec.Containers[i])
	}
	return out
}
