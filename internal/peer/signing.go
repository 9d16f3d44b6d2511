package peer

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"

	"shoal/master/admission"
	masterapi "shoal/master/api"
	"shoal/master/auth"
)

// admitSigning notes in a new request for a certificate who makes it, and lets only those decide about it and sign it who may.
func (a *authority) admitSigning(ctx context.Context, u *auth.User, r *admission.Request) error {
	csr, ok := r.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return nil
	}
	if r.Operation == admission.Create {
		if full := masterapi.UserFrom(ctx); full != nil {
			setRequester(&csr.Spec, full)
		}
		return subjectAllowed(&csr.Spec)
	}
	old, ok := r.OldObject.(*certificatesv1.CertificateSigningRequest)
	switch {
	case r.Subresource == "approval":
		return a.authz.CheckSigner(ctx, u, "approve", csr.Spec.SignerName)
	case r.Subresource == "status" && ok && !bytes.Equal(csr.Status.Certificate, old.Status.Certificate):
		return a.authz.CheckSigner(ctx, u, "sign", csr.Spec.SignerName)
	}
	return nil
}

func setRequester(s *certificatesv1.CertificateSigningRequestSpec, u *masterapi.User) {
	s.Username, s.UID, s.Groups, s.Extra = u.Name, u.UID, slices.Clone(u.Groups), nil
	for k, v := range u.Extra {
		if s.Extra == nil {
			s.Extra = map[string]certificatesv1.ExtraValue{}
		}
		s.Extra[k] = slices.Clone(v)
	}
}

// subjectAllowed keeps the group that may do everything out of certificates that are asked for like this.
func subjectAllowed(s *certificatesv1.CertificateSigningRequestSpec) error {
	if s.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	block, _ := pem.Decode(s.Request)
	if block == nil {
		return nil // which validation says
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil && slices.Contains(csr.Subject.Organization, auth.MastersGroup) {
		return fmt.Errorf("use of %s signer with %s group is not allowed", s.SignerName, auth.MastersGroup)
	}
	return nil
}
