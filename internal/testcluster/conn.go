package testcluster

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// conn is one end of a connection. Its Write never waits, so that nobody holds a lock while a link is cut: in a synctest
// bubble time would stand still.
type conn struct {
	net           *network
	local, remote string
	in, out       *half

	mu       sync.Mutex
	writeEnd time.Time
}

// half is what travels in one direction.
type half struct {
	mu      sync.Mutex
	wake    chan struct{} // closed and replaced by any change
	cut     bool
	chunks  []chunk
	ended   bool // the writer closed
	closed  bool // the reader closed
	readEnd time.Time
}

type chunk struct {
	at   time.Time // when it arrives
	data []byte
}

func newHalf() *half { return &half{wake: make(chan struct{})} }

func (h *half) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.wake)
	h.wake = make(chan struct{})
}

func (h *half) setCut(cut bool) { h.change(func() { h.cut = cut }) }

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	h := c.in
	for {
		h.mu.Lock()
		n, until, err := h.takeLocked(b)
		wake := h.wake
		h.mu.Unlock()
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		var due <-chan time.Time
		var t *time.Timer
		if !until.IsZero() {
			t = time.NewTimer(time.Until(until))
			due = t.C
		}
		select {
		case <-wake:
		case <-due:
		}
		if t != nil {
			t.Stop()
		}
	}
}

// takeLocked returns what there is to read, or when to look again.
func (h *half) takeLocked(b []byte) (n int, until time.Time, err error) {
	now := time.Now()
	switch {
	case h.closed:
		return 0, until, net.ErrClosed
	case !h.readEnd.IsZero() && !now.Before(h.readEnd):
		return 0, until, os.ErrDeadlineExceeded
	}
	until = h.readEnd
	switch {
	case h.cut:
	case len(h.chunks) == 0:
		if h.ended {
			return 0, until, io.EOF
		}
	case now.Before(h.chunks[0].at):
		if at := h.chunks[0].at; until.IsZero() || at.Before(until) {
			until = at
		}
	default:
		first := &h.chunks[0]
		n = copy(b, first.data)
		first.data = first.data[n:]
		if len(first.data) == 0 {
			h.chunks = h.chunks[1:]
		}
	}
	return n, until, nil
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	end := c.writeEnd
	c.mu.Unlock()
	if !end.IsZero() && !time.Now().Before(end) {
		return 0, os.ErrDeadlineExceeded
	}
	at := time.Now().Add(c.net.delay(c.local, c.remote))
	n, err := len(b), error(nil)
	c.out.change(func() {
		switch {
		case c.out.ended:
			n, err = 0, net.ErrClosed
		case c.out.closed && !c.out.cut:
			n, err = 0, syscall.EPIPE
		case len(b) > 0:
			if k := len(c.out.chunks); k > 0 && at.Before(c.out.chunks[k-1].at) {
				at = c.out.chunks[k-1].at
			}
			c.out.chunks = append(c.out.chunks, chunk{at, append([]byte(nil), b...)})
		}
	})
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.net.mu.Lock()
	delete(c.net.conns, c)
	c.net.mu.Unlock()
	c.out.change(func() { c.out.ended = true })
	c.in.change(func() { c.in.closed, c.in.chunks = true, nil })
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return address(c.local) }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return address(c.remote) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.change(func() { c.in.readEnd = t })
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeEnd = t
	return nil
}
