package api

import (
	"cmp"
	"net"
	"path"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// source is one way to say where a persistent volume is.
type source struct {
	name  string
	set   bool
	check func(*field.Path) field.ErrorList
	// checkedAs is the name that problems inside it are reported under, when it is another.
	checkedAs string
}

// validatePersistentSource wants exactly one source of the named volume. The order decides which of two is one too many.
func validatePersistentSource(spec *corev1.PersistentVolumeSpec, volume string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	found := false
	for _, s := range persistentSources(spec, volume) {
		switch {
		case !s.set:
		case found && s.name != "flexVolume": // which was forgotten once, and is let through since
			errs = append(errs, field.Forbidden(at.Child(s.name), "may not specify more than 1 volume type"))
		default:
			found = true
			errs = append(errs, s.check(at.Child(cmp.Or(s.checkedAs, s.name)))...)
			if s.name == "local" && spec.NodeAffinity == nil {
				errs = append(errs, field.Required(at.Child("nodeAffinity"), "Local volume requires node affinity"))
			}
		}
	}
	if !found {
		errs = append(errs, field.Required(at, "must specify a volume type"))
	}
	return errs
}

func persistentSources(s *corev1.PersistentVolumeSpec, volume string) []source {
	return []source{
		{name: "hostPath", set: s.HostPath != nil, check: func(at *field.Path) field.ErrorList { return validateHostPath(s.HostPath, at) }},
		{name: "gcePersistentDisk", checkedAs: "persistentDisk", set: s.GCEPersistentDisk != nil, check: func(at *field.Path) field.ErrorList {
			return append(required(s.GCEPersistentDisk.PDName, at.Child("pdName")), isPartition(s.GCEPersistentDisk.Partition, at.Child("partition"))...)
		}},
		{name: "awsElasticBlockStore", set: s.AWSElasticBlockStore != nil, check: func(at *field.Path) field.ErrorList {
			return append(required(s.AWSElasticBlockStore.VolumeID, at.Child("volumeID")), isPartition(s.AWSElasticBlockStore.Partition, at.Child("partition"))...)
		}},
		{name: "glusterfs", set: s.Glusterfs != nil, check: func(at *field.Path) field.ErrorList { return validateGlusterfs(s.Glusterfs, at) }},
		{name: "flocker", set: s.Flocker != nil, check: func(at *field.Path) field.ErrorList { return validateFlocker(s.Flocker, at) }},
		{name: "nfs", set: s.NFS != nil, check: func(at *field.Path) field.ErrorList { return validateNFS(s.NFS, at) }},
		{name: "rbd", set: s.RBD != nil, check: func(at *field.Path) field.ErrorList {
			return append(someOf(s.RBD.CephMonitors, at.Child("monitors")), required(s.RBD.RBDImage, at.Child("image"))...)
		}},
		{name: "quobyte", set: s.Quobyte != nil, check: func(at *field.Path) field.ErrorList { return validateQuobyte(s.Quobyte, at) }},
		{name: "cephFS", checkedAs: "cephfs", set: s.CephFS != nil, check: func(at *field.Path) field.ErrorList { return someOf(s.CephFS.Monitors, at.Child("monitors")) }},
		{name: "iscsi", set: s.ISCSI != nil, check: func(at *field.Path) field.ErrorList { return validateISCSI(s.ISCSI, volume, at) }},
		{name: "cinder", set: s.Cinder != nil, check: func(at *field.Path) field.ErrorList {
			errs := required(s.Cinder.VolumeID, at.Child("volumeID"))
			if r := s.Cinder.SecretRef; r != nil {
				errs = append(errs, namesBoth(r.Name, r.Namespace, at.Child("secretRef"))...)
			}
			return errs
		}},
		{name: "fc", set: s.FC != nil, check: func(at *field.Path) field.ErrorList { return validateFC(s.FC, at) }},
		{name: "flexVolume", set: s.FlexVolume != nil, check: func(at *field.Path) field.ErrorList { return validateFlex(s.FlexVolume, at) }},
		{name: "azureFile", set: s.AzureFile != nil, check: func(at *field.Path) field.ErrorList {
			errs := append(required(s.AzureFile.SecretName, at.Child("secretName")), required(s.AzureFile.ShareName, at.Child("shareName"))...)
			return append(errs, required(deref(s.AzureFile.SecretNamespace, "-"), at.Child("secretNamespace"))...)
		}},
		{name: "vsphereVolume", set: s.VsphereVolume != nil, check: func(at *field.Path) field.ErrorList {
			return required(s.VsphereVolume.VolumePath, at.Child("volumePath"))
		}},
		{name: "photonPersistentDisk", set: s.PhotonPersistentDisk != nil, check: func(at *field.Path) field.ErrorList {
			return required(s.PhotonPersistentDisk.PdID, at.Child("pdID"))
		}},
		{name: "portworxVolume", set: s.PortworxVolume != nil, check: func(at *field.Path) field.ErrorList {
			return required(s.PortworxVolume.VolumeID, at.Child("volumeID"))
		}},
		{name: "azureDisk", set: s.AzureDisk != nil, check: func(at *field.Path) field.ErrorList { return validateAzureDisk(s.AzureDisk, at) }},
		{name: "scaleIO", set: s.ScaleIO != nil, check: func(at *field.Path) field.ErrorList {
			errs := append(required(s.ScaleIO.Gateway, at.Child("gateway")), required(s.ScaleIO.System, at.Child("system"))...)
			return append(errs, required(s.ScaleIO.VolumeName, at.Child("volumeName"))...)
		}},
		{name: "local", set: s.Local != nil, check: func(at *field.Path) field.ErrorList {
			if s.Local.Path == "" {
				return field.ErrorList{field.Required(at.Child("path"), "")}
			}
			return noUpwards(s.Local.Path, at.Child("path"))
		}},
		{name: "storageos", set: s.StorageOS != nil, check: func(at *field.Path) field.ErrorList { return validateStorageOS(s.StorageOS, at) }},
		{name: "csi", set: s.CSI != nil, check: func(at *field.Path) field.ErrorList { return validateCSISource(s.CSI, at) }},
	}
}

func someOf(list []string, at *field.Path) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	return nil
}

func namesBoth(name, namespace string, at *field.Path) field.ErrorList {
	return append(required(name, at.Child("name")), required(namespace, at.Child("namespace"))...)
}

func isPartition(n int32, at *field.Path) field.ErrorList {
	if n < 0 || n > 255 {
		return field.ErrorList{field.Invalid(at, n, validation.InclusiveRangeError(0, 255))}
	}
	return nil
}

func validateNFS(n *corev1.NFSVolumeSource, at *field.Path) field.ErrorList {
	errs := append(required(n.Server, at.Child("server")), required(n.Path, at.Child("path"))...)
	if !path.IsAbs(n.Path) {
		errs = append(errs, field.Invalid(at.Child("path"), n.Path, "must be an absolute path"))
	}
	return errs
}

func validateGlusterfs(g *corev1.GlusterfsPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := append(required(g.EndpointsName, at.Child("endpoints")), required(g.Path, at.Child("path"))...)
	if n := g.EndpointsNamespace; n != nil && *n == "" {
		errs = append(errs, field.Invalid(at.Child("endpointsNamespace"), *n, "if the endpointnamespace is set, it must be a valid namespace name"))
	} else if n != nil {
		errs = append(errs, each(at.Child("endpointsNamespace"), *n, apivalidation.ValidateNamespaceName(*n, false))...)
	}
	return errs
}

func validateFlocker(f *corev1.FlockerVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if f.DatasetName == "" && f.DatasetUUID == "" {
		errs = append(errs, field.Required(at, "one of datasetName and datasetUUID is required"))
	}
	if f.DatasetName != "" && f.DatasetUUID != "" {
		errs = append(errs, field.Invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
	}
	if strings.Contains(f.DatasetName, "/") {
		errs = append(errs, field.Invalid(at.Child("datasetName"), f.DatasetName, "must not contain '/'"))
	}
	return errs
}

func validateQuobyte(q *corev1.QuobyteVolumeSource, at *field.Path) field.ErrorList {
	const pairs = "must be a host:port pair or multiple pairs separated by commas"
	var errs field.ErrorList
	switch {
	case q.Registry == "":
		errs = append(errs, field.Required(at.Child("registry"), pairs))
	case len(q.Tenant) >= 65:
		errs = append(errs, field.Required(at.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters"))
	default:
		for pair := range strings.SplitSeq(q.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				errs = append(errs, field.Invalid(at.Child("registry"), q.Registry, pairs))
			}
		}
	}
	return append(errs, required(q.Volume, at.Child("volume"))...)
}

// isISCSIName knows the three ways of naming an end of a connection: by domain, by EUI and by NAA.
func isISCSIName(s string) bool {
	return regexp.MustCompile(`^(iqn.*\d{4}-\d{2}\.[[:alnum:].-]+:[^,;*&$|\s]+|eui.[[:alnum:]]{16}|naa.[[:alnum:]]{32})$`).MatchString(s)
}

func validateISCSI(i *corev1.ISCSIPersistentVolumeSource, volume string, at *field.Path) field.ErrorList {
	const most = 64 // characters of the name that is made of the two
	errs := required(i.TargetPortal, at.Child("targetPortal"))
	if i.InitiatorName != nil && len(volume+":"+i.TargetPortal) > most {
		errs = append(errs, field.Invalid(at.Child("targetportal"), i.TargetPortal, "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."))
	}
	if i.IQN == "" {
		errs = append(errs, field.Required(at.Child("iqn"), ""))
	} else if !isISCSIName(i.IQN) {
		errs = append(errs, field.Invalid(at.Child("iqn"), i.IQN, "must be valid format"))
	}
	errs = append(errs, isPartition(i.Lun, at.Child("lun"))...)
	switch {
	case i.SecretRef != nil:
		errs = append(errs, required(i.SecretRef.Name, at.Child("secretRef", "name"))...)
	case i.DiscoveryCHAPAuth || i.SessionCHAPAuth:
		errs = append(errs, field.Required(at.Child("secretRef"), ""))
	}
	if i.InitiatorName != nil && !isISCSIName(*i.InitiatorName) {
		errs = append(errs, field.Invalid(at.Child("initiatorname"), *i.InitiatorName, "must be valid format"))
	}
	return errs
}

func validateFC(f *corev1.FCVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(f.TargetWWNs) == 0 && len(f.WWIDs) == 0 {
		errs = append(errs, field.Required(at.Child("targetWWNs"), "must specify either targetWWNs or wwids, but not both"))
	}
	if len(f.TargetWWNs) > 0 && len(f.WWIDs) > 0 {
		errs = append(errs, field.Invalid(at.Child("targetWWNs"), f.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	}
	switch {
	case len(f.TargetWWNs) == 0:
	case f.Lun == nil:
		errs = append(errs, field.Required(at.Child("lun"), "lun is required if targetWWNs is specified"))
	default:
		errs = append(errs, isPartition(*f.Lun, at.Child("lun"))...)
	}
	return errs
}

func validateFlex(f *corev1.FlexPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := required(f.Driver, at.Child("driver"))
	for _, name := range sortedNames(f.Options) {
		domain, _, _ := strings.Cut(name, "/")
		domain = "." + strings.ToLower(domain)
		if strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io") {
			errs = append(errs, field.Invalid(at.Child("options").Key(name), name, "kubernetes.io and k8s.io namespaces are reserved"))
		}
	}
	return errs
}

func sortedNames(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func validateAzureDisk(a *corev1.AzureDiskVolumeSource, at *field.Path) field.ErrorList {
	errs := append(required(a.DiskName, at.Child("diskName")), required(a.DataDiskURI, at.Child("diskURI"))...)
	errs = append(errs, optionalOneOf(a.CachingMode, at.Child("cachingMode"), corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)...)
	errs = append(errs, optionalOneOf(a.Kind, at.Child("kind"), corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk, corev1.AzureSharedBlobDisk)...)
	switch {
	case a.Kind == nil:
	case *a.Kind == corev1.AzureManagedDisk && !strings.HasPrefix(a.DataDiskURI, "/subscriptions/"):
		errs = append(errs, field.NotSupported(at.Child("diskURI"), a.DataDiskURI, []string{"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"}))
	case *a.Kind != corev1.AzureManagedDisk && !strings.HasPrefix(a.DataDiskURI, "https://"):
		errs = append(errs, field.NotSupported(at.Child("diskURI"), a.DataDiskURI, []string{"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"}))
	}
	return errs
}

func validateStorageOS(s *corev1.StorageOSPersistentVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.VolumeName == "" {
		errs = append(errs, field.Required(at.Child("volumeName"), ""))
	} else {
		errs = append(errs, isLabel(s.VolumeName, at.Child("volumeName"))...)
	}
	if s.VolumeNamespace != "" {
		errs = append(errs, isLabel(s.VolumeNamespace, at.Child("volumeNamespace"))...)
	}
	if r := s.SecretRef; r != nil {
		errs = append(errs, namesBoth(r.Name, r.Namespace, at.Child("secretRef"))...)
	}
	return errs
}

func validateCSISource(c *corev1.CSIPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := isDriverName(c.Driver, at.Child("driver"))
	errs = append(errs, required(c.VolumeHandle, at.Child("volumeHandle"))...)
	for _, r := range []struct {
		name string
		ref  *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", c.ControllerPublishSecretRef},
		{"controllerExpandSecretRef", c.ControllerExpandSecretRef},
		{"nodePublishSecretRef", c.NodePublishSecretRef},
		{"nodeExpandSecretRef", c.NodeExpandSecretRef},
	} {
		if r.ref == nil {
			continue
		}
		at := at.Child(r.name)
		if r.ref.Name != "" {
			errs = append(errs, isSubdomain(r.ref.Name, at.Child("name"))...)
		}
		if r.ref.Namespace != "" {
			errs = append(errs, isLabel(r.ref.Namespace, at.Child("namespace"))...)
		}
		errs = append(errs, namesBoth(r.ref.Name, r.ref.Namespace, at)...)
	}
	return errs
}

// isDriverName wants a domain name, in letters of any case.
func isDriverName(name string, at *field.Path) field.ErrorList {
	const most = 63
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if len(name) > most {
		errs = append(errs, field.TooLong(at, "", most))
	}
	return append(errs, each(at, name, validation.IsDNS1123Subdomain(strings.ToLower(name)))...)
}
