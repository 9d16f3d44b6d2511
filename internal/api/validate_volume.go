package api

import (
	"path"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateVolumes also returns the volumes that containers may mount.
func validateVolumes(volumes []corev1.Volume, at *field.Path) (map[string]*corev1.Volume, field.ErrorList) {
	var errs field.ErrorList
	usable := map[string]*corev1.Volume{}
	for i := range volumes {
		v, at := &volumes[i], at.Index(i)
		bad := validateVolumeSource(v, at)
		if v.Name == "" {
			bad = append(bad, field.Required(at.Child("name"), ""))
		} else {
			bad = append(bad, isLabel(v.Name, at.Child("name"))...)
		}
		if _, dup := usable[v.Name]; dup {
			bad = append(bad, field.Duplicate(at.Child("name"), v.Name))
		}
		if len(bad) == 0 {
			usable[v.Name] = v
		}
		errs = append(errs, bad...)
	}
	return usable, errs
}

// volumeSources returns the names of the sources that are set, in the order they are declared.
func volumeSources(s *corev1.VolumeSource) []string {
	var set []string
	v := reflect.ValueOf(*s)
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			set = append(set, name)
		}
	}
	return set
}

func validateVolumeSource(v *corev1.Volume, at *field.Path) field.ErrorList {
	set := volumeSources(&v.VolumeSource)
	if len(set) == 0 {
		return field.ErrorList{field.Required(at, "must specify a volume type")}
	}
	// The order in which Kubernetes looks decides which of two is one too many.
	if len(set) > 1 {
		first := set[0]
		if v.EmptyDir != nil {
			first = "emptyDir"
		}
		var errs field.ErrorList
		for _, name := range set {
			if name != first {
				errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 volume type"))
			}
		}
		return errs
	}
	at = at.Child(set[0])
	s := &v.VolumeSource
	switch {
	case s.EmptyDir != nil:
		return validateEmptyDir(s.EmptyDir, at)
	case s.HostPath != nil:
		return validateHostPath(s.HostPath, at)
	case s.Secret != nil:
		errs := required(s.Secret.SecretName, at.Child("secretName"))
		errs = append(errs, isMode(s.Secret.DefaultMode, true, at.Child("defaultMode"))...)
		return append(errs, validateItems(s.Secret.Items, at.Child("items"))...)
	case s.ConfigMap != nil:
		errs := required(s.ConfigMap.Name, at.Child("name"))
		errs = append(errs, isMode(s.ConfigMap.DefaultMode, true, at.Child("defaultMode"))...)
		return append(errs, validateItems(s.ConfigMap.Items, at.Child("items"))...)
	case s.DownwardAPI != nil:
		errs := isMode(s.DownwardAPI.DefaultMode, true, at.Child("defaultMode"))
		for i := range s.DownwardAPI.Items {
			errs = append(errs, validateDownwardFile(&s.DownwardAPI.Items[i], at)...)
		}
		return errs
	case s.Projected != nil:
		return validateProjected(s.Projected, at)
	case s.PersistentVolumeClaim != nil:
		return required(s.PersistentVolumeClaim.ClaimName, at.Child("claimName"))
	case s.Image != nil:
		return validateImageVolume(s.Image, at)
	}
	return validateRemoteVolume(s, at)
}

func validateEmptyDir(e *corev1.EmptyDirVolumeSource, at *field.Path) field.ErrorList {
	if e.SizeLimit != nil && e.SizeLimit.Sign() < 0 {
		return field.ErrorList{field.Forbidden(at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")}
	}
	return nil
}

func validateImageVolume(i *corev1.ImageVolumeSource, at *field.Path) field.ErrorList {
	errs := required(i.Reference, at.Child("reference"))
	return append(errs, oneOf(i.PullPolicy, at.Child("pullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
}

func validateHostPath(h *corev1.HostPathVolumeSource, at *field.Path) field.ErrorList {
	if h.Path == "" {
		return field.ErrorList{field.Required(at.Child("path"), "")}
	}
	errs := noUpwards(h.Path, at.Child("path"))
	return append(errs, optionalOneOf(h.Type, at.Child("type"),
		corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory,
		corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket)...)
}

// validateRemoteVolume checks storage that this program does not mount but stores faithfully.
func validateRemoteVolume(s *corev1.VolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case s.NFS != nil:
		errs = required(s.NFS.Server, at.Child("server"))
		errs = append(errs, required(s.NFS.Path, at.Child("path"))...)
		if !path.IsAbs(s.NFS.Path) {
			errs = append(errs, field.Invalid(at.Child("path"), s.NFS.Path, "must be an absolute path"))
		}
	case s.CSI != nil:
		errs = required(s.CSI.Driver, at.Child("driver"))
	case s.Ephemeral != nil:
		if s.Ephemeral.VolumeClaimTemplate == nil {
			errs = field.ErrorList{field.Required(at.Child("volumeClaimTemplate"), "")}
		}
	case s.ISCSI != nil:
		errs = required(s.ISCSI.TargetPortal, at.Child("targetPortal"))
		errs = append(errs, required(s.ISCSI.IQN, at.Child("iqn"))...)
	case s.RBD != nil:
		if len(s.RBD.CephMonitors) == 0 {
			errs = append(errs, field.Required(at.Child("monitors"), ""))
		}
		errs = append(errs, required(s.RBD.RBDImage, at.Child("image"))...)
	case s.CephFS != nil:
		if len(s.CephFS.Monitors) == 0 {
			errs = append(errs, field.Required(at.Child("monitors"), ""))
		}
	case s.GitRepo != nil:
		errs = required(s.GitRepo.Repository, at.Child("repository"))
	case s.GCEPersistentDisk != nil:
		errs = required(s.GCEPersistentDisk.PDName, at.Child("pdName"))
	case s.AWSElasticBlockStore != nil:
		errs = required(s.AWSElasticBlockStore.VolumeID, at.Child("volumeID"))
	case s.Glusterfs != nil:
		errs = required(s.Glusterfs.EndpointsName, at.Child("endpoints"))
		errs = append(errs, required(s.Glusterfs.Path, at.Child("path"))...)
	case s.Cinder != nil:
		errs = required(s.Cinder.VolumeID, at.Child("volumeID"))
	case s.FlexVolume != nil:
		errs = required(s.FlexVolume.Driver, at.Child("driver"))
	case s.AzureFile != nil:
		errs = required(s.AzureFile.SecretName, at.Child("secretName"))
		errs = append(errs, required(s.AzureFile.ShareName, at.Child("shareName"))...)
	}
	return errs
}

func validateProjected(p *corev1.ProjectedVolumeSource, at *field.Path) field.ErrorList {
	errs := isMode(p.DefaultMode, true, at.Child("defaultMode"))
	paths := seen[string]{}
	claim := func(file string, at *field.Path) {
		if file != "" && paths.add(file) {
			errs = append(errs, field.Invalid(at, file, "conflicting duplicate paths"))
		}
	}
	for i := range p.Sources {
		s, at := &p.Sources[i], at.Child("sources").Index(i)
		count := 0
		if s.Secret != nil {
			count++
			errs = append(errs, required(s.Secret.Name, at.Child("secret", "name"))...)
			errs = append(errs, validateItems(s.Secret.Items, at.Child("secret", "items"))...)
			for _, item := range s.Secret.Items {
				claim(item.Path, at)
			}
		}
		if s.ConfigMap != nil {
			count++
			errs = append(errs, required(s.ConfigMap.Name, at.Child("configMap", "name"))...)
			errs = append(errs, validateItems(s.ConfigMap.Items, at.Child("configMap", "items"))...)
			for _, item := range s.ConfigMap.Items {
				claim(item.Path, at)
			}
		}
		if s.DownwardAPI != nil {
			count++
			for j := range s.DownwardAPI.Items {
				errs = append(errs, validateDownwardFile(&s.DownwardAPI.Items[j], at.Child("downwardAPI"))...)
				claim(s.DownwardAPI.Items[j].Path, at)
			}
		}
		if s.ServiceAccountToken != nil {
			count++
			errs = append(errs, validateTokenFile(s.ServiceAccountToken, at.Child("serviceAccountToken"))...)
			claim(s.ServiceAccountToken.Path, at)
		}
		if s.ClusterTrustBundle != nil || s.PodCertificate != nil {
			count++
		}
		if count > 1 {
			errs = append(errs, field.Forbidden(at, "may not specify more than 1 volume type per source"))
		}
	}
	return errs
}

func validateTokenFile(t *corev1.ServiceAccountTokenProjection, at *field.Path) field.ErrorList {
	const tenMinutes = 10 * 60
	var errs field.ErrorList
	if t.ExpirationSeconds != nil && *t.ExpirationSeconds < tenMinutes {
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *t.ExpirationSeconds, "may not specify a duration less than 10 minutes"))
	}
	if t.ExpirationSeconds != nil && *t.ExpirationSeconds > 1<<32 {
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *t.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds"))
	}
	return append(errs, required(t.Path, at.Child("path"))...)
}

func validateItems(items []corev1.KeyToPath, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, item := range items {
		at := at.Index(i)
		errs = append(errs, required(item.Key, at.Child("key"))...)
		errs = append(errs, required(item.Path, at.Child("path"))...)
		errs = append(errs, staysBelowVisibly(item.Path, at.Child("path"))...)
		errs = append(errs, isMode(item.Mode, false, at.Child("mode"))...)
	}
	return errs
}

func validateDownwardFile(f *corev1.DownwardAPIVolumeFile, at *field.Path) field.ErrorList {
	errs := required(f.Path, at.Child("path"))
	errs = append(errs, staysBelowVisibly(f.Path, at.Child("path"))...)
	switch {
	case f.FieldRef != nil && f.ResourceFieldRef != nil:
		errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
	case f.FieldRef != nil:
		errs = append(errs, validateFieldRef(f.FieldRef, volumeFields(), at.Child("fieldRef"))...)
	case f.ResourceFieldRef != nil:
		errs = append(errs, validateResourceRef(f.ResourceFieldRef, true, at.Child("resourceFieldRef"))...)
	default:
		errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
	}
	return append(errs, isMode(f.Mode, false, at.Child("mode"))...)
}

// isMode checks file permissions; one that must be there may not be nil.
func isMode(m *int32, must bool, at *field.Path) field.ErrorList {
	switch {
	case m == nil && must:
		return field.ErrorList{field.Required(at, "")}
	case m != nil && (*m < 0 || *m > 0o777):
		return field.ErrorList{field.Invalid(at, *m, "must be a number between 0 and 0777 (octal), both inclusive")}
	}
	return nil
}

// staysBelow wants a relative path that does not climb out.
func staysBelow(p string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if path.IsAbs(p) {
		errs = append(errs, field.Invalid(at, p, "must be a relative path"))
	}
	return append(errs, noUpwards(p, at)...)
}

// staysBelowVisibly also keeps clear of the names that mark a volume's own files.
func staysBelowVisibly(p string, at *field.Path) field.ErrorList {
	errs := staysBelow(p, at)
	if strings.HasPrefix(p, "..") && len(errs) == 0 {
		errs = append(errs, field.Invalid(at, p, "must not start with '..'"))
	}
	return errs
}

func noUpwards(p string, at *field.Path) field.ErrorList {
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
		}
	}
	return nil
}

// validateImagePullSecrets is lenient: an empty name names nothing, and that is accepted.
func validateImagePullSecrets(refs []corev1.LocalObjectReference, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, r := range refs {
		if r.Name != "" {
			errs = append(errs, each(at.Index(i).Child("name"), r.Name, validation.IsDNS1123Subdomain(r.Name))...)
		}
	}
	return errs
}
