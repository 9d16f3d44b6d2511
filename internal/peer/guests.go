package peer

import (
	"crypto/x509"
	"net"
	"sync"
)

// guests are the open connections of those who showed a certificate. The zero value has none. Safe for concurrent use.
type guests struct {
	mu  sync.Mutex
	all map[*guest]*x509.Certificate
}

// guest is what a connection that is tracked is made on.
type guest struct {
	net.Conn
	of *guests
}

func (g *guests) add(c *guest, cert *x509.Certificate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		g.all = map[*guest]*x509.Certificate{}
	}
	g.all[c] = cert
}

// Close implements net.Conn.
func (c *guest) Close() error {
	c.of.mu.Lock()
	delete(c.of.all, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// close ends the connections of whoever showed such a certificate.
func (g *guests) close(such func(*x509.Certificate) bool) {
	g.mu.Lock()
	var due []*guest
	for c, cert := range g.all {
		if such(cert) {
			due = append(due, c)
		}
	}
	g.mu.Unlock()
	for _, c := range due {
		_ = c.Close()
	}
}
