package consensus

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// stream is what Raft's transport gets: addresses are peers' names, and every connection ends with the listener, so that
// no goroutine of the transport outlives Run.
type stream struct {
	Stream
	self PeerID

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// pool is how many connections to one peer are kept for reuse: heartbeat, pipeline, notice, vote.
const pool = 4

// name is a peer's name as a network address.
type name PeerID

func (n name) Network() string { return "peer" }
func (n name) String() string  { return string(n) }

func newTransport(c Config, s Stream) carrier {
	return transport{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:                  &stream{Stream: s, self: c.ID, conns: make(map[net.Conn]struct{})},
		MaxPool:                 pool,
		MaxRPCsInFlight:         slack,
		Timeout:                 c.Timing.Call,
		Logger:                  newLogger(c.Log),
		MsgpackUseNewTimeFormat: true,
	})}
}

// Addr implements net.Listener.
func (s *stream) Addr() net.Addr { return name(s.self) }

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) { return s.keep(s.Stream.Accept()) }

// Dial implements raft.StreamLayer.
func (s *stream) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	c, err := s.keep(s.Stream.Dial(PeerID(to), timeout))
	if err != nil {
		return nil, dialError{err}
	}
	return c, nil
}

// dialError says that there is no connection, and not that one broke.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// Close implements net.Listener.
func (s *stream) Close() error {
	s.mu.Lock()
	s.closed = true
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
	return s.Stream.Close()
}

func (s *stream) keep(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	s.conns[c] = struct{}{}
	return &conn{Conn: c, of: s}, nil
}

type conn struct {
	net.Conn
	of *stream
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c.Conn)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
