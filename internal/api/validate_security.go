package api

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validatePodSecurity(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	at = at.Child("securityContext")
	var errs field.ErrorList
	if s.HostPID && isSet(s.ShareProcessNamespace) {
		errs = append(errs, field.Invalid(at.Child("shareProcessNamespace"), *s.ShareProcessNamespace, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	if s.HostUsers != nil && !*s.HostUsers {
		for _, host := range []struct {
			name   string
			shared bool
		}{{"hostNetwork", s.HostNetwork}, {"HostPID", s.HostPID}, {"HostIPC", s.HostIPC}} {
			if host.shared {
				errs = append(errs, field.Forbidden(at.Child(host.name), "when `hostUsers` is false"))
			}
		}
	}
	c := s.SecurityContext
	if c == nil {
		return errs
	}
	errs = append(errs, isUser(c.RunAsUser, at.Child("runAsUser"))...)
	errs = append(errs, isGroup(c.RunAsGroup, at.Child("runAsGroup"))...)
	errs = append(errs, isGroup(c.FSGroup, at.Child("fsGroup"))...)
	for i := range c.SupplementalGroups {
		errs = append(errs, isGroup(&c.SupplementalGroups[i], at.Child("supplementalGroups").Index(i))...)
	}
	errs = append(errs, optionalOneOf(c.FSGroupChangePolicy, at.Child("fsGroupChangePolicy"), corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
	errs = append(errs, optionalOneOf(c.SupplementalGroupsPolicy, at.Child("supplementalGroupsPolicy"), corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	names := seen[string]{}
	for i, sysctl := range c.Sysctls {
		at := at.Child("sysctls").Index(i).Child("name")
		switch {
		case sysctl.Name == "":
			errs = append(errs, field.Required(at, ""))
		case !isSysctl(sysctl.Name):
			errs = append(errs, field.Invalid(at, sysctl.Name, "must have at most 253 characters and match words of [a-z0-9-_] separated by . or /"))
		case names.add(strings.ReplaceAll(sysctl.Name, "/", ".")):
			errs = append(errs, field.Duplicate(at, sysctl.Name))
		}
	}
	errs = append(errs, validateSeccomp(c.SeccompProfile, at.Child("seccompProfile"))...)
	return append(errs, validateAppArmor(c.AppArmorProfile, at.Child("appArmorProfile"))...)
}

func isSysctl(name string) bool {
	if len(name) > 253 {
		return false
	}
	for word := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '.' || r == '/' }) {
		if strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || strings.HasPrefix(word, "-") || strings.HasSuffix(word, "-") {
			return false
		}
	}
	return !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, ".") && !strings.Contains(name, "..")
}

func isUser(id *int64, at *field.Path) field.ErrorList {
	if id == nil {
		return nil
	}
	return each(at, *id, validation.IsValidUserID(*id))
}

func isGroup(id *int64, at *field.Path) field.ErrorList {
	if id == nil {
		return nil
	}
	return each(at, *id, validation.IsValidGroupID(*id))
}

func validateContainerSecurity(c *corev1.SecurityContext, at *field.Path) field.ErrorList {
	if c == nil {
		return nil
	}
	errs := isUser(c.RunAsUser, at.Child("runAsUser"))
	errs = append(errs, isGroup(c.RunAsGroup, at.Child("runAsGroup"))...)
	errs = append(errs, optionalOneOf(c.ProcMount, at.Child("procMount"), corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
	if c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation {
		if isSet(c.Privileged) {
			errs = append(errs, field.Invalid(at, c, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if c.Capabilities != nil {
			for _, name := range c.Capabilities.Add {
				if name == "CAP_SYS_ADMIN" {
					errs = append(errs, field.Invalid(at, c, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
				}
			}
		}
	}
	errs = append(errs, validateSeccomp(c.SeccompProfile, at.Child("seccompProfile"))...)
	return append(errs, validateAppArmor(c.AppArmorProfile, at.Child("appArmorProfile"))...)
}

func validateSeccomp(p *corev1.SeccompProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := oneOf(p.Type, at.Child("type"), corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	file := at.Child("localhostProfile")
	switch {
	case p.Type == corev1.SeccompProfileTypeLocalhost && p.LocalhostProfile == nil:
		errs = append(errs, field.Required(file, "must be set when seccomp type is Localhost"))
	case p.Type == corev1.SeccompProfileTypeLocalhost:
		errs = append(errs, staysBelow(strings.TrimSpace(*p.LocalhostProfile), file)...)
	case p.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(file, *p.LocalhostProfile, "can only be set when seccomp type is Localhost"))
	}
	return errs
}

func validateAppArmor(p *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := oneOf(p.Type, at.Child("type"), corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	name := at.Child("localhostProfile")
	switch {
	case p.Type == corev1.AppArmorProfileTypeLocalhost && p.LocalhostProfile == nil:
		errs = append(errs, field.Required(name, "must be set when AppArmor type is Localhost"))
	case p.Type == corev1.AppArmorProfileTypeLocalhost && strings.TrimSpace(*p.LocalhostProfile) == "":
		errs = append(errs, field.Required(name, "must be set when AppArmor type is Localhost"))
	case p.Type == corev1.AppArmorProfileTypeLocalhost && strings.TrimSpace(*p.LocalhostProfile) != *p.LocalhostProfile:
		errs = append(errs, field.Invalid(name, *p.LocalhostProfile, "must not be padded with whitespace"))
	case p.Type != corev1.AppArmorProfileTypeLocalhost && p.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(name, *p.LocalhostProfile, "can only be set when AppArmor type is Localhost"))
	}
	return errs
}
