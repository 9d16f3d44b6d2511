package api

import (
	"fmt"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateCSIDriver(d *storagev1.CSIDriver) field.ErrorList {
	s, at := &d.Spec, field.NewPath("spec")
	var errs field.ErrorList
	// The name of the first is wrong, but what clients know.
	for _, f := range []struct {
		name  string
		value *bool
	}{
		{"attachedRequired", s.AttachRequired},
		{"podInfoOnMount", s.PodInfoOnMount},
		{"storageCapacity", s.StorageCapacity},
		{"seLinuxMount", s.SELinuxMount},
		{"preventPodSchedulingIfMissing", s.PreventPodSchedulingIfMissing},
	} {
		if f.value == nil {
			errs = append(errs, field.Required(at.Child(f.name), ""))
		}
	}
	errs = append(errs, optionalOneOf(s.FSGroupPolicy, at.Child("fsGroupPolicy"), storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)...)
	errs = append(errs, validateTokenRequests(s.TokenRequests, at.Child("tokenRequests"))...)
	for i := range s.VolumeLifecycleModes {
		errs = append(errs, optionalOneOf(&s.VolumeLifecycleModes[i], at.Child("volumeLifecycleModes"), storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral)...)
	}
	if p := s.NodeAllocatableUpdatePeriodSeconds; p != nil && *p < 10 {
		errs = append(errs, field.Invalid(at.Child("nodeAllocatableUpdatePeriodSeconds"), *p, "must be greater than or equal to 10 seconds"))
	}
	if s.ServiceAccountTokenInSecrets != nil && len(s.TokenRequests) == 0 {
		errs = append(errs, field.Invalid(at.Child("serviceAccountTokenInSecrets"), *s.ServiceAccountTokenInSecrets, "serviceAccountTokenInSecrets is set but no tokenRequests are specified"))
	}
	return errs
}

func validateTokenRequests(requests []storagev1.TokenRequest, at *field.Path) field.ErrorList {
	const tenMinutes = 10 * 60
	var errs field.ErrorList
	audiences := seen[string]{}
	for i, r := range requests {
		at := at.Index(i)
		if audiences.add(r.Audience) {
			errs = append(errs, field.Duplicate(at.Child("audience"), r.Audience))
			continue
		}
		at = at.Child("expirationSeconds")
		switch {
		case r.ExpirationSeconds == nil:
		case *r.ExpirationSeconds < tenMinutes:
			errs = append(errs, field.Invalid(at, *r.ExpirationSeconds, "may not specify a duration less than 10 minutes"))
		case *r.ExpirationSeconds > 1<<32:
			errs = append(errs, field.Invalid(at, *r.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	return errs
}

func validateCSIDriverUpdate(updated, old *storagev1.CSIDriver) field.ErrorList {
	errs := validateCSIDriver(updated)
	errs = append(errs, unchanged(updated.Spec.AttachRequired, old.Spec.AttachRequired, field.NewPath("spec", "attachedRequired"))...)
	return append(errs, unchanged(updated.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes, field.NewPath("spec", "volumeLifecycleModes"))...)
}

func validateCSINode(n *storagev1.CSINode) field.ErrorList {
	const longestID = 256
	var errs field.ErrorList
	names := seen[string]{}
	for i := range n.Spec.Drivers {
		d, at := &n.Spec.Drivers[i], field.NewPath("spec", "drivers").Index(i)
		errs = append(errs, isDriverName(d.Name, at.Child("name"))...)
		errs = append(errs, required(d.NodeID, at.Child("nodeID"))...)
		if len(d.NodeID) > longestID {
			errs = append(errs, field.Invalid(at.Child("nodeID"), d.NodeID, fmt.Sprintf("must be %d characters or less", longestID)))
		}
		if a := d.Allocatable; a != nil && a.Count != nil {
			errs = append(errs, notNegative(int64(*a.Count), at.Child("allocatable", "count"))...)
		}
		if names.add(d.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), d.Name))
		}
		keys := seen[string]{}
		for _, key := range d.TopologyKeys {
			errs = append(errs, required(key, at)...)
			if keys.add(key) {
				errs = append(errs, field.Duplicate(at, key))
			}
			errs = append(errs, isQualifiedName(key, at)...)
		}
	}
	return errs
}

// validateCSINodeUpdate: drivers come and go, but one that stays is the same, except for how many volumes it can have.
func validateCSINodeUpdate(updated, old *storagev1.CSINode) field.ErrorList {
	errs := validateCSINode(updated)
	for _, was := range old.Spec.Drivers {
		for _, now := range updated.Spec.Drivers {
			if was.Name == now.Name {
				was.Allocatable, now.Allocatable = nil, nil
				errs = append(errs, unchanged(now, was, field.NewPath("spec", "drivers"))...)
			}
		}
	}
	return errs
}

func validateCSIStorageCapacity(c *storagev1.CSIStorageCapacity) field.ErrorList {
	errs := isSelector(c.NodeTopology, field.NewPath("nodeTopology"))
	errs = append(errs, isSubdomain(c.StorageClassName, field.NewPath("storageClassName"))...)
	if c.Capacity != nil && c.Capacity.Sign() < 0 {
		errs = append(errs, field.Invalid(field.NewPath("capacity"), c.Capacity.String(), "must be greater than or equal to 0"))
	}
	return errs
}

func validateCSIStorageCapacityUpdate(updated, old *storagev1.CSIStorageCapacity) field.ErrorList {
	errs := validateCSIStorageCapacity(updated)
	errs = append(errs, unchanged(updated.NodeTopology, old.NodeTopology, field.NewPath("nodeTopology"))...)
	return append(errs, unchanged(updated.StorageClassName, old.StorageClassName, field.NewPath("storageClassName"))...)
}
