package peer

import (
	"context"
	"errors"
	"net"
)

// joined is a listener that accepts from the network and from this process. The node, the proxy and the DNS of this
// peer reach the API through it, and so through the same filters as everyone else.
type joined struct {
	net.Listener
	memory *queue
	conns  chan accepted
}

type accepted struct {
	conn net.Conn
	err  error
}

func newJoined(l net.Listener) *joined {
	return &joined{Listener: l, memory: newQueue(l.Addr()), conns: make(chan accepted)}
}

// Run feeds Accept from the network until ctx ends.
func (j *joined) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = j.Listener.Close() })
	defer stop()
	for {
		c, err := j.Listener.Accept()
		if errors.Is(err, net.ErrClosed) && ctx.Err() != nil {
			return nil
		}
		select {
		case j.conns <- accepted{c, err}:
		case <-ctx.Done():
			if err == nil {
				_ = c.Close()
			}
			return nil
		}
	}
}

// Accept returns the next connection of either kind.
func (j *joined) Accept() (net.Conn, error) {
	select {
	case a := <-j.conns:
		return a.conn, a.err
	case c := <-j.memory.conns:
		return c, nil
	case <-j.memory.done:
		return nil, net.ErrClosed
	}
}

// Close ends both.
func (j *joined) Close() error {
	_ = j.memory.Close()
	return j.Listener.Close()
}

// Dial connects to this very peer without the network.
func (j *joined) Dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	if !j.memory.put(ctx, server) {
		_ = client.Close()
		return nil, net.ErrClosed
	}
	return client, nil
}
