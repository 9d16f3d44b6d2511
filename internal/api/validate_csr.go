package api

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// keyUsages are those of certificates.k8s.io/v1.
func keyUsages() []certificatesv1.KeyUsage {
	return []certificatesv1.KeyUsage{
		certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment, certificatesv1.UsageKeyEncipherment,
		certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment, certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign,
		certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly, certificatesv1.UsageAny, certificatesv1.UsageServerAuth,
		certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning, certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME,
		certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel, certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping,
		certificatesv1.UsageOCSPSigning, certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
	}
}

func validateSigningSpec(s *certificatesv1.CertificateSigningRequestSpec) field.ErrorList {
	at := field.NewPath("spec")
	var errs field.ErrorList
	if err := isSigningRequest(s.Request); err != nil {
		errs = append(errs, field.Invalid(at.Child("request"), s.Request, err.Error()))
	}
	if len(s.Usages) == 0 {
		errs = append(errs, field.Required(at.Child("usages"), ""))
	}
	had := seen[certificatesv1.KeyUsage]{}
	for i, u := range s.Usages {
		errs = append(errs, optionalOneOf(&u, at.Child("usages").Index(i), keyUsages()...)...)
		if had.add(u) {
			errs = append(errs, field.Duplicate(at.Child("usages").Index(i), u))
		}
	}
	if s.SignerName == "kubernetes.io/legacy-unknown" {
		errs = append(errs, field.Invalid(at.Child("signerName"), s.SignerName, "the legacy signerName is not allowed via this API version"))
	} else {
		errs = append(errs, validateSignerName(s.SignerName, at.Child("signerName"))...)
	}
	if n := s.ExpirationSeconds; n != nil && *n < 600 {
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *n, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	return errs
}

// isSigningRequest wants PKCS#10 in PEM, signed by the key that it is about.
func isSigningRequest(data []byte) error {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	return r.CheckSignature()
}

// validateSignerName wants DOMAIN/PATH, where the domain has at least two parts.
func validateSignerName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	domain, path, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(path, "/") {
		return field.ErrorList{field.Invalid(at, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	var errs field.ErrorList
	labels := strings.Split(domain, ".")
	for _, l := range labels {
		for _, why := range validation.IsDNS1123Label(l) {
			errs = append(errs, field.Invalid(at, domain, fmt.Sprintf("validating label %q: %s", l, why)))
		}
	}
	for _, l := range strings.Split(path, ".") {
		for _, why := range validation.IsDNS1123Subdomain(l) {
			errs = append(errs, field.Invalid(at, path, fmt.Sprintf("validating label %q: %s", l, why)))
		}
	}
	if len(labels) < 2 {
		errs = append(errs, field.Invalid(at, domain, "should be a domain with at least two segments separated by dots"))
	}
	const longest = 253 + 1 + 63 + 1 + 253 // as Kubernetes: domain "/" namespace "." name
	if len(name) > longest {
		errs = append(errs, field.TooLong(at, name, longest))
	}
	return errs
}

func validateSigningStatus(s *certificatesv1.CertificateSigningRequestStatus) field.ErrorList {
	at := field.NewPath("status", "conditions")
	var errs field.ErrorList
	had := seen[certificatesv1.RequestConditionType]{}
	for i := range s.Conditions {
		c, at := &s.Conditions[i], at.Index(i)
		if c.Type == "" {
			errs = append(errs, field.Required(at.Child("type"), ""))
		}
		switch {
		case isVerdict(c.Type), c.Type == certificatesv1.CertificateFailed:
			errs = append(errs, oneOf(c.Status, at.Child("status"), corev1.ConditionTrue)...)
		default:
			errs = append(errs, oneOf(c.Status, at.Child("status"), corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown)...)
		}
		other := certificatesv1.CertificateApproved
		if c.Type == certificatesv1.CertificateApproved {
			other = certificatesv1.CertificateDenied
		}
		if isVerdict(c.Type) && had[other] {
			errs = append(errs, field.Invalid(at.Child("type"), c.Type, "Approved and Denied conditions are mutually exclusive"))
		}
		if had.add(c.Type) {
			errs = append(errs, field.Duplicate(at.Child("type"), c.Type))
		}
	}
	if len(s.Certificate) > 0 {
		if err := isCertificateChain(s.Certificate); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("status", "certificate"), "<certificate data>", err.Error()))
		}
	}
	return errs
}

// isCertificateChain wants PEM blocks of certificates and nothing else but text between them.
func isCertificateChain(data []byte) error {
	n := 0
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		}
		if len(block.Headers) > 0 {
			return errors.New("no PEM block headers are permitted")
		}
		certs, err := x509.ParseCertificates(block.Bytes)
		if err != nil {
			return err
		}
		if len(certs) == 0 {
			return errors.New("found CERTIFICATE PEM block containing 0 certificates")
		}
		data = rest
		n++
	}
	if n == 0 {
		return errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}

// validateSigningUpdate is for status and approval: what was decided stands.
func validateSigningUpdate(updated, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	errs := validateSigningStatus(&updated.Status)
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		if conditionOf(old, t) != nil && conditionOf(updated, t) == nil {
			errs = append(errs, field.Forbidden(field.NewPath("status", "conditions"), fmt.Sprintf("updates may not remove a condition of type %q", t)))
		}
	}
	if was := old.Status.Certificate; len(was) > 0 && string(was) != string(updated.Status.Certificate) {
		errs = append(errs, field.Forbidden(field.NewPath("status", "certificate"), "updates may not change a non-empty certificate"))
	}
	return errs
}
