package api

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateRunning checks the probes and hooks of a container that keeps running.
func validateRunning(c *corev1.Container, grace *int64, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Lifecycle != nil {
		at := at.Child("lifecycle")
		if h := c.Lifecycle.PostStart; h != nil {
			errs = append(errs, validateHook(h, grace, at.Child("postStart"))...)
		}
		if h := c.Lifecycle.PreStop; h != nil {
			errs = append(errs, validateHook(h, grace, at.Child("preStop"))...)
		}
	}
	errs = append(errs, validateProbe(c.LivenessProbe, at.Child("livenessProbe"))...)
	errs = append(errs, onlyOneSuccess(c.LivenessProbe, at.Child("livenessProbe"))...)
	errs = append(errs, validateProbe(c.ReadinessProbe, at.Child("readinessProbe"))...)
	if c.ReadinessProbe != nil && c.ReadinessProbe.TerminationGracePeriodSeconds != nil {
		errs = append(errs, field.Invalid(at.Child("readinessProbe", "terminationGracePeriodSeconds"), *c.ReadinessProbe.TerminationGracePeriodSeconds, "must not be set for readinessProbes"))
	}
	errs = append(errs, validateProbe(c.StartupProbe, at.Child("startupProbe"))...)
	return append(errs, onlyOneSuccess(c.StartupProbe, at.Child("startupProbe"))...)
}

func onlyOneSuccess(p *corev1.Probe, at *field.Path) field.ErrorList {
	if p == nil || p.SuccessThreshold == 1 {
		return nil
	}
	return field.ErrorList{field.Invalid(at.Child("successThreshold"), p.SuccessThreshold, "must be 1")}
}

func validateProbe(p *corev1.Probe, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := validateHandler(handler{exec: p.Exec, http: p.HTTPGet, tcp: p.TCPSocket, grpc: p.GRPC}, at)
	for _, n := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds},
		{"timeoutSeconds", p.TimeoutSeconds},
		{"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold},
		{"failureThreshold", p.FailureThreshold},
	} {
		errs = append(errs, notNegative(int64(n.value), at.Child(n.name))...)
	}
	if g := p.TerminationGracePeriodSeconds; g != nil && *g <= 0 {
		errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *g, "must be greater than 0"))
	}
	return errs
}

func validateHook(h *corev1.LifecycleHandler, grace *int64, at *field.Path) field.ErrorList {
	return validateHandler(handler{exec: h.Exec, http: h.HTTPGet, tcp: h.TCPSocket, sleep: h.Sleep, grace: grace}, at)
}

// handler is the union of what probes and hooks do.
type handler struct {
	exec  *corev1.ExecAction
	http  *corev1.HTTPGetAction
	tcp   *corev1.TCPSocketAction
	grpc  *corev1.GRPCAction
	sleep *corev1.SleepAction
	grace *int64
}

func validateHandler(h handler, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	count := 0
	one := func(name string, check func(at *field.Path) field.ErrorList) {
		count++
		if count > 1 {
			errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 handler type"))
			return
		}
		errs = append(errs, check(at.Child(name))...)
	}
	if h.exec != nil {
		one("exec", func(at *field.Path) field.ErrorList {
			if len(h.exec.Command) == 0 {
				return field.ErrorList{field.Required(at.Child("command"), "")}
			}
			return nil
		})
	}
	if h.http != nil {
		one("httpGet", func(at *field.Path) field.ErrorList { return validateHTTPGet(h.http, at) })
	}
	if h.tcp != nil {
		one("tcpSocket", func(at *field.Path) field.ErrorList { return isPortOrName(h.tcp.Port, at.Child("port")) })
	}
	if h.grpc != nil {
		one("grpc", func(at *field.Path) field.ErrorList {
			return isPortOrName(intstr.FromInt32(h.grpc.Port), at.Child("port"))
		})
	}
	if h.sleep != nil {
		one("sleep", func(at *field.Path) field.ErrorList {
			if h.grace != nil && (h.sleep.Seconds < 0 || h.sleep.Seconds > *h.grace) {
				return field.ErrorList{field.Invalid(at, h.sleep.Seconds, "must be non-negative and less than terminationGracePeriodSeconds")}
			}
			return nil
		})
	}
	if count == 0 {
		errs = append(errs, field.Required(at, "must specify a handler type"))
	}
	return errs
}

func validateHTTPGet(h *corev1.HTTPGetAction, at *field.Path) field.ErrorList {
	errs := required(h.Path, at.Child("path"))
	errs = append(errs, isPortOrName(h.Port, at.Child("port"))...)
	errs = append(errs, oneOf(h.Scheme, at.Child("scheme"), corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
	for _, header := range h.HTTPHeaders {
		errs = append(errs, each(at.Child("httpHeaders"), header.Name, validation.IsHTTPHeaderName(header.Name))...)
	}
	return errs
}
