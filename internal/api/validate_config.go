package api

import (
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const immutableText = "field is immutable when `immutable` is set"

func validateConfigMap(c *corev1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	size := 0
	for _, k := range slices.Sorted(maps.Keys(c.Data)) {
		at := field.NewPath("data").Key(k)
		errs = append(errs, each(at, k, validation.IsConfigMapKey(k))...)
		if _, both := c.BinaryData[k]; both {
			errs = append(errs, field.Invalid(at, k, "duplicate of key present in binaryData"))
		}
		size += len(c.Data[k])
	}
	for _, k := range slices.Sorted(maps.Keys(c.BinaryData)) {
		errs = append(errs, each(field.NewPath("binaryData").Key(k), k, validation.IsConfigMapKey(k))...)
		size += len(c.BinaryData[k])
	}
	if size > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize))
	}
	return errs
}

func validateConfigMapUpdate(updated, old *corev1.ConfigMap) field.ErrorList {
	errs := frozen(old.Immutable, updated.Immutable)
	if isSet(old.Immutable) {
		if !isSame(updated.Data, old.Data) {
			errs = append(errs, field.Forbidden(field.NewPath("data"), immutableText))
		}
		if !isSame(updated.BinaryData, old.BinaryData) {
			errs = append(errs, field.Forbidden(field.NewPath("binaryData"), immutableText))
		}
	}
	return append(errs, validateConfigMap(updated)...)
}

func isSet(b *bool) bool { return b != nil && *b }

// frozen: what is immutable stays so.
func frozen(old, updated *bool) field.ErrorList {
	if isSet(old) && !isSet(updated) {
		return field.ErrorList{field.Forbidden(field.NewPath("immutable"), immutableText)}
	}
	return nil
}

func validateSecret(s *corev1.Secret) field.ErrorList {
	var errs field.ErrorList
	data := field.NewPath("data")
	size := 0
	for _, k := range slices.Sorted(maps.Keys(s.Data)) {
		errs = append(errs, each(data.Key(k), k, validation.IsConfigMapKey(k))...)
		size += len(s.Data[k])
	}
	if size > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(data, "", corev1.MaxSecretSize))
	}
	need := func(key string, at *field.Path) {
		if _, ok := s.Data[key]; !ok {
			errs = append(errs, field.Required(at, ""))
		}
	}
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		if s.Annotations[corev1.ServiceAccountNameKey] == "" {
			errs = append(errs, field.Required(field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey), ""))
		}
	case corev1.SecretTypeDockercfg:
		errs = append(errs, isJSON(s, corev1.DockerConfigKey)...)
	case corev1.SecretTypeDockerConfigJson:
		errs = append(errs, isJSON(s, corev1.DockerConfigJsonKey)...)
	case corev1.SecretTypeBasicAuth:
		_, user := s.Data[corev1.BasicAuthUsernameKey]
		_, password := s.Data[corev1.BasicAuthPasswordKey]
		if !user && !password {
			// One of the two is enough. The odd paths are what clients know.
			errs = append(errs, field.Required(data.Key("%s").Key(corev1.BasicAuthUsernameKey), ""))
			errs = append(errs, field.Required(data.Key("%s").Key(corev1.BasicAuthPasswordKey), ""))
		}
	case corev1.SecretTypeSSHAuth:
		if len(s.Data[corev1.SSHAuthPrivateKey]) == 0 {
			errs = append(errs, field.Required(data.Key("%s").Key(corev1.SSHAuthPrivateKey), ""))
		}
	case corev1.SecretTypeTLS:
		need(corev1.TLSCertKey, data.Key(corev1.TLSCertKey))
		need(corev1.TLSPrivateKeyKey, data.Key(corev1.TLSPrivateKeyKey))
	}
	return errs
}

func isJSON(s *corev1.Secret, key string) field.ErrorList {
	at := field.NewPath("data").Key(key)
	text, ok := s.Data[key]
	if !ok {
		return field.ErrorList{field.Required(at, "")}
	}
	var any map[string]any
	if err := json.Unmarshal(text, &any); err != nil {
		return field.ErrorList{field.Invalid(at, "<secret contents redacted>", err.Error())}
	}
	return nil
}

func validateSecretUpdate(updated, old *corev1.Secret) field.ErrorList {
	errs := unchanged(updated.Type, old.Type, field.NewPath("type"))
	errs = append(errs, frozen(old.Immutable, updated.Immutable)...)
	if isSet(old.Immutable) && !isSame(updated.Data, old.Data) {
		errs = append(errs, field.Forbidden(field.NewPath("data"), immutableText))
	}
	return append(errs, validateSecret(updated)...)
}
