package pki

import (
	"crypto/x509"
	"fmt"
)

// RemovedError is why a certificate is refused that is good otherwise: its machine was taken out of the cluster.
type RemovedError struct{ User string }

func (e *RemovedError) Error() string {
	return fmt.Sprintf("the certificate of %s is of a machine that was removed from the cluster", e.User)
}

// Refuse has certificates refused whose public keys have these hashes (see Hash), in the place of those of an earlier call, in handshakes from
// now on. Connections that are there go on.
func (i *Identity) Refuse(hashes map[string]bool) { i.refused.Store(&hashes) }

// Refused reports whether a certificate is of a removed machine.
func (i *Identity) Refused(cert *x509.Certificate) bool {
	all := i.refused.Load()
	return all != nil && len(*all) > 0 && (*all)[Hash(cert)]
}

func (i *Identity) checkRemoved(chain []*x509.Certificate) error {
	if len(chain) > 0 && i.Refused(chain[0]) {
		return &RemovedError{User: chain[0].Subject.CommonName}
	}
	return nil
}
