package api

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func isPortName(s string, at *field.Path) field.ErrorList {
	return each(at, s, validation.IsValidPortName(s))
}

func validateEnv(env []corev1.EnvVar, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range env {
		v, at := &env[i], at.Index(i)
		if v.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, each(at.Child("name"), v.Name, validation.IsRelaxedEnvVarName(v.Name))...)
		}
		if v.ValueFrom != nil {
			errs = append(errs, validateEnvSource(v, at.Child("valueFrom"))...)
		}
	}
	return errs
}

func validateEnvSource(v *corev1.EnvVar, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	from, sources := v.ValueFrom, 0
	if from.FieldRef != nil {
		sources++
		errs = append(errs, validateFieldRef(from.FieldRef, envFields(), at.Child("fieldRef"))...)
	}
	if from.ResourceFieldRef != nil {
		sources++
		errs = append(errs, validateResourceRef(from.ResourceFieldRef, false, at.Child("resourceFieldRef"))...)
	}
	if r := from.ConfigMapKeyRef; r != nil {
		sources++
		errs = append(errs, validateKeyRef(r.Name, r.Key, at.Child("configMapKeyRef"))...)
	}
	if r := from.SecretKeyRef; r != nil {
		sources++
		errs = append(errs, validateKeyRef(r.Name, r.Key, at.Child("secretKeyRef"))...)
	}
	if r := from.FileKeyRef; r != nil {
		sources++
		at := at.Child("fileKeyRef")
		errs = append(errs, required(r.Key, at.Child("key"))...)
		errs = append(errs, required(r.VolumeName, at.Child("volumeName"))...)
		errs = append(errs, required(r.Path, at.Child("path"))...)
	}
	switch {
	case sources == 0:
		errs = append(errs, field.Invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"))
	case v.Value != "":
		errs = append(errs, field.Invalid(at, "", "may not be specified when `value` is not empty"))
	case sources > 1:
		errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func validateKeyRef(name, key string, at *field.Path) field.ErrorList {
	errs := isSubdomain(name, at.Child("name"))
	if key == "" {
		return append(errs, field.Required(at.Child("key"), ""))
	}
	return append(errs, each(at.Child("key"), key, validation.IsConfigMapKey(key))...)
}

func envFields() []string {
	return []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
}

func volumeFields() []string {
	return []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
}

// validateFieldRef checks a reference of the downward API: one of the named fields, or one label or annotation.
func validateFieldRef(r *corev1.ObjectFieldSelector, supported []string, at *field.Path) field.ErrorList {
	if r.APIVersion == "" {
		return field.ErrorList{field.Required(at.Child("apiVersion"), "")}
	}
	if r.FieldPath == "" {
		return field.ErrorList{field.Required(at.Child("fieldPath"), "")}
	}
	at = at.Child("fieldPath")
	if path, key, ok := splitSubscript(r.FieldPath); ok {
		switch path {
		case "metadata.annotations":
			return isQualifiedName(strings.ToLower(key), at)
		case "metadata.labels":
			return isQualifiedName(key, at)
		}
		return field.ErrorList{field.Invalid(at, path, "does not support subscript")}
	}
	if slices.Contains(supported, r.FieldPath) {
		return nil
	}
	if slices.Contains(append(envFields(), "metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName", "spec.hostNetwork", "status.phase", "status.nominatedNodeName"), r.FieldPath) {
		return field.ErrorList{field.NotSupported(at, r.FieldPath, supported)}
	}
	return field.ErrorList{field.Invalid(at, r.FieldPath, "error converting fieldPath: field label not supported: "+r.FieldPath)}
}

// splitSubscript takes "a.b['key']" apart.
func splitSubscript(path string) (field, key string, ok bool) {
	rest, ok := strings.CutSuffix(path, "']")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "['")
}

// validateResourceRef: a volume's file must say whose resource it shows.
func validateResourceRef(r *corev1.ResourceFieldSelector, volume bool, at *field.Path) field.ErrorList {
	if volume && r.ContainerName == "" {
		return field.ErrorList{field.Required(at.Child("containerName"), "")}
	}
	if r.Resource == "" {
		return field.ErrorList{field.Required(at.Child("resource"), "")}
	}
	kind, name, _ := strings.Cut(r.Resource, ".")
	if kind != "limits" && kind != "requests" {
		return notAResource(r.Resource, at)
	}
	units := map[string][]string{
		"cpu":               {"1m", "1"},
		"memory":            {"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"},
		"ephemeral-storage": {"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"},
	}
	allowed, ok := units[name]
	if !ok && !strings.HasPrefix(name, corev1.ResourceHugePagesPrefix) {
		return notAResource(r.Resource, at)
	}
	if !ok {
		allowed = units["memory"]
	}
	if d := r.Divisor.String(); d != "0" && !slices.Contains(allowed, d) {
		return field.ErrorList{field.Invalid(at.Child("divisor"), d, "only divisor's values "+strings.Join(allowed, ", ")+" are supported with the "+name+" resource")}
	}
	return nil
}

func notAResource(name string, at *field.Path) field.ErrorList {
	return field.ErrorList{field.NotSupported(at.Child("resource"), name, []string{
		"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory",
	})}
}

func validateEnvFrom(sources []corev1.EnvFromSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range sources {
		s, at := &sources[i], at.Index(i)
		if s.Prefix != "" {
			errs = append(errs, each(at.Child("prefix"), s.Prefix, validation.IsRelaxedEnvVarName(s.Prefix))...)
		}
		if s.ConfigMapRef != nil {
			errs = append(errs, isSubdomain(s.ConfigMapRef.Name, at.Child("configMapRef", "name"))...)
		}
		if s.SecretRef != nil {
			errs = append(errs, isSubdomain(s.SecretRef.Name, at.Child("secretRef", "name"))...)
		}
		switch {
		case s.ConfigMapRef == nil && s.SecretRef == nil:
			errs = append(errs, field.Invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"))
		case s.ConfigMapRef != nil && s.SecretRef != nil:
			errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}
