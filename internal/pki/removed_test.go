package pki

import (
	"errors"
	"testing"
)

// TestARemovedMachineIsRefusedAtBothEnds, whatever it speaks, and nobody else is.
func TestARemovedMachineIsRefusedAtBothEnds(t *testing.T) {
	_, peer := testCA(t)
	one, stolen, two := peer("one"), peer("stolen"), peer("two")
	hash, err := HashKey(&stolen.Key().PublicKey)
	if err != nil || hash != Hash(stolen.Certificate().Leaf) {
		t.Fatalf("the hash of a key is %s, of its certificate %s: %v", hash, Hash(stolen.Certificate().Leaf), err)
	}
	serve := ServerTLS(one, []string{"shoal-peer/1", "http/1.1"}, "shoal-peer/1")
	if _, err := handshake(t, serve, PeerTLS(stolen, "one", "shoal-peer/1")); err != nil {
		t.Fatalf("before: %v", err)
	}
	one.Refuse(map[string]bool{hash: true})
	var removed *RemovedError
	for _, protocol := range []string{"shoal-peer/1", "http/1.1"} {
		if _, err := handshake(t, serve, PeerTLS(stolen, "one", protocol)); !errors.As(err, &removed) || removed.User != "system:node:stolen" {
			t.Errorf("it calls with %s: %v", protocol, err)
		}
	}
	if _, err := handshake(t, ServerTLS(stolen, []string{"shoal-peer/1"}, "shoal-peer/1"), PeerTLS(one, "stolen", "shoal-peer/1")); !errors.As(err, &removed) {
		t.Errorf("it is called: %v", err)
	}
	if _, err := handshake(t, serve, PeerTLS(two, "one", "shoal-peer/1")); err != nil {
		t.Errorf("another one: %v", err)
	}
	if _, err := handshake(t, serve, PinnedTLS(Hash(one.CA()), "http/1.1")); err != nil {
		t.Errorf("one without a certificate: %v", err)
	}
	if !one.Refused(stolen.Certificate().Leaf) || one.Refused(two.Certificate().Leaf) || two.Refused(stolen.Certificate().Leaf) {
		t.Error("who is refused is not told")
	}
}
