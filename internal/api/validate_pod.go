package api

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validatePod(p *corev1.Pod) field.ErrorList {
	at := field.NewPath("spec")
	errs := validatePodAnnotations(p)
	errs = append(errs, validatePodSpec(&p.Spec, at)...)
	if len(p.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(at.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(at.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return append(errs, validateAddresses(&p.Status)...)
}

func validatePodAnnotations(p *corev1.Pod) field.ErrorList {
	value, ok := p.Annotations[corev1.MirrorPodAnnotationKey]
	if !ok || p.Spec.NodeName != "" {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata", "annotations").Key(corev1.MirrorPodAnnotationKey), value,
		"must set spec.nodeName if mirror pod annotation is set")}
}

// validateAddresses checks the pod's own addresses: at most one of each family.
func validateAddresses(s *corev1.PodStatus) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("status", "podIPs")
	known := seen[string]{}
	for i, ip := range s.PodIPs {
		errs = append(errs, isIP(ip.IP, at.Index(i))...)
		if known.add(ip.IP) {
			errs = append(errs, field.Duplicate(at.Index(i), ip))
		}
	}
	if len(s.PodIPs) > 2 {
		errs = append(errs, field.Invalid(at, s.PodIPs, "may specify no more than one IP for each IP family"))
	}
	return errs
}

// validatePodSpec checks the spec of a pod or of a template.
func validatePodSpec(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	volumes, errs := validateVolumes(s.Volumes, at.Child("volumes"))
	errs = append(errs, validateContainers(s, volumes, at)...)
	errs = append(errs, oneOf(s.RestartPolicy, at.Child("restartPolicy"), corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	errs = append(errs, validateDNS(s, at)...)
	errs = append(errs, metavalidation.ValidateLabels(s.NodeSelector, at.Child("nodeSelector"))...)
	errs = append(errs, validatePodSecurity(s, at)...)
	errs = append(errs, validateScheduling(s, at)...)
	errs = append(errs, validatePodNames(s, at)...)
	if s.TerminationGracePeriodSeconds == nil {
		errs = append(errs, field.Required(at.Child("terminationGracePeriodSeconds"), ""))
	}
	if d := s.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > 1<<31-1) {
		errs = append(errs, field.Invalid(at.Child("activeDeadlineSeconds"), *d, validation.InclusiveRangeError(1, 1<<31-1)))
	}
	for i := range s.HostAliases {
		at := at.Child("hostAliases")
		errs = append(errs, isIP(s.HostAliases[i].IP, at.Child("ip"))...)
		for _, name := range s.HostAliases[i].Hostnames {
			errs = append(errs, isSubdomain(name, at.Child("hostnames"))...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Overhead)) {
		errs = append(errs, validateQuantity(name, s.Overhead[name], at.Child("overhead").Key(string(name)))...)
	}
	if s.OS != nil {
		errs = append(errs, oneOf(s.OS.Name, at.Child("os", "name"), corev1.Linux, corev1.Windows)...)
	}
	errs = append(errs, validateImagePullSecrets(s.ImagePullSecrets, at.Child("imagePullSecrets"))...)
	gates := at.Child("readinessGates")
	for i, g := range s.ReadinessGates {
		errs = append(errs, isQualifiedName(string(g.ConditionType), gates.Index(i).Child("conditionType"))...)
	}
	return errs
}

// validatePodNames checks the fields that name other things.
func validatePodNames(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	optional := func(name string, at *field.Path, check func(string, *field.Path) field.ErrorList) {
		if name != "" {
			errs = append(errs, check(name, at)...)
		}
	}
	optional(s.ServiceAccountName, at.Child("serviceAccountName"), isSubdomain)
	optional(s.NodeName, at.Child("nodeName"), isSubdomain)
	optional(s.Hostname, at.Child("hostname"), isLabel)
	optional(s.Subdomain, at.Child("subdomain"), isLabel)
	optional(s.PriorityClassName, at.Child("priorityClassName"), isSubdomain)
	optional(s.SchedulerName, at.Child("schedulerName"), isSubdomain)
	if s.RuntimeClassName != nil {
		errs = append(errs, isSubdomain(*s.RuntimeClassName, at.Child("runtimeClassName"))...)
	}
	if s.HostnameOverride != nil {
		errs = append(errs, validateHostnameOverride(s, at)...)
	}
	errs = append(errs, optionalOneOf(s.PreemptionPolicy, at.Child("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	return errs
}

func validateHostnameOverride(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	name, at2 := *s.HostnameOverride, at.Child("hostnameOverride")
	errs := isSubdomain(name, at2)
	if len(name) > 64 {
		errs = append(errs, field.TooLong(at2, name, 64))
	}
	if s.HostNetwork {
		errs = append(errs, field.Forbidden(at2, "may not be specified when hostNetwork is true"))
	}
	if isSet(s.SetHostnameAsFQDN) {
		errs = append(errs, field.Forbidden(at2, "may not be specified when setHostnameAsFQDN is true"))
	}
	return errs
}

const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

func validateDNS(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	errs := oneOf(s.DNSPolicy, at.Child("dnsPolicy"), corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
	c, at := s.DNSConfig, at.Child("dnsConfig")
	if s.DNSPolicy == corev1.DNSNone {
		if c == nil {
			return append(errs, field.Required(at, "must provide `dnsConfig` when `dnsPolicy` is None"))
		}
		if len(c.Nameservers) == 0 {
			errs = append(errs, field.Required(at.Child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None"))
		}
	}
	if c == nil {
		return errs
	}
	if len(c.Nameservers) > maxNameservers {
		errs = append(errs, field.Invalid(at.Child("nameservers"), c.Nameservers, "must not have more than 3 nameservers"))
	}
	for i, ip := range c.Nameservers {
		errs = append(errs, isIP(ip, at.Child("nameservers").Index(i))...)
	}
	if len(c.Searches) > maxSearches {
		errs = append(errs, field.Invalid(at.Child("searches"), c.Searches, "must not have more than 32 search paths"))
	}
	if len(strings.Join(c.Searches, " ")) > maxSearchChars {
		errs = append(errs, field.Invalid(at.Child("searches"), c.Searches, "must not have more than 2048 characters (including spaces) in the search list"))
	}
	for i, search := range c.Searches {
		if search = strings.TrimSuffix(search, "."); search != "" {
			errs = append(errs, each(at.Child("searches").Index(i), search, validation.IsDNS1123SubdomainWithUnderscore(search))...)
		}
	}
	for i, o := range c.Options {
		errs = append(errs, required(o.Name, at.Child("options").Index(i).Child("name"))...)
	}
	return errs
}
