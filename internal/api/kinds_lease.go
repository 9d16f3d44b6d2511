package api

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Leases is the row of coordination.k8s.io: who leads, and until when.
var Leases = row[coordinationv1.Lease, coordinationv1.LeaseList](coordinationv1.SchemeGroupVersion, "Lease", "leases").with(leaseRow)

func leaseRow(k *Kind) {
	k.CreateOnUpdate = true
	// Two who want the same lease must not overwrite each other unseen.
	k.NeedsVersion = true
	k.PrepareCreate = on(withoutStrategy)
	k.PrepareUpdate = pair(func(updated, _ *coordinationv1.Lease) { withoutStrategy(updated) })
	k.Validate = check(validateLease)
	k.ValidateUpdate = compare(func(updated, _ *coordinationv1.Lease) field.ErrorList { return validateLease(updated) })
	k.Columns, k.Cells = leaseColumns(), cells(leaseCells)
}

// withoutStrategy drops what belongs to coordinated elections, which Kubernetes has switched off unless told otherwise.
func withoutStrategy(l *coordinationv1.Lease) {
	l.Spec.Strategy, l.Spec.PreferredHolder = nil, nil
}

func validateLease(l *coordinationv1.Lease) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec")
	if d := l.Spec.LeaseDurationSeconds; d != nil && *d <= 0 {
		errs = append(errs, field.Invalid(at.Child("leaseDurationSeconds"), *d, "must be greater than 0"))
	}
	if n := l.Spec.LeaseTransitions; n != nil {
		errs = append(errs, notNegative(int64(*n), at.Child("leaseTransitions"))...)
	}
	return errs
}

func leaseColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(), column("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]), ageColumn(),
	}
}

func leaseCells(l *coordinationv1.Lease, now time.Time) []any {
	return []any{l.Name, deref(l.Spec.HolderIdentity, ""), since(l.CreationTimestamp, now)}
}

// deref returns what a pointer points to, or another value when it is nil.
func deref[T any](p *T, other T) T {
	if p == nil {
		return other
	}
	return *p
}
