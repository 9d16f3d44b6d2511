package peer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"shoal/internal/pki"
)

// TestWhatWaitsForAPeerThatIsAwayIsCut has requests wait for a machine that takes connections and says nothing.
func TestWhatWaitsForAPeerThatIsAwayIsCut(t *testing.T) {
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	tr := newTransport(testIdentity(t, "here"), func(string) (string, bool) { return silent.Addr().String(), true }, func(string) {})
	ctx, cancel := context.WithCancel(t.Context())
	var away atomic.Bool
	changed, cutting := make(chan struct{}), make(chan error, 1)
	wake := func() <-chan struct{} {
		if away.Load() {
			return nil // it changes once
		}
		return changed
	}
	go func() {
		cutting <- tr.cutAway(ctx, wake, func(name string) bool { return away.Load() && name == "there" })
	}()

	asked := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://there/", nil)
		resp, err := tr.RoundTripTo("there", req)
		if err == nil {
			_ = resp.Body.Close()
		}
		asked <- err
	}()
	conn, err := silent.Accept() // the request is on its way: it shakes hands
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	away.Store(true)
	close(changed)
	var op *net.OpError
	if err := <-asked; !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("the request ends with %v, which does not say that nothing was sent", err)
	}
	if waited := time.Since(began); waited >= dialTimeout {
		t.Errorf("only its own timeout ended the request, after %v", waited)
	}
	cancel()
	if err := <-cutting; err != nil {
		t.Error(err)
	}
}

func testIdentity(t *testing.T, name string) *pki.Identity {
	t.Helper()
	now := time.Now()
	ca, err := pki.NewCA(pki.NewClusterID(), now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := pki.NewRequest(key, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	req, err := pki.ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.IssuePeer(req, pki.PeerProfile{Name: name}, now)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.NewIdentity(key, chain)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
