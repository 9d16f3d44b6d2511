package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"shoal/master/auth"
)

// The application protocols on the one listener. What is none of ours is the API's.
const (
	protoRaft   = "shoal-raft/1" // hashicorp/raft's stream
	protoPeer   = auth.PeerProtocol
	protoStream = auth.StreamProtocol
)

// front is what the listener shows: a TLS configuration and a handler, which change once, when a machine that started
// with nothing has become a peer.
type front struct {
	now atomic.Pointer[face]
}

type face struct {
	tls     *tls.Config
	handler http.Handler
}

func (f *front) set(cfg *tls.Config, h http.Handler) { f.now.Store(&face{cfg, h}) }

// tls is the listener's own configuration: it asks for the one of the moment.
func (f *front) tls() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if face := f.now.Load(); face != nil {
			return face.tls.GetConfigForClient(hello)
		}
		return nil, errors.New("the peer is starting")
	}}
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if face := f.now.Load(); face != nil {
		if r.Method != http.MethodGet { // watches have a small stack, for a long time
			growStack(len(r.Method))
		}
		face.handler.ServeHTTP(w, r)
	}
}

// growStack gives a goroutine at once the stack that a write needs. Else it grows in steps, in the depth of decoders, and each step
// copies what is there: that was 9 % of the Master's time under creates.
//
//go:noinline
func growStack(n int) byte {
	var room [20 << 10]byte
	return room[n]
}

// handshakeTimeout bounds a TLS handshake, so that a silent client holds nothing for long.
const handshakeTimeout = 10 * time.Second

// mux splits one TLS listener by the protocol that the client negotiated. Connections of a protocol are handed to whoever
// accepts on its listener.
type mux struct {
	inner  net.Listener
	tls    *tls.Config
	log    *slog.Logger
	guests guests
	memory *queue // connections from this process
	http   *queue
	stream *queue
	raft   *queue
}

func newMux(inner net.Listener, cfg *tls.Config, log *slog.Logger) *mux {
	at := inner.Addr()
	return &mux{inner: inner, tls: cfg, log: log, memory: newQueue(at), http: newQueue(at), stream: newQueue(at), raft: newQueue(at)}
}

// Dial connects to this very peer without the network. The node, the proxy and the DNS reach the API through it, and so
// through the same filters as everyone else.
func (m *mux) Dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	if !m.memory.put(ctx, server) {
		_ = client.Close()
		return nil, net.ErrClosed
	}
	return client, nil
}

// Run accepts until ctx ends or the listener fails.
func (m *mux) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = m.inner.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer m.http.Close()
	defer m.stream.Close()
	defer m.raft.Close()
	defer m.memory.Close()
	all.Go(func() {
		for {
			conn, err := m.memory.Accept()
			if err != nil {
				return
			}
			all.Go(func() { m.sort(ctx, conn) })
		}
	})
	for {
		conn, err := m.inner.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() {
				m.log.Warn("accept", "err", err)
				continue
			}
			return err
		}
		all.Go(func() { m.sort(ctx, conn) })
	}
}

// sort shakes hands and hands the connection on.
func (m *mux) sort(ctx context.Context, raw net.Conn) {
	guest := &guest{Conn: raw, of: &m.guests}
	conn := tls.Server(guest, m.tls)
	shake, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(shake); err != nil {
		m.log.Debug("handshake", "from", raw.RemoteAddr(), "err", err)
		_ = raw.Close()
		return
	}
	if certs := conn.ConnectionState().PeerCertificates; len(certs) > 0 {
		m.guests.add(guest, certs[0])
	}
	to := m.http
	switch conn.ConnectionState().NegotiatedProtocol {
	case protoRaft:
		to = m.raft
	case protoStream:
		to = m.stream
	}
	if !to.put(ctx, conn) {
		_ = conn.Close()
	}
}

// queue is a net.Listener whose connections come from elsewhere.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (q *queue) put(ctx context.Context, c net.Conn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.done:
	case <-ctx.Done():
	}
	return false
}

// Accept blocks until a connection arrives or the queue is closed.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. It may be called more than once.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr returns the address of the listener behind.
func (q *queue) Addr() net.Addr { return q.addr }
