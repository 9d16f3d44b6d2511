package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"
)

// A cluster's epoch is raised when it is recovered from what one machine had. It stands in the peers' certificates, as an
// organizational unit, so that no machine that was left behind can speak to the peers of the recovered cluster as a peer, nor they to
// it. Epoch 0 is not written.

const epochPrefix = "epoch "

func epochUnit(epoch uint64) []string {
	if epoch == 0 {
		return nil
	}
	return []string{epochPrefix + strconv.FormatUint(epoch, 10)}
}

// epoch reads the epoch of a peer's certificate.
func epoch(cert *x509.Certificate) uint64 {
	for _, unit := range cert.Subject.OrganizationalUnit {
		if text, ok := strings.CutPrefix(unit, epochPrefix); ok {
			n, _ := strconv.ParseUint(text, 10, 64) // the CA wrote it
			return n
		}
	}
	return 0
}

// Epoch is the epoch of the cluster that the certificate is good in.
func (i *Identity) Epoch() uint64 { return epoch(i.Certificate().Leaf) }

// EpochError is why two peers of a cluster do not speak with each other.
type EpochError struct {
	Peer         string // the other one
	Theirs, Ours uint64
}

func (e *EpochError) Error() string {
	if e.Theirs > e.Ours {
		return fmt.Sprintf("the cluster was recovered at peer %s (epoch %d), without this machine (epoch %d)", e.Peer, e.Theirs, e.Ours)
	}
	return fmt.Sprintf("peer %s is from before the cluster was recovered (its epoch is %d, the cluster's %d)", e.Peer, e.Theirs, e.Ours)
}

func (i *Identity) sameEpoch(cert *x509.Certificate) error {
	if theirs, ours := epoch(cert), i.Epoch(); theirs != ours {
		return &EpochError{Peer: peerName(cert), Theirs: theirs, Ours: ours}
	}
	return nil
}

// ReturnTLS dials any peer of the identity's cluster, whatever its epoch, and shows the identity's certificate.
func ReturnTLS(id *Identity, protocols ...string) *tls.Config {
	var hashes []string
	for _, ca := range id.CAs() {
		hashes = append(hashes, Hash(ca))
	}
	c := pinnedTLS(hashes, protocols)
	c.GetClientCertificate = id.certificateFor
	return c
}
