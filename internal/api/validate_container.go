package api

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podPlaces is what containers of one pod share and may collide over.
type podPlaces struct {
	names     seen[string]
	hostPorts seen[string]
	volumes   map[string]*corev1.Volume
	claims    map[string]bool
}

func validateContainers(s *corev1.PodSpec, volumes map[string]*corev1.Volume, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	shared := &podPlaces{names: seen[string]{}, hostPorts: seen[string]{}, volumes: volumes, claims: map[string]bool{}}
	for i, c := range s.ResourceClaims {
		at := at.Child("resourceClaims").Index(i)
		errs = append(errs, isLabel(c.Name, at.Child("name"))...)
		if shared.claims[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		shared.claims[c.Name] = true
	}
	if len(s.Containers) == 0 {
		errs = append(errs, field.Required(at.Child("containers"), ""))
	}
	for i := range s.Containers {
		c, at := &s.Containers[i], at.Child("containers").Index(i)
		errs = append(errs, shared.validate(c, at)...)
		errs = append(errs, shared.claimHostPorts(c, at)...)
		if c.RestartPolicy != nil {
			errs = append(errs, field.Forbidden(at.Child("restartPolicy"), "may not be set for non-init containers"))
		}
		errs = append(errs, validateRunning(c, s.TerminationGracePeriodSeconds, at)...)
	}
	for i := range s.InitContainers {
		c, at := &s.InitContainers[i], at.Child("initContainers").Index(i)
		errs = append(errs, shared.validate(c, at)...)
		if IsSidecar(c) {
			errs = append(errs, shared.claimHostPorts(c, at)...)
			errs = append(errs, validateRunning(c, s.TerminationGracePeriodSeconds, at)...)
			continue
		}
		errs = append(errs, validateInit(c, at)...)
	}
	errs = append(errs, shared.validateEphemeral(s, at)...)
	if s.HostNetwork {
		errs = append(errs, hostPortsMatch(s.Containers, at.Child("containers"))...)
		errs = append(errs, hostPortsMatch(s.InitContainers, at.Child("initContainers"))...)
	}
	return errs
}

// validate checks what holds for containers of every sort.
func (p *podPlaces) validate(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case c.Name == "":
		errs = append(errs, field.Required(at.Child("name"), ""))
	default:
		errs = append(errs, isLabel(c.Name, at.Child("name"))...)
		if p.names.add(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
	}
	if c.Image == "" {
		errs = append(errs, field.Required(at.Child("image"), ""))
	} else if strings.TrimSpace(c.Image) != c.Image {
		errs = append(errs, field.Invalid(at.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	switch c.TerminationMessagePolicy {
	case corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError:
	case "":
		errs = append(errs, field.Required(at.Child("terminationMessagePolicy"), ""))
	default:
		errs = append(errs, field.Invalid(at.Child("terminationMessagePolicy"), c.TerminationMessagePolicy, "must be 'File' or 'FallbackToLogsOnError'"))
	}
	errs = append(errs, oneOf(c.ImagePullPolicy, at.Child("imagePullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	errs = append(errs, validatePorts(c.Ports, at.Child("ports"))...)
	errs = append(errs, validateEnv(c.Env, at.Child("env"))...)
	errs = append(errs, validateEnvFrom(c.EnvFrom, at.Child("envFrom"))...)
	errs = append(errs, p.validateMounts(c, at)...)
	errs = append(errs, validateResources(&c.Resources, p.claims, at.Child("resources"))...)
	for i, r := range c.ResizePolicy {
		at := at.Child("resizePolicy").Index(i)
		errs = append(errs, oneOf(r.ResourceName, at.Child("resourceName"), corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, oneOf(r.RestartPolicy, at.Child("restartPolicy"), corev1.NotRequired, corev1.RestartContainer)...)
	}
	return append(errs, validateContainerSecurity(c.SecurityContext, at.Child("securityContext"))...)
}

// validateInit refuses what means nothing for a container that runs once before the others.
func validateInit(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.RestartPolicy != nil {
		errs = append(errs, field.NotSupported(at.Child("restartPolicy"), *c.RestartPolicy, []corev1.ContainerRestartPolicy{corev1.ContainerRestartPolicyAlways}))
	}
	const text = "must not be set for init containers"
	if c.Lifecycle != nil {
		errs = append(errs, field.Invalid(at.Child("lifecycle"), c.Lifecycle, text))
	}
	for _, p := range []struct {
		name  string
		probe *corev1.Probe
	}{{"livenessProbe", c.LivenessProbe}, {"readinessProbe", c.ReadinessProbe}, {"startupProbe", c.StartupProbe}} {
		if p.probe != nil {
			errs = append(errs, field.Invalid(at.Child(p.name), p.probe, text))
		}
	}
	return errs
}

// claimHostPorts finds ports of the machine that two containers of the pod want.
func (p *podPlaces) claimHostPorts(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, port := range c.Ports {
		if port.HostPort == 0 {
			continue
		}
		if key := fmt.Sprintf("%s/%s/%d", port.Protocol, port.HostIP, port.HostPort); p.hostPorts.add(key) {
			errs = append(errs, field.Duplicate(at.Child("ports").Index(i).Child("hostPort"), key))
		}
	}
	return errs
}

func hostPortsMatch(containers []corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range containers {
		for j, p := range containers[i].Ports {
			if p.HostPort != 0 && p.HostPort != p.ContainerPort {
				errs = append(errs, field.Invalid(at.Index(i).Child("ports").Index(j).Child("containerPort"), p.ContainerPort, "must match `hostPort` when `hostNetwork` is true"))
			}
		}
	}
	return errs
}

func validatePorts(ports []corev1.ContainerPort, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := seen[string]{}
	for i, p := range ports {
		at := at.Index(i)
		if p.Name != "" {
			if bad := isPortName(p.Name, at.Child("name")); len(bad) > 0 {
				errs = append(errs, bad...)
			} else if names.add(p.Name) {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, isPort(p.ContainerPort, at.Child("containerPort"))...)
		}
		if p.HostPort != 0 {
			errs = append(errs, isPort(p.HostPort, at.Child("hostPort"))...)
		}
		if p.HostIP != "" {
			errs = append(errs, isIP(p.HostIP, at.Child("hostIP"))...)
		}
		errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
	}
	return errs
}

// validateMounts checks where volumes and block devices appear in the container.
func (p *podPlaces) validateMounts(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	paths := seen[string]{}
	for i := range c.VolumeMounts {
		m, at := &c.VolumeMounts[i], at.Child("volumeMounts").Index(i)
		if m.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else if _, ok := p.volumes[m.Name]; !ok {
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		errs = append(errs, required(m.MountPath, at.Child("mountPath"))...)
		if paths.add(m.MountPath) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		errs = append(errs, validateMount(m, c, at)...)
	}
	devices := seen[string]{}
	for i, d := range c.VolumeDevices {
		at := at.Child("volumeDevices").Index(i)
		if v, ok := p.volumes[d.Name]; !ok {
			errs = append(errs, field.NotFound(at.Child("name"), d.Name))
		} else if v.PersistentVolumeClaim == nil && v.Ephemeral == nil {
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		}
		errs = append(errs, required(d.DevicePath, at.Child("devicePath"))...)
		if devices.add(d.DevicePath) {
			errs = append(errs, field.Invalid(at.Child("devicePath"), d.DevicePath, "must be unique"))
		}
		if paths[d.DevicePath] {
			errs = append(errs, field.Invalid(at.Child("devicePath"), d.DevicePath, "must not already exist as a path in volumeMounts"))
		}
	}
	return errs
}

func validateMount(m *corev1.VolumeMount, c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if m.SubPath != "" {
		errs = append(errs, staysBelow(m.SubPath, at.Child("subPath"))...)
	}
	if m.SubPathExpr != "" {
		if m.SubPath != "" {
			errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
		}
		errs = append(errs, staysBelow(m.SubPathExpr, at.Child("subPathExpr"))...)
	}
	if m.MountPropagation != nil {
		errs = append(errs, optionalOneOf(m.MountPropagation, at.Child("mountPropagation"),
			corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)...)
		privileged := c.SecurityContext != nil && isSet(c.SecurityContext.Privileged)
		if *m.MountPropagation == corev1.MountPropagationBidirectional && !privileged {
			errs = append(errs, field.Forbidden(at.Child("mountPropagation"), "Bidirectional mount propagation is available only to privileged containers"))
		}
	}
	if r := m.RecursiveReadOnly; r != nil {
		errs = append(errs, optionalOneOf(r, at.Child("recursiveReadOnly"),
			corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)...)
		if *r != corev1.RecursiveReadOnlyDisabled && !m.ReadOnly {
			errs = append(errs, field.Forbidden(at.Child("recursiveReadOnly"), "may only be specified when readOnly is true"))
		}
	}
	return errs
}
