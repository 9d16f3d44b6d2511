// Package gossiptest is a network in memory for gossip: machines with addresses that can be cut off from one another,
// switched off, or have their peer stopped or frozen. It is made of channels, timers and pipes only, so it runs in a
// testing/synctest bubble. Tests alone use it.
package gossiptest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"shoal/gossip"
)

// Port is where every peer listens.
const Port = 7946

// power is what a machine does.
type power int

const (
	on      power = iota // machine and peer run
	stopped              // the machine runs, nothing listens
	frozen               // the machine runs, the peer listens and never answers
	off                  // no machine
)

// Network connects machines. Its zero value is an empty network.
type Network struct {
	mu       sync.Mutex
	machines map[netip.AddrPort]*Machine
	side     map[*Machine]int // machines on different sides do not reach each other
	cut      map[[2]*Machine]bool
	loss     float64
	dice     *rand.Rand
}

// Machine is one host of the network. It is the Transport of the peer that runs on it.
type Machine struct {
	Name string

	net     *Network
	addr    netip.AddrPort
	power   power // guarded by net.mu
	packets chan *memberlist.Packet
	streams chan net.Conn
	down    chan struct{} // closed by Shutdown
	once    sync.Once
}

var _ memberlist.NodeAwareTransport = (*Machine)(nil)

var errRefused = errors.New("connection refused")

// Add puts a machine with the next address into the network. A restarted peer needs a new Machine: see Replace.
func (n *Network) Add(name string) *Machine {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.machines == nil {
		n.machines, n.side, n.cut = map[netip.AddrPort]*Machine{}, map[*Machine]int{}, map[[2]*Machine]bool{}
	}
	i := len(n.machines) + 1
	return n.addLocked(name, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Port))
}

// Replace puts a machine with the address of m in its place, for a peer that starts again.
func (n *Network) Replace(m *Machine) *Machine {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addLocked(m.Name, m.addr)
}

func (n *Network) addLocked(name string, addr netip.AddrPort) *Machine {
	m := &Machine{
		Name: name, net: n, addr: addr,
		packets: make(chan *memberlist.Packet, 4096), // as much as a kernel would hold before it drops
		streams: make(chan net.Conn, 128),
		down:    make(chan struct{}),
	}
	n.machines[addr] = m
	return m
}

// Partition cuts the network so that only the machines of one group reach each other. Machines in no group form another.
func (n *Network) Partition(groups ...[]*Machine) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.side)
	for i, g := range groups {
		for _, m := range g {
			n.side[m] = i + 1
		}
	}
}

// Cut breaks the link between two machines, both ways.
func (n *Network) Cut(a, b *Machine) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]*Machine{a, b}], n.cut[[2]*Machine{b, a}] = true, true
}

// Lose has a share of all packets, from 0 to 1, lost from now on: which ones, the seed decides.
func (n *Network) Lose(share float64, seed uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss, n.dice = share, rand.New(rand.NewPCG(seed, seed))
}

// lost reports whether one of so many packets does not arrive.
func (n *Network) lost(packets int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for range packets {
		if n.dice != nil && n.dice.Float64() < n.loss {
			return true
		}
	}
	return false
}

// connect is whether a connection is made before done, as gossip's sockets make one: by up to four tries side by side.
func connect[T any](n *Network, done <-chan T) bool {
	const again = 50 * time.Millisecond
	for range 4 {
		if !n.lost(2) { // to and fro
			return true
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-done:
			timer.Stop()
			return false
		}
	}
	<-done
	return false
}

// Heal undoes Partition and Cut.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.side)
	clear(n.cut)
}

// Off switches the machine off: nothing answers.
func (m *Machine) Off() { m.set(off) }

// Freeze stops the peer's process without ending it: the machine still accepts connections.
func (m *Machine) Freeze() { m.set(frozen) }

// On undoes Off and Freeze for a peer that was not shut down.
func (m *Machine) On() { m.set(on) }

// AddrPort is the machine's gossip address.
func (m *Machine) AddrPort() string { return m.addr.String() }

func (m *Machine) set(p power) {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	m.power = p
}

// reach finds the machine that packets from m to addr arrive at, and what it does.
func (m *Machine) reach(addr string) (*Machine, power) {
	to, err := netip.ParseAddrPort(addr)
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	d := m.net.machines[to]
	if err != nil || d == nil || m.power == off || d.power == off || m.net.side[m] != m.net.side[d] ||
		m.net.cut[[2]*Machine{m, d}] {
		return nil, off
	}
	return d, d.power
}

// Answers is gossip.Config.Answers for the peer on m.
func (m *Machine) Answers(ctx context.Context, addr string) (gossip.Answer, error) {
	_, p := m.reach(addr)
	if !connect(m.net, ctx.Done()) {
		return gossip.NoAnswer, nil
	}
	switch p {
	case off:
		<-ctx.Done()
		return gossip.NoAnswer, nil
	case stopped:
		return gossip.Refused, nil
	}
	return gossip.Accepted, nil
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (m *Machine) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return m.addr.Addr().AsSlice(), int(m.addr.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (m *Machine) WriteTo(b []byte, addr string) (time.Time, error) {
	return m.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport. What cannot arrive is lost without an error, as packets are.
func (m *Machine) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	now := time.Now()
	d, p := m.reach(a.Addr)
	if p != on || m.is(frozen) || m.net.lost(1) {
		return now, nil
	}
	select {
	case d.packets <- &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(m.addr), Timestamp: now}:
	default:
	}
	return now, nil
}

func (m *Machine) is(p power) bool {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	return m.power == p
}

// PacketCh implements memberlist.Transport.
func (m *Machine) PacketCh() <-chan *memberlist.Packet { return m.packets }

// DialTimeout implements memberlist.Transport.
func (m *Machine) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return m.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (m *Machine) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	failed := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%s: %w", a.Addr, err)}
	}
	began := time.Now()
	late := time.NewTimer(timeout)
	defer late.Stop()
	d, p := m.reach(a.Addr)
	if p == off || m.is(frozen) {
		select {
		case <-late.C:
		case <-m.down:
		}
		return failed(context.DeadlineExceeded)
	}
	if !connect(m.net, late.C) {
		return failed(context.DeadlineExceeded)
	}
	if p == stopped {
		return failed(errRefused)
	}
	ours, theirs := net.Pipe()
	// memberlist writes a header before it sets its own deadline: a kernel would buffer that, a pipe blocks.
	if err := ours.SetDeadline(began.Add(timeout)); err != nil {
		return failed(err)
	}
	if p == frozen {
		return ours, nil // nobody reads at the other end
	}
	select {
	case d.streams <- theirs:
		return ours, nil
	case <-d.down:
		return failed(errRefused)
	}
}

// StreamCh implements memberlist.Transport.
func (m *Machine) StreamCh() <-chan net.Conn { return m.streams }

// Shutdown implements memberlist.Transport: the process ends, the machine stays.
func (m *Machine) Shutdown() error {
	m.once.Do(func() {
		close(m.down)
		m.net.mu.Lock()
		defer m.net.mu.Unlock()
		if m.power != off {
			m.power = stopped
		}
	})
	return nil
}
