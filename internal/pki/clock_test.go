package pki

import (
	"crypto/x509"
	"fmt"
	"net"
	"testing"
	"time"
)

// TestAnHourWrongHindersNobody gives the CA, the server and the client clocks that are right, an hour behind and an hour ahead.
func TestAnHourWrongHindersNobody(t *testing.T) {
	clocks := []time.Duration{-time.Hour, 0, time.Hour}
	for _, signer := range clocks {
		then := time.Now().Add(signer)
		ca, err := NewCA(NewClusterID(), then)
		if err != nil {
			t.Fatal(err)
		}
		peer := func(name string, wrong time.Duration) *Identity {
			id := issue(t, func(req *x509.CertificateRequest) ([]byte, error) {
				return ca.IssuePeer(req, PeerProfile{Name: name}, then)
			})
			id.now = func() time.Time { return time.Now().Add(wrong) }
			return id
		}
		for _, server := range clocks {
			for _, client := range clocks {
				t.Run(fmt.Sprintf("%v %v %v", signer, server, client), func(t *testing.T) {
					s, c := peer("server", server), peer("client", client)
					seen, err := handshake(t, ServerTLS(s, []string{"shoal-peer/1"}, "shoal-peer/1"), PeerTLS(c, "server", "shoal-peer/1"))
					if err != nil || PeerName(seen) != "client" {
						t.Errorf("%q, %v", PeerName(seen), err)
					}
				})
			}
		}
	}
}

// TestExpiryIsSeenByEachClock: what is allowed to a wrong clock does not make a certificate good for ever.
func TestExpiryIsSeenByEachClock(t *testing.T) {
	_, peer := testCA(t)
	for _, ahead := range []string{"server", "client"} {
		s, c := peer("server"), peer("client")
		late := func() time.Time { return time.Now().Add(PeerLife + time.Hour) }
		if ahead == "server" {
			s.now = late
		} else {
			c.now = late
		}
		if _, err := handshake(t, ServerTLS(s, []string{"shoal-peer/1"}, "shoal-peer/1"), PeerTLS(c, "server", "shoal-peer/1")); err == nil {
			t.Errorf("a week and an hour later by the %s's clock the other's certificate is still good", ahead)
		}
	}
}

// TestACertificateFromAnotherTimeIsNotTaken: the Master's clock went back to where it was made, or this one's leapt ahead. The present
// certificate is worth more than one that nobody would believe.
func TestACertificateFromAnotherTimeIsNotTaken(t *testing.T) {
	ca, peer := testCA(t)
	id := peer("here")
	for _, wrong := range []time.Duration{-50 * 365 * 24 * time.Hour, 48 * time.Hour} {
		csr, err := id.Request([]net.IP{net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		req, err := ParseRequest(csr)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := ca.IssuePeer(req, PeerProfile{Name: "here"}, time.Now().Add(wrong))
		if err != nil {
			t.Fatal(err)
		}
		before := id.Certificate()
		if err := id.Replace(chain); err == nil || id.Certificate() != before {
			t.Errorf("%v wrong: %v", wrong, err)
		} else {
			t.Log(err)
		}
	}
}
