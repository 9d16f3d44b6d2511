package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/net/http2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/consensus"
	"shoal/gossip"
	"shoal/internal/pki"
)

// dialTimeout bounds a connection to another peer. Peers are near; one that does not answer by then is away.
const dialTimeout = 2 * time.Second

// transport reaches other peers by name, wherever they are now. It is safe for concurrent use.
type transport struct {
	id      *pki.Identity
	address func(name string) (string, bool) // host:port of a peer's API
	lost    func(name string)                // called when a connection to a peer has ended
	raw     func(ctx context.Context, addr string) (net.Conn, error)
	strange func(name string, err error) // called when a peer shows a certificate of a CA that this one does not trust; nil: nobody is told

	h2 *http2.Transport // requests, many on one connection
	h1 *http.Transport  // requests that upgrade

	outdated chan error // cap 1: why this machine is no peer of the cluster any more

	mu   sync.Mutex
	cuts map[string]map[*cut]struct{} // by peer
}

// wires are how a peer reaches others. Their zero value is the machine's network; tests have another one.
type wires struct {
	dial    func(ctx context.Context, addr string) (net.Conn, error)
	gossip  memberlist.NodeAwareTransport
	answers func(ctx context.Context, addr string) (gossip.Answer, error)
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{KeepAlive: 5 * time.Second}).DialContext(ctx, "tcp", addr)
}

// cut ends something that waits for a peer.
type cut struct{ do func() }

func newTransport(id *pki.Identity, address func(string) (string, bool), lost func(string)) *transport {
	t := &transport{id: id, address: address, lost: lost, raw: dialTCP, outdated: make(chan error, 1), cuts: map[string]map[*cut]struct{}{}}
	t.h2 = &http2.Transport{
		// A peer's name is the host of its URLs.
		DialTLSContext: func(ctx context.Context, _, addr string, _ *tls.Config) (net.Conn, error) {
			conn, err := t.dial(ctx, host(addr), protoPeer)
			if err != nil {
				return nil, err
			}
			return &keptConn{Conn: newGather(conn, silence), forget: t.onAway(host(addr), func() { _ = conn.Close() }), lost: func() { t.lost(host(addr)) }}, nil
		},
		ReadIdleTimeout: 15 * time.Second, // gossip finds machines that are gone; this finds paths that are
		PingTimeout:     time.Second,
	}
	t.h1 = &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return t.dial(ctx, host(addr), protoStream)
		},
		DisableKeepAlives: true,
	}
	return t
}

// onAway has do called when the peer is found to be away, unless the function it returns is called before.
func (t *transport) onAway(name string, do func()) (forget func()) {
	c := &cut{do}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cuts[name] == nil {
		t.cuts[name] = map[*cut]struct{}{}
	}
	t.cuts[name][c] = struct{}{}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.cuts[name], c)
	}
}

type keptConn struct {
	net.Conn
	forget, lost func()
}

// Close implements net.Conn.
func (c *keptConn) Close() error {
	c.forget()
	c.lost()
	return c.Conn.Close()
}

// cutAway ends the requests that wait for peers which do not answer, as soon as that is known, until ctx ends. Their callers
// can then ask the next Master instead of a machine that is gone.
func (t *transport) cutAway(ctx context.Context, changed func() <-chan struct{}, away func(name string) bool) error {
	for {
		wake := changed()
		t.cut(away)
		select {
		case <-wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// cut ends what waits for such peers, and the connections to them.
func (t *transport) cut(such func(name string) bool) {
	t.mu.Lock()
	var due []*cut
	for name, cuts := range t.cuts {
		if such(name) {
			due = slices.AppendSeq(due, maps.Keys(cuts))
		}
	}
	t.mu.Unlock()
	for _, c := range due {
		c.do()
	}
}

func host(addr string) string {
	if h, _, err := net.SplitHostPort(addr); err == nil {
		return h
	}
	return addr
}

// dial connects to the named peer with one of our protocols and makes sure that it is that peer. Its errors are a
// net.OpError of a "dial": whatever was to be sent has not been.
func (t *transport) dial(ctx context.Context, name, proto string) (*tls.Conn, error) {
	addr, ok := t.address(name)
	if !ok {
		return nil, fmt.Errorf("dial peer %s: its address is not known", name)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer t.onAway(name, cancel)()
	raw, err := t.raw(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dial peer %s: %w", name, err)
	}
	conn := tls.Client(raw, pki.PeerTLS(t.id, name, proto))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		t.outdate(err)
		if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) && t.strange != nil {
			t.strange(name, err)
		}
		return nil, fmt.Errorf("dial peer %s: %w", name, &net.OpError{Op: "dial", Net: "tcp", Addr: raw.RemoteAddr(), Err: err})
	}
	return conn, nil
}

// outdate notes an error that tells that the cluster goes on without this machine.
func (t *transport) outdate(err error) {
	var epoch *pki.EpochError
	if errors.As(err, &epoch) && epoch.Theirs > epoch.Ours {
		select {
		case t.outdated <- err:
		default:
		}
	}
}

// RoundTripTo sends a request to a peer. One that upgrades gets a connection of its own.
func (t *transport) RoundTripTo(name string, r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.Host = "https", name, ""
	out.RequestURI = ""
	if r.Header.Get("Upgrade") != "" {
		return t.h1.RoundTrip(out)
	}
	return t.h2.RoundTrip(out)
}

// post calls another peer and returns the body of its answer; an answer that is no success is an httpError.
func (t *transport) post(ctx context.Context, name, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+name+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := t.h2.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, httpError{resp.StatusCode, string(bytes.TrimSpace(b))}
	}
	return b, nil
}

// raftStream is hashicorp/raft's transport over our listener.
type raftStream struct {
	*queue
	transport *transport
	alive     func(name string) bool
	changed   func() <-chan struct{} // closed when alive may answer otherwise
}

// patience is how long a dial waits for a peer that is away to come back.
const patience = 15 * time.Second

// Dial connects to a peer's raft; its address is its name. hashicorp/raft doubles its pause with each failure, up
// to ten seconds, and then keeps a peer that is back waiting for so long. So a dial to a peer that is away fails late: it
// waits for the peer and goes on the moment it is back.
func (s raftStream) Dial(to consensus.PeerID, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 {
		timeout = dialTimeout
	}
	conn, err := s.dial(to, timeout)
	if err == nil || s.alive(string(to)) {
		return conn, err
	}
	enough := time.NewTimer(patience)
	defer enough.Stop()
	for {
		changed := s.changed()
		if s.alive(string(to)) {
			return s.dial(to, timeout)
		}
		select {
		case <-changed:
		case <-enough.C:
			return nil, err
		case <-s.done:
			return nil, net.ErrClosed
		}
	}
}

func (s raftStream) dial(to consensus.PeerID, timeout time.Duration) (net.Conn, error) {
	// hashicorp/raft gives no context: the timeout, and the listener's end, are all that bound the call.
	ctx, cancel := context.WithTimeout(s.background(), timeout)
	defer cancel()
	return s.transport.dial(ctx, string(to), protoRaft)
}

// background returns a context that ends with the listener.
func (s raftStream) background() context.Context { return listenerContext{s.queue.done} }

// listenerContext is done when a listener has been closed.
type listenerContext struct{ done <-chan struct{} }

func (c listenerContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c listenerContext) Done() <-chan struct{}       { return c.done }
func (c listenerContext) Value(any) any               { return nil }
func (c listenerContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// codeOf returns the status an error should have on the wire.
func codeOf(err error) int {
	var he httpError
	if errors.As(err, &he) {
		return he.code
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return int(status.Status().Code)
	}
	return http.StatusInternalServerError
}
