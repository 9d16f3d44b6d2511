package peer

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// gather is a TLS connection whose writes are sent by a goroutine of its own: what is written while that is at work goes out
// together. HTTP/2 writes the head and the body of a message one after the other, and those of a hundred requests one by one;
// each would be a TLS record, a system call here and a wakeup there. Write returns before its bytes are sent; what goes wrong
// with them, the next Write says.
type gather struct {
	secured
	patience time.Duration // how long the other end may take nothing

	mu      sync.Mutex
	changed sync.Cond // of what follows
	waiting []byte
	closed  bool
	err     error
	sent    chan struct{} // closed when send has ended
}

// secured is what HTTP/2 wants of a *tls.Conn.
type secured interface {
	net.Conn
	ConnectionState() tls.ConnectionState
}

const (
	gatherMost  = 256 << 10 // waiting at once; more has to wait in Write
	gatherPart  = 64 << 10  // sent at once
	gatherClose = time.Second
)

// newGather returns a connection that is to be closed.
func newGather(c secured, patience time.Duration) *gather {
	g := &gather{secured: c, patience: patience, sent: make(chan struct{})}
	g.changed.L = &g.mu
	go g.send()
	return g
}

// Write implements net.Conn.
func (g *gather) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.waiting) >= gatherMost && g.err == nil && !g.closed {
		g.changed.Wait()
	}
	switch {
	case g.err != nil:
		return 0, g.err
	case g.closed:
		return 0, net.ErrClosed
	}
	if len(g.waiting) == 0 {
		g.changed.Broadcast()
	}
	g.waiting = append(g.waiting, p...)
	return len(p), nil
}

// send sends what is written until the connection is closed or broken.
func (g *gather) send() {
	defer close(g.sent)
	var spare []byte
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		for len(g.waiting) == 0 && !g.closed {
			g.changed.Wait()
		}
		if len(g.waiting) == 0 || g.err != nil {
			return
		}
		now := g.waiting
		g.waiting = spare[:0]
		g.mu.Unlock()
		err := g.sendAll(now)
		g.mu.Lock()
		if spare = now; cap(spare) > gatherPart {
			spare = nil
		}
		if g.err = err; err != nil {
			_ = g.secured.Close() // so that whoever reads hears of it, too
		}
		g.changed.Broadcast()
	}
}

func (g *gather) sendAll(b []byte) error {
	for len(b) > 0 {
		part := b[:min(len(b), gatherPart)]
		if err := g.secured.SetWriteDeadline(time.Now().Add(g.patience)); err != nil {
			return err
		}
		if _, err := g.secured.Write(part); err != nil {
			return err
		}
		b = b[len(part):]
	}
	return nil
}

// Close implements net.Conn. What was written before is sent, if that takes no longer than a moment.
func (g *gather) Close() error {
	g.mu.Lock()
	g.closed = true
	g.changed.Broadcast()
	g.mu.Unlock()
	t := time.NewTimer(gatherClose)
	defer t.Stop()
	select {
	case <-g.sent:
	case <-t.C:
	}
	return g.secured.Close()
}

// SetWriteDeadline implements net.Conn. A write waits for nobody but send, which has its own.
func (g *gather) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.Conn.
func (g *gather) SetDeadline(t time.Time) error { return g.SetReadDeadline(t) }

// gathered has an HTTP/2 server serve connections that gather their writes. It stands in for what http2.ConfigureServer sets.
func gathered(h2 *http2.Server) func(*http.Server, *tls.Conn, http.Handler) {
	return func(srv *http.Server, c *tls.Conn, h http.Handler) {
		opts := &http2.ServeConnOpts{Handler: h, BaseConfig: srv}
		if base, ok := h.(interface{ BaseContext() context.Context }); ok { // how net/http passes it on
			opts.Context = base.BaseContext()
		}
		h2.ServeConn(newGather(c, silence), opts)
	}
}
