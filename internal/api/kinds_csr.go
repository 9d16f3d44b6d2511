package api

import (
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CertificateSigningRequests is the row of certificates.k8s.io. Requests can be made, approved and denied; nobody signs them yet but a
// signer that somebody brings.
var CertificateSigningRequests = row[certificatesv1.CertificateSigningRequest, certificatesv1.CertificateSigningRequestList](certificatesv1.SchemeGroupVersion, "CertificateSigningRequest", "certificatesigningrequests", "csr").with(signingRequestRow)

func signingRequestRow(k *Kind) {
	k.Namespaced = false
	k.Subresources = []Subresource{
		{Name: "approval", Kind: "CertificateSigningRequest", Verbs: statusVerbs()},
		{Name: "status", Kind: "CertificateSigningRequest", Verbs: statusVerbs()},
	}
	k.ValidateName = func(string, bool) []string { return nil } // any will do, as ever
	k.PrepareCreate = on(func(r *certificatesv1.CertificateSigningRequest) {
		r.Status = certificatesv1.CertificateSigningRequestStatus{}
	})
	// What was asked for stays what it was, silently.
	k.PrepareUpdate = pair(func(updated, old *certificatesv1.CertificateSigningRequest) {
		updated.Spec, updated.Status = old.Spec, old.Status
	})
	k.CopyStatus, k.CopyApproval = pair(copySigningStatus), pair(copyApproval)
	k.PrepareStatus = pair(stampConditions)
	k.Validate = check(func(r *certificatesv1.CertificateSigningRequest) field.ErrorList {
		return append(validateSigningSpec(&r.Spec), validateSigningStatus(&r.Status)...)
	})
	k.ValidateUpdate = compare(func(updated, _ *certificatesv1.CertificateSigningRequest) field.ErrorList {
		return validateSigningStatus(&updated.Status)
	})
	k.ValidateStatus = compare(validateSigningUpdate)
	k.Fields = fieldSet(func(r *certificatesv1.CertificateSigningRequest) fields.Set {
		return fields.Set{"spec.signerName": r.Spec.SignerName}
	})
	k.Columns, k.Cells = signingRequestColumns(), cells(signingRequestCells)
}

// isVerdict reports whether a condition says what an approver decided, which only the approval subresource may set.
func isVerdict(t certificatesv1.RequestConditionType) bool {
	return t == certificatesv1.CertificateApproved || t == certificatesv1.CertificateDenied
}

// copySigningStatus leaves the verdicts to the approval subresource. To an object without a status it copies nothing of them.
func copySigningStatus(to, from *certificatesv1.CertificateSigningRequest) {
	var verdicts []certificatesv1.CertificateSigningRequestCondition
	for _, c := range to.Status.Conditions {
		if isVerdict(c.Type) {
			verdicts = append(verdicts, c)
		}
	}
	to.Status = *from.Status.DeepCopy()
	kept := to.Status.Conditions[:0]
	for _, c := range to.Status.Conditions {
		if !isVerdict(c.Type) {
			kept = append(kept, c)
		}
	}
	to.Status.Conditions = append(verdicts, kept...)
	if len(to.Status.Conditions) == 0 {
		to.Status.Conditions = nil
	}
}

// copyApproval copies the conditions. The certificate is the signer's to set.
func copyApproval(to, from *certificatesv1.CertificateSigningRequest) {
	to.Status.Conditions = from.Status.DeepCopy().Conditions
}

// stampConditions notes when conditions came up or changed, where the client did not.
func stampConditions(updated, old *certificatesv1.CertificateSigningRequest) {
	now := metav1.Now()
	for i := range updated.Status.Conditions {
		c := &updated.Status.Conditions[i]
		was := conditionOf(old, c.Type)
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if c.LastTransitionTime.IsZero() {
			c.LastTransitionTime = now
			if was != nil && was.Status == c.Status && !was.LastTransitionTime.IsZero() {
				c.LastTransitionTime = was.LastTransitionTime
			}
		}
	}
}

func conditionOf(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	for i := range r.Status.Conditions {
		if r.Status.Conditions[i].Type == t {
			return &r.Status.Conditions[i]
		}
	}
	return nil
}

func signingRequestColumns() []metav1.TableColumnDefinition {
	spec := certificatesv1.CertificateSigningRequestSpec{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		nameColumn(), ageColumn(), column("SignerName", spec["signerName"]), column("Requestor", spec["request"]),
		column("RequestedDuration", spec["expirationSeconds"]), column("Condition", certificatesv1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"]),
	}
}

func signingRequestCells(r *certificatesv1.CertificateSigningRequest, now time.Time) []any {
	asked := "<none>"
	if s := r.Spec.ExpirationSeconds; s != nil {
		asked = duration.HumanDuration(time.Duration(*s) * time.Second)
	}
	return []any{r.Name, since(r.CreationTimestamp, now), r.Spec.SignerName, r.Spec.Username, asked, signingState(r)}
}

// signingState is what has become of a request, as Kubernetes says it.
func signingState(r *certificatesv1.CertificateSigningRequest) string {
	said := "Pending"
	switch {
	case conditionOf(r, certificatesv1.CertificateDenied) != nil:
		said = "Denied"
	case conditionOf(r, certificatesv1.CertificateApproved) != nil:
		said = "Approved"
	}
	if conditionOf(r, certificatesv1.CertificateFailed) != nil {
		said += ",Failed"
	}
	if len(r.Status.Certificate) > 0 {
		said += ",Issued"
	}
	return said
}
