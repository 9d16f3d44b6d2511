package api

import "testing"

// signingRequest is for jane, with a key that nobody has.
const signingRequest = `LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIS01IRUNBUUF3RHpFTk1Bc0dBMVVFQXd3RWFtRnVaVEJaTUJNR0J5cUdTTTQ5QWdFR0NDcUdTTTQ5QXdFSApBMElBQk9ibTBiR2J1dEsxRzFrNWZxK0dUeWEyS3ZYb0p5cHZtWisyMGdQN3ZvN3o1djhYalN5aXNoRnd2TUFhCm1MMEtZKytZdkNNTWkrVXpWaEY2THY2Qm1EdWdBREFLQmdncWhrak9QUVFEQWdOSkFEQkdBaUVBN0hTdWtmeHMKSGVteDYvdExtdVE4TkRtTWRqbDhia1E5YmlueEFjR0hwV0FDSVFEYnpPd3J4Nkh1Qmh0OFR0aFdTelliYkhOVgp5eHFxYVN1L1NzZ29GdTllWEE9PQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K`

func TestCertificateSigningRequests(t *testing.T) {
	const good = `{metadata: {name: "Jane's own"}, spec: {request: ` + signingRequest + `, signerName: example.com/crew, usages: [client auth]}}`
	testCreation(t, CertificateSigningRequests, good,
		rule{"a request in PEM", `{spec: {request: aGVsbG8=}}`, []string{"spec.request: Invalid value"}},
		rule{"usages", `{spec: {usages: null}}`, []string{"spec.usages: Required value"}},
		rule{"usages that exist, once", `{spec: {usages: [sailing, any, any]}}`, []string{`spec.usages[0]: Unsupported value: "sailing"`, `spec.usages[2]: Duplicate value: "any"`}},
		rule{"a signer", `{spec: {signerName: null}}`, []string{"spec.signerName: Required value"}},
		rule{"of a domain", `{spec: {signerName: crew}}`, []string{`spec.signerName: Invalid value: "crew": must be a fully qualified domain and path`}},
		rule{"of two parts", `{spec: {signerName: com/crew}}`, []string{`spec.signerName: Invalid value: "com": should be a domain with at least two segments separated by dots`}},
		rule{"in small letters", `{spec: {signerName: Example.com/Crew}}`, []string{`spec.signerName: Invalid value: "Example.com": validating label "Example"`, `spec.signerName: Invalid value: "Crew": validating label "Crew"`}},
		rule{"not the one of before", `{spec: {signerName: kubernetes.io/legacy-unknown}}`, []string{`spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed`}},
		rule{"for ten minutes or longer", `{spec: {expirationSeconds: 599}}`, []string{"spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)"}})
	testUpdate(t, CertificateSigningRequests, "", good,
		rule{"what was asked stays", `{spec: {usages: [], signerName: x}, metadata: {labels: {a: b}}}`, nil})
	testUpdate(t, CertificateSigningRequests, "approval", good,
		rule{"approved", `{status: {conditions: [{type: Approved, status: "True"}]}}`, nil},
		rule{"not both", `{status: {conditions: [{type: Approved, status: "True"}, {type: Denied, status: "True"}]}}`, []string{`status.conditions[1].type: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive`}},
		rule{"once", `{status: {conditions: [{type: Denied, status: "True"}, {type: Denied, status: "True"}]}}`, []string{"status.conditions[1].type: Duplicate value"}},
		rule{"never halfway", `{status: {conditions: [{type: Approved, status: "False"}]}}`, []string{`status.conditions[0].status: Unsupported value: "False"`}})
	testUpdate(t, CertificateSigningRequests, "status", good,
		rule{"a certificate is PEM", `{status: {certificate: aGVsbG8=}}`, []string{"status.certificate: Invalid value"}},
		rule{"of certificates only", `{status: {certificate: ` + signingRequest + `}}`, []string{`status.certificate: Invalid value: "<certificate data>": only CERTIFICATE PEM blocks are allowed`}},
		rule{"a condition has a type", `{status: {conditions: [{status: "True"}]}}`, []string{"status.conditions[0].type: Required value"}})
	testCells(t, CertificateSigningRequests, `{metadata: {name: a}, spec: {signerName: example.com/crew, username: jane}}`, "a", "60m", "example.com/crew", "jane", "<none>", "Pending")
	testCells(t, CertificateSigningRequests, `{metadata: {name: a}, spec: {expirationSeconds: 3600}, status: {certificate: eA==, conditions: [{type: Approved}]}}`,
		"a", "60m", "", "", "60m", "Approved,Issued")
	testCells(t, CertificateSigningRequests, `{metadata: {name: a}, status: {conditions: [{type: Failed}]}}`, "a", "60m", "", "", "<none>", "Pending,Failed")
	testCells(t, CertificateSigningRequests, `{metadata: {name: a}, status: {conditions: [{type: Approved}, {type: Denied}]}}`, "a", "60m", "", "", "<none>", "Denied")
}

// A signer sets the certificate and what went wrong, an approver the verdict, and neither undoes what the other did.
func TestVerdictAndCertificateAreApart(t *testing.T) {
	s := newServer()
	o, err := s.create(CertificateSigningRequests, "", toJSON(t, `{metadata: {name: a}, spec: {request: `+signingRequest+`, signerName: example.com/crew, usages: [any]}, status: {conditions: [{type: Approved, status: "True"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	patch := func(sub, change, want string) {
		t.Helper()
		var err error
		if o, err = s.patch(CertificateSigningRequests, "", "a", sub, "application/merge-patch+json", toJSON(t, change)); err != nil {
			t.Fatal(err)
		}
		if got := CertificateSigningRequests.Cells(o, o.GetCreationTimestamp().Time)[5]; got != want {
			t.Errorf("after %s %s: %v, want %s", sub, change, got, want)
		}
	}
	patch("", `{metadata: {labels: {a: b}}, status: {conditions: [{type: Approved, status: "True"}]}}`, "Pending")
	patch("status", `{status: {conditions: [{type: Approved, status: "True"}]}}`, "Pending")
	patch("approval", `{status: {certificate: aGVsbG8=, conditions: [{type: Approved, status: "True"}]}}`, "Approved")
	patch("status", `{status: {conditions: [{type: Failed, status: "True"}]}}`, "Approved,Failed")
	if _, err := s.patch(CertificateSigningRequests, "", "a", "approval", "application/merge-patch+json", toJSON(t, `{status: {conditions: null}}`)); err == nil {
		t.Error("a verdict was taken back")
	}
}
