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

func TestAdmissionPolicies(t *testing.T) {
	const good = `{metadata: {name: p}, spec: {validations: [{expression: "true"}], matchConstraints: {resourceRules: [
		{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}}}`
	testCreation(t, ValidatingAdmissionPolicies, good,
		rule{"something to match", `{spec: {matchConstraints: null}}`, []string{"spec.matchConstraints: Required value"}},
		rule{"rules to match by", `{spec: {matchConstraints: {resourceRules: null}}}`, []string{"spec.matchConstraints.resourceRules: Required value"}},
		rule{"good rules", `{spec: {matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [SINK], resources: [pods], resourceNames: [a, a, b/c]}]}}}`, []string{
			`spec.matchConstraints.resourceRules[0].operations[0]: Unsupported value: "SINK"`, "spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value", "spec.matchConstraints.resourceRules[0].resourceNames[2]: Invalid value",
		}},
		rule{"something to say", `{spec: {validations: null}}`, []string{"spec.validations: Required value: validations or auditAnnotations must contain at least one item", "spec.auditAnnotations: Required value"}},
		rule{"an expression", `{spec: {validations: [{expression: " "}]}}`, []string{"spec.validations[0].expression: Required value: expression is not specified"}},
		rule{"a message of one line", `{spec: {validations: [{expression: "true", message: "a\nb"}]}}`, []string{"spec.validations[0].message: Invalid value"}},
		rule{"a reason that is one", `{spec: {validations: [{expression: "true", reason: Because}]}}`, []string{`spec.validations[0].reason: Unsupported value: "Because"`}},
		rule{"variables with names, once", `{spec: {variables: [{name: a, expression: "1"}, {name: a, expression: ""}, {name: a-b, expression: "1"}]}}`, []string{
			"spec.variables[1].name: Duplicate value", "spec.variables[1].expression: Required value", "spec.variables[2].name: Invalid value",
		}},
		rule{"a kind of parameters", `{spec: {paramKind: {apiVersion: a/b/c}}}`, []string{"spec.paramKind.apiVersion: Invalid value", "spec.paramKind.kind: Required value"}},
		rule{"a failure policy", `{spec: {failurePolicy: Hope}}`, []string{`spec.failurePolicy: Unsupported value: "Hope"`}},
		rule{"annotations", `{spec: {auditAnnotations: [{key: "a b", valueExpression: ""}]}}`, []string{"spec.auditAnnotations[0].key: Invalid value", "spec.auditAnnotations[0].valueExpression: Required value"}})
	testDefaults(t, ValidatingAdmissionPolicies, good, `{metadata: {generation: 1}, spec: {failurePolicy: Fail, matchConstraints: {matchPolicy: Equivalent,
		namespaceSelector: {}, objectSelector: {}, resourceRules: [{scope: "*"}]}}}`)
	testCells(t, ValidatingAdmissionPolicies, `{metadata: {name: p}, spec: {validations: [{}], paramKind: {apiVersion: v1, kind: ConfigMap}}}`, "p", int64(1), "v1/ConfigMap", "60m")
	if got := ValidatingAdmissionPolicies.Warnings(decodedNew(t, ValidatingAdmissionPolicies, good)); len(got) != 1 {
		t.Errorf("its writer hears %v", got)
	}
}

func TestAdmissionPolicyBindings(t *testing.T) {
	const good = `{metadata: {name: b}, spec: {policyName: p, validationActions: [Deny]}}`
	testCreation(t, ValidatingAdmissionPolicyBindings, good,
		rule{"of a policy", `{spec: {policyName: null}}`, []string{"spec.policyName: Required value"}},
		rule{"with a name", `{spec: {policyName: A_b}}`, []string{"spec.policyName: Invalid value"}},
		rule{"to do something", `{spec: {validationActions: null}}`, []string{"spec.validationActions: Required value"}},
		rule{"that can be done, once", `{spec: {validationActions: [Deny, Deny, Sink]}}`, []string{"spec.validationActions[1]: Duplicate value", `spec.validationActions[2]: Unsupported value: "Sink"`}},
		rule{"and said once", `{spec: {validationActions: [Deny, Warn]}}`, []string{"spec.validationActions: Invalid value"}},
		rule{"parameters by name or labels", `{spec: {paramRef: {name: a, selector: {}, parameterNotFoundAction: Deny}}}`, []string{"spec.paramRef.name: Forbidden"}},
		rule{"parameters by something", `{spec: {paramRef: {}}}`, []string{"spec.paramRef: Required value: one of name or selector", "spec.paramRef.parameterNotFoundAction: Required value"}})
	testCells(t, ValidatingAdmissionPolicyBindings, `{metadata: {name: b}, spec: {policyName: p, paramRef: {name: a, namespace: ns}}}`, "b", "p", "ns/a", "60m")
}
