package peer

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"shoal/internal/api"
	"shoal/master/admission"
	"shoal/master/auth"
)

func signingRequest(t *testing.T, signer string, groups ...string) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane", Organization: groups}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		SignerName: signer, Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
	}}
}

// Whoever may only make requests neither approves nor signs them, and nobody asks for a certificate that may do everything.
func TestWhoDecidesAboutCertificates(t *testing.T) {
	a := &authority{authz: auth.NewAuthorizer(nil)}
	jane, admin := &admission.User{Name: "jane"}, &admission.User{Name: "admin", Groups: []string{auth.MastersGroup}}
	const crew = "example.com/crew"
	signed := signingRequest(t, crew)
	signed.Status.Certificate = []byte("x")
	for name, tc := range map[string]struct {
		user    *admission.User
		op      admission.Operation
		sub     string
		object  *certificatesv1.CertificateSigningRequest
		allowed bool
	}{
		"anyone asks":                    {jane, admission.Create, "", signingRequest(t, crew), true},
		"not to be a master":             {admin, admission.Create, "", signingRequest(t, certificatesv1.KubeAPIServerClientSignerName, auth.MastersGroup), false},
		"of another signer one may":      {jane, admission.Create, "", signingRequest(t, crew, auth.MastersGroup), true},
		"not anyone approves":            {jane, admission.Update, "approval", signingRequest(t, crew), false},
		"an administrator approves":      {admin, admission.Update, "approval", signingRequest(t, crew), true},
		"not anyone signs":               {jane, admission.Update, "status", signed, false},
		"an administrator signs":         {admin, admission.Update, "status", signed, true},
		"conditions are no certificates": {jane, admission.Update, "status", signingRequest(t, crew), true},
	} {
		err := a.Admit(t.Context(), &admission.Request{
			Operation: tc.op, Kind: api.CertificateSigningRequests, Subresource: tc.sub, Object: tc.object, OldObject: signingRequest(t, crew), User: tc.user,
		})
		if (err == nil) != tc.allowed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
