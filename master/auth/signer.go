package auth

import (
	"context"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
)

// CheckSigner returns why u may not approve for, or sign as, a signer: they need that verb for the resource "signers", by the signer's
// name or by DOMAIN/*.
func (z *Authorizer) CheckSigner(ctx context.Context, u *User, verb, signer string) error {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		a := &Attributes{Verb: verb, Group: certificatesv1.GroupName, Version: "*", Resource: "signers", Name: name, IsResource: true}
		if z.Authorize(ctx, u, a) == nil {
			return nil
		}
	}
	return fmt.Errorf("user not permitted to %s requests with signerName %q", verb, signer)
}
