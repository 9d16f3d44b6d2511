package network

import (
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
)

// pool hands out the addresses of one machine's pod CIDR. It goes round the range, so that an address is used again as
// late as possible: those who still talk to a dead pod must not reach a new one. Not safe for concurrent use.
type pool struct {
	prefix netip.Prefix
	last   netip.Addr // the address handed out last
	pods   map[types.UID]netip.Addr
	used   map[netip.Addr]types.UID
}

func newPool() *pool {
	return &pool{pods: map[types.UID]netip.Addr{}, used: map[netip.Addr]types.UID{}}
}

// reserve notes that uid has addr already. Of two that claim one address the first keeps it.
func (p *pool) reserve(uid types.UID, addr netip.Addr) bool {
	if !addr.IsValid() {
		return false
	}
	if owner, taken := p.used[addr]; taken {
		return owner == uid
	}
	p.release(uid)
	p.pods[uid], p.used[addr] = addr, uid
	if !p.last.IsValid() || p.last.Less(addr) {
		p.last = addr
	}
	return true
}

// take returns uid's address: the one it has, else wanted when that is free, else the next free one.
func (p *pool) take(uid types.UID, wanted netip.Addr) (netip.Addr, error) {
	if addr, ok := p.pods[uid]; ok {
		return addr, nil
	}
	if p.usable(wanted) && p.reserve(uid, wanted) {
		return wanted, nil
	}
	if !p.prefix.IsValid() {
		return netip.Addr{}, fmt.Errorf("no pod CIDR yet")
	}
	addr := p.last
	if !p.usable(addr) {
		addr = p.prefix.Addr()
	}
	for range 1 << (32 - p.prefix.Bits()) {
		if addr = addr.Next(); !p.prefix.Contains(addr) {
			addr = p.prefix.Addr()
		}
		if _, taken := p.used[addr]; !taken && p.usable(addr) {
			p.pods[uid], p.used[addr], p.last = addr, uid, addr
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address left in %s: %d pods have one", p.prefix, len(p.pods))
}

func (p *pool) release(uid types.UID) {
	if addr, ok := p.pods[uid]; ok {
		delete(p.pods, uid)
		delete(p.used, addr)
	}
}

// usable tells whether a pod may have addr: not the network's own, not the gateway, not broadcast.
func (p *pool) usable(addr netip.Addr) bool {
	return p.prefix.IsValid() && p.prefix.Contains(addr) && addr != p.prefix.Addr() && addr != gatewayOf(p.prefix) &&
		p.prefix.Contains(addr.Next())
}

// gatewayOf returns the machine's own address on its bridge: the first of its pod CIDR.
func gatewayOf(prefix netip.Prefix) netip.Addr { return prefix.Masked().Addr().Next() }
