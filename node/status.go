package node

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/node/runtime"
)

// host is what every pod's status says of its machine.
type host struct {
	ips []string
}

// ownConditions are the pod conditions that the node writes, in the order they are shown.
func ownConditions() []corev1.PodConditionType {
	return []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady}
}

// status computes a pod's status from what is there. prev is the status before: it gives the times of conditions that
// did not change, and the conditions that others write. It is pure.
func status(d desired, o observed, prev *corev1.PodStatus, h host, now time.Time) *corev1.PodStatus {
	p := d.pod
	if d.final != nil {
		return mergeStatus(d.final, prev)
	}
	s := &corev1.PodStatus{QOSClass: api.QOSClass(p), ObservedGeneration: p.Generation}
	if !o.accepted.IsZero() {
		t := metav1.NewTime(o.accepted).Rfc3339Copy()
		s.StartTime = &t
	}
	for i, ip := range h.ips {
		if i == 0 {
			s.HostIP = ip
		}
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip})
	}
	if p.Spec.HostNetwork {
		if o.sandbox.Running {
			for _, ip := range h.ips {
				s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
			}
		}
	} else if o.sandbox.IP != "" {
		s.PodIPs = []corev1.PodIP{{IP: o.sandbox.IP}}
	}
	if len(s.PodIPs) > 0 {
		s.PodIP = s.PodIPs[0].IP
	}
	initialised := true
	began := o.appsBegan(p)
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		cs := o.containerStatus(p, c, initialised, true, now)
		if r := o.newest(c.Name); !began && (r == nil || o.stale(r) || !cs.Ready && !(api.IsSidecar(c) && o.probes[r.ID].started)) {
			initialised = false
		}
		s.InitContainerStatuses = append(s.InitContainerStatuses, cs)
	}
	for i := range p.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, o.containerStatus(p, &p.Spec.Containers[i], initialised, false, now))
	}
	for i := range p.Spec.EphemeralContainers {
		s.EphemeralContainerStatuses = append(s.EphemeralContainerStatuses, o.ephemeralStatus(p, &p.Spec.EphemeralContainers[i], now))
	}
	s.Phase = phase(p, o, initialised)
	s.Conditions = conditions(p, o, s, initialised)
	return mergeStatus(s, prev)
}

// phase is Pending until every container of the pod has run, and then says whether any still does or may.
func phase(p *corev1.Pod, o observed, initialised bool) corev1.PodPhase {
	if !initialised {
		return corev1.PodPending
	}
	done, failed := 0, false
	for i := range p.Spec.Containers {
		r := o.newest(p.Spec.Containers[i].Name)
		if r == nil || r.State == runtime.Created {
			return corev1.PodPending
		}
		if r.State == runtime.Exited && !restarts(p.Spec.RestartPolicy, r.ExitCode) {
			done++
			failed = failed || r.ExitCode != 0
		}
	}
	switch {
	case done < len(p.Spec.Containers):
		return corev1.PodRunning
	case failed:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}

func conditions(p *corev1.Pod, o observed, s *corev1.PodStatus, initialised bool) []corev1.PodCondition {
	is := func(t corev1.PodConditionType, ok bool, reason, message string) corev1.PodCondition {
		c := corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, ObservedGeneration: p.Generation}
		if !ok {
			c.Status, c.Reason, c.Message = corev1.ConditionFalse, reason, message
		}
		return c
	}
	networked := o.sandbox.Running && len(s.PodIPs) > 0
	var uninitialised, unready []string
	for _, cs := range s.InitContainerStatuses {
		if !cs.Ready {
			uninitialised = append(uninitialised, cs.Name)
		}
	}
	for _, cs := range s.ContainerStatuses {
		if !cs.Ready {
			unready = append(unready, cs.Name)
		}
	}
	for i, cs := range s.InitContainerStatuses {
		if !cs.Ready && initialised && api.IsSidecar(&p.Spec.InitContainers[i]) {
			unready = append(unready, cs.Name)
		}
	}
	init := is(corev1.PodInitialized, initialised, "ContainersNotInitialized", "containers with incomplete status: ["+strings.Join(uninitialised, " ")+"]")
	ready := is(corev1.ContainersReady, len(unready) == 0, "ContainersNotReady", "containers with unready status: ["+strings.Join(unready, " ")+"]")
	switch s.Phase {
	case corev1.PodSucceeded:
		ready = is(corev1.ContainersReady, false, "PodCompleted", "")
		init.Reason = "PodCompleted"
	case corev1.PodFailed:
		ready = is(corev1.ContainersReady, false, "PodFailed", "")
	}
	all := []corev1.PodCondition{is(corev1.PodReadyToStartContainers, networked, "", ""), init, gated(p, ready), ready}
	return append(all, resizeConditions(p, o)...)
}

// disrupted is the condition of a pod that ended because its machine had too little of something.
func disrupted(p *corev1.Pod, message string) corev1.PodCondition {
	return corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: message,
		ObservedGeneration: p.Generation,
	}
}

// gated is the pod's Ready condition: its containers', and what its readiness gates say.
func gated(p *corev1.Pod, containers corev1.PodCondition) corev1.PodCondition {
	containers.Type = corev1.PodReady
	if containers.Status != corev1.ConditionTrue {
		return containers
	}
	var missing []string
	for _, g := range p.Spec.ReadinessGates {
		switch c := api.PodCondition(p, g.ConditionType); {
		case c == nil:
			missing = append(missing, `corresponding condition of pod readiness gate "`+string(g.ConditionType)+`" does not exist.`)
		case c.Status != corev1.ConditionTrue:
			missing = append(missing, `the status of pod readiness gate "`+string(g.ConditionType)+`" is not "True", but `+string(c.Status))
		}
	}
	if len(missing) > 0 {
		containers.Status, containers.Reason, containers.Message = corev1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(missing, ", ")
	}
	return containers
}

// mergeStatus returns want with what others write taken from prev, and with the times of conditions that stay the same.
func mergeStatus(want, prev *corev1.PodStatus) *corev1.PodStatus {
	s := want.DeepCopy()
	if prev == nil {
		return s
	}
	own := append(ownConditions(), corev1.PodResizePending, corev1.PodResizeInProgress)
	foreign := func(c corev1.PodCondition) bool {
		return !slices.Contains(own, c.Type) && (c.Type != corev1.DisruptionTarget || c.Reason != corev1.PodReasonTerminationByKubelet)
	}
	s.Conditions = slices.DeleteFunc(s.Conditions, foreign)
	for i := range s.Conditions {
		c := &s.Conditions[i]
		for _, old := range prev.Conditions {
			if old.Type == c.Type && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	for _, c := range prev.Conditions {
		if foreign(c) && !slices.ContainsFunc(s.Conditions, func(own corev1.PodCondition) bool { return own.Type == c.Type }) {
			s.Conditions = append(s.Conditions, c)
		}
	}
	s.NominatedNodeName = prev.NominatedNodeName
	s.Resize, s.ResourceClaimStatuses = prev.Resize, prev.ResourceClaimStatuses
	if s.StartTime == nil {
		s.StartTime = prev.StartTime
	}
	return s
}

// stamp gives every condition without a time this one.
func stamp(s *corev1.PodStatus, now time.Time) *corev1.PodStatus {
	t := metav1.NewTime(now).Rfc3339Copy()
	for i := range s.Conditions {
		if s.Conditions[i].LastTransitionTime.IsZero() {
			s.Conditions[i].LastTransitionTime = t
		}
	}
	return s
}
