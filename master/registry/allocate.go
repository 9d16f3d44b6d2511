package registry

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"shoal/consensus/store"
	"shoal/internal/api"
)

// choice remembers what allocate chose, so that it can be chosen anew when somebody was faster.
type choice struct {
	claims []store.Key
	undo   []func()
}

func (c *choice) add(claim store.Key, undo func()) {
	c.claims = append(c.claims, claim)
	c.undo = append(c.undo, undo)
}

func (c *choice) chose(claim store.Key) bool { return slices.Contains(c.claims, claim) }

// release takes back every choice.
func (c *choice) release() {
	for _, f := range c.undo {
		f()
	}
}

// allocate fills in what obj leaves to the system and checks that what it asks for can be given. old is nil for a new
// object. Nothing is reserved until the transaction with the claims is applied.
func (r *Registry) allocate(k *api.Kind, obj, old api.Object) (*choice, error) {
	c := &choice{}
	switch o := obj.(type) {
	case *corev1.Service:
		was, _ := old.(*corev1.Service)
		return c, r.allocateService(k, o, was, c)
	case *corev1.Node:
		if o.Spec.PodCIDR == "" && old == nil && r.cfg.PodCIDR.IsValid() {
			cidr, err := r.freeCIDR()
			if err != nil {
				return c, err
			}
			o.Spec.PodCIDR, o.Spec.PodCIDRs = cidr, []string{cidr}
			c.add(claimCIDR+store.Key(cidr), func() { o.Spec.PodCIDR, o.Spec.PodCIDRs = "", nil })
		}
	}
	return c, nil
}

func (r *Registry) allocateService(k *api.Kind, s, old *corev1.Service, c *choice) error {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) > 0 {
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
	switch {
	case api.NeedsClusterIP(s) && r.cfg.ServiceCIDR.IsValid():
		ip, err := r.freeIP()
		if err != nil {
			return err
		}
		s.Spec.ClusterIP, s.Spec.ClusterIPs = ip, []string{ip}
		c.add(claimIP+store.Key(ip), func() { s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil })
	case api.HasClusterIP(s) && (old == nil || old.Spec.ClusterIP != s.Spec.ClusterIP):
		if err := r.checkIP(s.Spec.ClusterIP); err != nil {
			return invalid(k, s.Name, field.Invalid(field.NewPath("spec", "clusterIPs"), []string{s.Spec.ClusterIP}, err.Error()))
		}
	}
	if api.NeedsNodePorts(s) {
		if err := r.allocatePorts(k, s, old, c); err != nil {
			return err
		}
	}
	if api.NeedsHealthCheckPort(s) && s.Spec.HealthCheckNodePort == 0 {
		port, err := r.freePort(s, c)
		if err != nil {
			return err
		}
		s.Spec.HealthCheckNodePort = port
		c.add(portClaim(port), func() { s.Spec.HealthCheckNodePort = 0 })
	}
	return nil
}

func (r *Registry) checkIP(s string) error {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return fmt.Errorf("failed to allocate IP %s: %v", s, err)
	}
	if !r.cfg.ServiceCIDR.IsValid() {
		return nil
	}
	first, last := r.cfg.ServiceCIDR.Masked().Addr(), lastAddr(r.cfg.ServiceCIDR)
	if !r.cfg.ServiceCIDR.Contains(ip) || ip == first || ip == last {
		return fmt.Errorf("failed to allocate IP %s: the provided IP (%s) is not in the valid range. The range of valid IPs is %s", s, s, r.cfg.ServiceCIDR)
	}
	return nil
}

func (r *Registry) allocatePorts(k *api.Kind, s, old *corev1.Service, c *choice) error {
	var had []int32
	if old != nil {
		for _, p := range old.Spec.Ports {
			had = append(had, p.NodePort)
		}
	}
	ports := field.NewPath("spec", "ports")
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.NodePort == 0 {
			port, err := r.freePort(s, c)
			if err != nil {
				return err
			}
			p.NodePort = port
			c.add(portClaim(port), func() { p.NodePort = 0 })
			continue
		}
		if !slices.Contains(had, p.NodePort) && (p.NodePort < r.cfg.NodePortMin || p.NodePort > r.cfg.NodePortMax) {
			return invalid(k, s.Name, field.Invalid(ports.Index(i).Child("nodePort"), p.NodePort, fmt.Sprintf(
				"provided port is not in the valid range. The range of valid ports is %d-%d", r.cfg.NodePortMin, r.cfg.NodePortMax)))
		}
	}
	return nil
}

// taken reports whether somebody owns a claim now.
func (r *Registry) taken(c store.Key) (bool, error) {
	_, ok, err := r.cfg.Log.Store().Get(c, 0)
	if err != nil {
		return false, internal(err)
	}
	return ok, nil
}

// search tries n candidates from a random one on, and returns the first that is free.
func (r *Registry) search(n int, candidate func(i int) store.Key) (int, bool, error) {
	if n <= 0 {
		return 0, false, nil
	}
	start := r.pick(n)
	for j := range n {
		i := (start + j) % n
		t, err := r.taken(candidate(i))
		if err != nil {
			return 0, false, err
		}
		if !t {
			return i, true, nil
		}
	}
	return 0, false, nil
}

// freeIP chooses a cluster IP. The lowest addresses are left to those who ask for one, as long as others are free.
func (r *Registry) freeIP() (string, error) {
	base := r.cfg.ServiceCIDR.Masked().Addr()
	size := 1 << min(20, base.BitLen()-r.cfg.ServiceCIDR.Bits())
	low := min(max(16, size/16), 256)
	if low >= size-1 {
		low = 1
	}
	at := func(i int) store.Key { return claimIP + store.Key(addrAt(base, low+i).String()) }
	i, ok, err := r.search(size-1-low, at)
	if err == nil && !ok {
		if i, ok, err = r.search(low-1, func(i int) store.Key { return claimIP + store.Key(addrAt(base, 1+i).String()) }); ok {
			return addrAt(base, 1+i).String(), nil
		}
	}
	if err != nil {
		return "", err
	}
	if !ok {
		return "", internal(fmt.Errorf("failed to allocate a serviceIP: range %s is full", r.cfg.ServiceCIDR))
	}
	return addrAt(base, low+i).String(), nil
}

func (r *Registry) freePort(s *corev1.Service, c *choice) (int32, error) {
	mine := slices.Clone(c.claims)
	for _, p := range s.Spec.Ports {
		mine = append(mine, portClaim(p.NodePort))
	}
	n := int(r.cfg.NodePortMax-r.cfg.NodePortMin) + 1
	start := r.pick(n)
	for j := range n {
		port := r.cfg.NodePortMin + int32((start+j)%n)
		if slices.Contains(mine, portClaim(port)) {
			continue
		}
		t, err := r.taken(portClaim(port))
		if err != nil {
			return 0, err
		}
		if !t {
			return port, nil
		}
	}
	return 0, internal(fmt.Errorf("failed to allocate a nodePort: range %d-%d is full", r.cfg.NodePortMin, r.cfg.NodePortMax))
}

// freeCIDR returns a part of the pod range that no Node has. It goes on after the last one it gave, so that Nodes which are made
// together are not given the same, and that of a Node which has gone is not used again at once.
func (r *Registry) freeCIDR() (string, error) {
	base := r.cfg.PodCIDR.Masked().Addr()
	bits := base.BitLen() - r.cfg.NodePrefix
	n := 1 << min(20, max(0, r.cfg.NodePrefix-r.cfg.PodCIDR.Bits()))
	r.cidrMu.Lock()
	defer r.cidrMu.Unlock()
	for j := range n {
		i := (r.nextCIDR + j) % n
		cidr := netip.PrefixFrom(addrAt(base, i<<bits), r.cfg.NodePrefix).String()
		t, err := r.taken(claimCIDR + store.Key(cidr))
		if err != nil {
			return "", err
		}
		if !t {
			r.nextCIDR = i + 1
			return cidr, nil
		}
	}
	return "", internal(fmt.Errorf("pod range %s has no /%d left", r.cfg.PodCIDR, r.cfg.NodePrefix))
}

// addrAt returns the address n after base. IPv6 counts in its last four bytes.
func addrAt(base netip.Addr, n int) netip.Addr {
	b := base.AsSlice()
	last := b[len(b)-4:]
	binary.BigEndian.PutUint32(last, binary.BigEndian.Uint32(last)+uint32(n))
	a, _ := netip.AddrFromSlice(b)
	return a
}

func lastAddr(p netip.Prefix) netip.Addr {
	host := p.Addr().BitLen() - p.Bits()
	if host > 31 {
		return netip.Addr{}
	}
	return addrAt(p.Masked().Addr(), 1<<host-1)
}
