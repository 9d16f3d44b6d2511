package api

import (
	"fmt"
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ingressClassAnnotation is where the class once was.
const ingressClassAnnotation = "kubernetes.io/ingress.class"

func validateNewIngress(i *networkingv1.Ingress) field.ErrorList {
	errs := validateIngress(i)
	class, ok := i.Annotations[ingressClassAnnotation]
	if ok && i.Spec.IngressClassName != nil && class != *i.Spec.IngressClassName {
		errs = append(errs, field.Invalid(field.NewPath("annotations").Child(ingressClassAnnotation), class, "must match `ingressClassName` when both are specified"))
	}
	return errs
}

func validateIngressUpdate(updated, _ *networkingv1.Ingress) field.ErrorList {
	return validateIngress(updated)
}

func validateIngress(i *networkingv1.Ingress) field.ErrorList {
	s, at := &i.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if len(s.Rules) == 0 && s.DefaultBackend == nil {
		errs = append(errs, field.Invalid(at, s.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if s.DefaultBackend != nil {
		errs = append(errs, validateBackend(s.DefaultBackend, at.Child("defaultBackend"))...)
	}
	for i := range s.Rules {
		errs = append(errs, validateIngressRule(&s.Rules[i], at.Child("rules").Index(i))...)
	}
	for i := range s.TLS {
		at := at.Child("tls").Index(i)
		for j, host := range s.TLS[i].Hosts {
			errs = append(errs, isHost(host, at.Child("hosts").Index(j))...)
		}
		if name := s.TLS[i].SecretName; name != "" {
			errs = append(errs, isSubdomain(name, at.Child("secretName"))...)
		}
	}
	if s.IngressClassName != nil {
		errs = append(errs, isSubdomain(*s.IngressClassName, at.Child("ingressClassName"))...)
	}
	return errs
}

// isHost wants a domain name, or all names of a domain.
func isHost(host string, at *field.Path) field.ErrorList {
	if strings.Contains(host, "*") {
		return each(at, host, validation.IsWildcardDNS1123Subdomain(host))
	}
	return isSubdomain(host, at)
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func notAddress(s string, at *field.Path) field.ErrorList {
	if isAddress(s) {
		return field.ErrorList{field.Invalid(at, s, "must be a DNS name, not an IP address")}
	}
	return nil
}

func validateIngressRule(r *networkingv1.IngressRule, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Host != "" {
		errs = append(errs, notAddress(r.Host, at.Child("host"))...)
		errs = append(errs, isHost(r.Host, at.Child("host"))...)
	}
	if r.HTTP == nil {
		return errs
	}
	at = at.Child("http", "paths")
	if len(r.HTTP.Paths) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	for i := range r.HTTP.Paths {
		errs = append(errs, validateIngressPath(&r.HTTP.Paths[i], at.Index(i))...)
	}
	return errs
}

func validateIngressPath(p *networkingv1.HTTPIngressPath, at *field.Path) field.ErrorList {
	if p.PathType == nil {
		return field.ErrorList{field.Required(at.Child("pathType"), "pathType must be specified")}
	}
	var errs field.ErrorList
	wrong := func(format string, args ...any) {
		errs = append(errs, field.Invalid(at.Child("path"), p.Path, fmt.Sprintf(format, args...)))
	}
	switch *p.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !strings.HasPrefix(p.Path, "/") {
			wrong("must be an absolute path")
		}
		for _, part := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(p.Path, part) {
				wrong("must not contain '%s'", part)
			}
		}
		for _, end := range []string{"/..", "/."} {
			if strings.HasSuffix(p.Path, end) {
				wrong("cannot end with '%s'", end)
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if p.Path != "" && !strings.HasPrefix(p.Path, "/") {
			wrong("must be an absolute path")
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("pathType"), *p.PathType,
			[]networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
	}
	return append(errs, validateBackend(&p.Backend, at.Child("backend"))...)
}

func validateBackend(b *networkingv1.IngressBackend, at *field.Path) field.ErrorList {
	switch {
	case b.Resource != nil && b.Service != nil:
		return field.ErrorList{field.Invalid(at, "", "cannot set both resource and service backends")}
	case b.Resource != nil:
		return namesObject(b.Resource.APIGroup, b.Resource.Kind, b.Resource.Name, at.Child("resource"))
	case b.Service == nil:
		return field.ErrorList{field.Invalid(at, "", "resource or service backend is required")}
	}
	service := at.Child("service")
	var errs field.ErrorList
	if b.Service.Name == "" {
		errs = append(errs, field.Required(service.Child("name"), ""))
	} else {
		errs = append(errs, isLabel(b.Service.Name, service.Child("name"))...)
	}
	switch p := b.Service.Port; {
	case p.Name != "" && p.Number != 0:
		errs = append(errs, field.Invalid(at, "", "cannot set both port name & port number"))
	case p.Name != "":
		errs = append(errs, isPortName(p.Name, service.Child("port", "name"))...)
	case p.Number != 0:
		errs = append(errs, isPort(p.Number, service.Child("port", "number"))...)
	default:
		errs = append(errs, field.Required(at, "port name or number is required"))
	}
	return errs
}

// namesObject wants what names an object of any kind.
func namesObject(group *string, kind, name string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if group != nil {
		errs = append(errs, isSubdomain(*group, at.Child("apiGroup"))...)
	}
	for _, part := range []struct{ field, value string }{{"kind", kind}, {"name", name}} {
		if part.value == "" {
			errs = append(errs, field.Required(at.Child(part.field), ""))
		} else {
			errs = append(errs, each(at.Child(part.field), part.value, pathSegment(part.value, false))...)
		}
	}
	return errs
}

func validateIngressStatus(updated, old *networkingv1.Ingress) field.ErrorList {
	var stored []string
	for _, i := range old.Status.LoadBalancer.Ingress {
		stored = append(stored, i.IP)
	}
	var errs field.ErrorList
	for i, p := range updated.Status.LoadBalancer.Ingress {
		at := field.NewPath("status", "loadBalancer", "ingress").Index(i)
		if p.IP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), p.IP, true, stored)...)
		}
		if p.Hostname != "" {
			errs = append(errs, isSubdomain(p.Hostname, at.Child("hostname"))...)
			errs = append(errs, notAddress(p.Hostname, at.Child("hostname"))...)
		}
	}
	return errs
}

func validateIngressClass(c *networkingv1.IngressClass) field.ErrorList {
	const most = 250
	at := field.NewPath("spec")
	var errs field.ErrorList
	if len(c.Spec.Controller) > most {
		errs = append(errs, field.TooLong(at.Child("controller"), "", most))
	}
	errs = append(errs, validation.IsDomainPrefixedPath(at.Child("controller"), c.Spec.Controller)...)
	p := c.Spec.Parameters
	if p == nil {
		return errs
	}
	at = at.Child("parameters")
	errs = append(errs, namesObject(p.APIGroup, p.Kind, p.Name, at)...)
	switch {
	case p.Scope == nil:
		errs = append(errs, field.Required(at.Child("scope"), ""))
	case *p.Scope == networkingv1.IngressClassParametersReferenceScopeNamespace && p.Namespace == nil:
		errs = append(errs, field.Required(at.Child("namespace"), "`parameters.scope` is set to 'Namespace'"))
	case *p.Scope == networkingv1.IngressClassParametersReferenceScopeNamespace:
		errs = append(errs, each(at.Child("namespace"), *p.Namespace, apivalidation.ValidateNamespaceName(*p.Namespace, false))...)
	case *p.Scope != networkingv1.IngressClassParametersReferenceScopeCluster:
		errs = append(errs, field.NotSupported(at.Child("scope"), *p.Scope,
			[]string{networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace}))
	case p.Namespace != nil:
		errs = append(errs, field.Forbidden(at.Child("namespace"), "`parameters.scope` is set to 'Cluster'"))
	}
	return errs
}

func validateIngressClassUpdate(updated, old *networkingv1.IngressClass) field.ErrorList {
	errs := unchanged(updated.Spec.Controller, old.Spec.Controller, field.NewPath("spec", "controller"))
	return append(errs, validateIngressClass(updated)...)
}
