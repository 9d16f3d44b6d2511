package server

import (
	"context"
	"fmt"
	"net"
	goruntime "runtime"

	"github.com/vishvananda/netns"
)

// dialIn connects from inside a network namespace. The socket belongs to it; the thread that made it is thrown away.
func dialIn(ctx context.Context, path, addr string) (net.Conn, error) {
	if path == "" {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		goruntime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromPath(path)
		if err != nil {
			done <- result{nil, fmt.Errorf("open the pod's network: %w", err)}
			return
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			done <- result{nil, fmt.Errorf("enter the pod's network: %w", err)}
			return
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp4", addr)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}
