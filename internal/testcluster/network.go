package testcluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// network joins the peers of one cluster. Every pair of machines has a link that can be cut; what is written to a cut
// link arrives when it is healed, unless somebody lost patience and closed the connection, as with TCP.
type network struct {
	mu        sync.Mutex
	rng       *rand.Rand
	latency   time.Duration
	listeners map[port]*listener
	conns     map[*conn]struct{} // both ends of all that are open
	cuts      map[[2]string]bool
	healed    chan struct{} // closed and replaced when links change
}

// port is where a peer listens: each peer has one for HTTP and one for Raft.
type port struct{ peer, service string }

const (
	serviceHTTP = "http"
	serviceRaft = "raft"
)

// connectTimeout bounds a connection to a peer that does not answer, as in production.
const connectTimeout = 2 * time.Second

func newNetwork(seed int64, latency time.Duration) *network {
	return &network{
		rng: rand.New(rand.NewSource(seed)), latency: latency, listeners: map[port]*listener{}, conns: map[*conn]struct{}{},
		cuts: map[[2]string]bool{}, healed: make(chan struct{}),
	}
}

func link(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

// set makes the cuts of all links what cut says of the names of their ends.
func (n *network) set(names []string, cut func(a, b string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
	for _, a := range names {
		for _, b := range names {
			if a < b && cut(a, b) {
				n.cuts[link(a, b)] = true
			}
		}
	}
	for c := range n.conns {
		c.in.setCut(n.cuts[link(c.local, c.remote)])
	}
	close(n.healed)
	n.healed = make(chan struct{})
}

// reaches reports whether a link is whole.
func (n *network) reaches(a, b string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cuts[link(a, b)]
}

// delay is how long the next message travels; inside a machine, no time.
func (n *network) delay(from, to string) time.Duration {
	if from == to {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.latency/2 + time.Duration(n.rng.Int63n(int64(n.latency)))
}

func (n *network) listen(p port) *listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{net: n, port: p, queue: make(chan *conn), done: make(chan struct{})}
	n.listeners[p] = l
	return l
}

// dial connects from one peer to a port of another, or of itself. Its errors wrap a *net.OpError.
func (n *network) dial(ctx context.Context, from string, to port) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	refuse := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "mem", Addr: address(to.peer), Err: err}
	}
	for {
		n.mu.Lock()
		l, cut, healed := n.listeners[to], n.cuts[link(from, to.peer)], n.healed
		n.mu.Unlock()
		switch {
		case cut:
			select {
			case <-healed:
				continue
			case <-ctx.Done():
				return refuse(ctx.Err())
			}
		case l == nil:
			return refuse(syscall.ECONNREFUSED)
		}
		near, far := n.pair(from, to.peer)
		select {
		case l.queue <- far:
			return near, nil
		case <-l.done:
			err := errors.Join(near.Close(), far.Close())
			return refuse(errors.Join(syscall.ECONNREFUSED, err))
		case <-ctx.Done():
			err := errors.Join(near.Close(), far.Close())
			return refuse(errors.Join(ctx.Err(), err))
		}
	}
}

func (n *network) pair(from, to string) (near, far *conn) {
	there, back := newHalf(), newHalf()
	near = &conn{net: n, local: from, remote: to, in: back, out: there}
	far = &conn{net: n, local: to, remote: from, in: there, out: back}
	n.mu.Lock()
	defer n.mu.Unlock()
	cut := n.cuts[link(from, to)]
	there.cut, back.cut = cut, cut
	n.conns[near], n.conns[far] = struct{}{}, struct{}{}
	return near, far
}

// open describes the ends of connections that nobody closed.
func (n *network) open() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []string
	for c := range maps.Keys(n.conns) {
		all = append(all, fmt.Sprintf("%s's to %s", c.local, c.remote))
	}
	slices.Sort(all)
	return all
}

// address is a peer's name as an address.
type address string

func (a address) Network() string { return "mem" }
func (a address) String() string  { return string(a) }

// listener is one port of a running peer.
type listener struct {
	net   *network
	port  port
	queue chan *conn
	done  chan struct{}
	once  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		if l.net.listeners[l.port] == l {
			delete(l.net.listeners, l.port)
		}
		close(l.done)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.port.peer) }
