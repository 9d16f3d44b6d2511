package peer

import (
	"errors"
	"net"
	"net/http"
	"testing"
)

// A planned stop ended with "use of closed network connection", and code 1, when the mux closed its queues before the servers had
// heard that it was time.
func TestTheMuxMayEndBeforeItsServers(t *testing.T) {
	q := newQueue(&net.TCPAddr{})
	_ = q.Close()
	if err := serveUntil(t.Context(), &http.Server{}, q); err != nil {
		t.Error(err)
	}
	if err := serveUntil(t.Context(), &http.Server{}, broken{q}); err == nil {
		t.Error("a listener that breaks is no error")
	}
}

type broken struct{ net.Listener }

func (broken) Accept() (net.Conn, error) { return nil, errors.New("no file descriptors") }
