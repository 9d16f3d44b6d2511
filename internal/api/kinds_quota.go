package api

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// The rows of what bounds a namespace. Nothing enforces them yet.
var (
	LimitRanges    = row[corev1.LimitRange, corev1.LimitRangeList](corev1.SchemeGroupVersion, "LimitRange", "limitranges", "limits").with(limitRangeRow)
	ResourceQuotas = row[corev1.ResourceQuota, corev1.ResourceQuotaList](corev1.SchemeGroupVersion, "ResourceQuota", "resourcequotas", "quota").with(resourceQuotaRow)
)

func limitRangeRow(k *Kind) {
	k.CreateOnUpdate = true
	k.Default = on(defaultLimitRange)
	// Limits need no name: clients may have left it out since the first version.
	k.PrepareCreate = on(func(l *corev1.LimitRange) { blank(&l.Name, string(uuid.NewUUID())) })
	k.Validate, k.ValidateUpdate = check(validateLimitRange), compare(validateLimitRangeUpdate)
	k.Columns, k.Cells = createdColumns(), cells(limitRangeCells)
}

func resourceQuotaRow(k *Kind) {
	k.Subresources = []Subresource{{Name: "status", Kind: "ResourceQuota", Verbs: statusVerbs()}}
	k.Default = on(defaultResourceQuota)
	k.PrepareCreate = on(func(q *corev1.ResourceQuota) { q.Status = corev1.ResourceQuotaStatus{} })
	k.PrepareUpdate = pair(func(updated, old *corev1.ResourceQuota) { updated.Status = old.Status })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateResourceQuota), compare(validateResourceQuotaUpdate), compare(validateResourceQuotaStatus)
	k.CopyStatus = pair(func(to, from *corev1.ResourceQuota) { to.Status = *from.Status.DeepCopy() })
	k.Columns, k.Cells = resourceQuotaColumns(), cells(resourceQuotaCells)
}

func defaultLimitRange(l *corev1.LimitRange) {
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		if item.Type == corev1.LimitTypeContainer {
			// A container that says nothing may have as much as it may have at most, and asks for as much as it may have.
			fillResources(&item.Default, item.Max)
			fillResources(&item.DefaultRequest, item.Default)
			fillResources(&item.DefaultRequest, item.Min)
		}
		for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
			roundResources(list)
		}
	}
}

// fillResources adds to a list what it lacks of another.
func fillResources(to *corev1.ResourceList, from corev1.ResourceList) {
	for name, q := range from {
		if _, ok := (*to)[name]; ok {
			continue
		}
		if *to == nil {
			*to = corev1.ResourceList{}
		}
		(*to)[name] = q.DeepCopy()
	}
}

func defaultResourceQuota(q *corev1.ResourceQuota) {
	for _, list := range []corev1.ResourceList{q.Spec.Hard, q.Status.Hard, q.Status.Used} {
		roundResources(list)
	}
}
