package node

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/node/runtime"
)

// Reasons that only the node gives.
const (
	reasonCreating     = "ContainerCreating"
	reasonInitializing = "PodInitializing"
	reasonCrashLoop    = "CrashLoopBackOff"
	reasonPullBackOff  = "ImagePullBackOff"
)

// pullShown is how long a failed pull is shown as such, before what is shown is that the next one waits.
const pullShown = 2 * time.Second

// containerStatus computes one container's status. initialised says whether everything before it is done.
func (o *observed) containerStatus(p *corev1.Pod, c *corev1.Container, initialised, init bool, now time.Time) corev1.ContainerStatus {
	started := false
	cs := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: &started}
	r := o.newest(c.Name)
	if r == nil {
		cs.State.Waiting = o.waiting(p, c, initialised, now)
		return cs
	}
	cs.RestartCount = int32(r.Attempt)
	cs.ContainerID, cs.ImageID = containerID(r.ID), r.ImageID
	if r.Image != "" {
		cs.Image = r.Image
	}
	if b := o.before(c.Name); b != nil && b.State == runtime.Exited {
		cs.LastTerminationState.Terminated = terminated(b)
	}
	switch r.State {
	case runtime.Created:
		cs.State.Waiting = o.waiting(p, c, initialised, now)
	case runtime.Running:
		cs.State.Running = &corev1.ContainerStateRunning{StartedAt: seconds(r.Started)}
		reportResources(&cs, p, c, r)
		probed := o.probes[r.ID]
		started = probed.started
		cs.Ready = probed.started && probed.ready && (!init || api.IsSidecar(c))
	case runtime.Exited:
		ended := terminated(r)
		cs.State.Terminated = ended
		cs.Ready = init && !api.IsSidecar(c) && r.ExitCode == 0
		if w := o.waitingAgain(p, c, r, init, initialised, now); w != nil {
			cs.State = corev1.ContainerState{Waiting: w}
			cs.LastTerminationState.Terminated = ended
		}
	}
	return cs
}

// ephemeralStatus computes the status of an ephemeral container, which nobody waits for: it is never ready.
func (o *observed) ephemeralStatus(p *corev1.Pod, e *corev1.EphemeralContainer, now time.Time) corev1.ContainerStatus {
	cs := o.containerStatus(p, (*corev1.Container)(&e.EphemeralContainerCommon), true, false, now)
	cs.Ready, cs.Started = false, nil
	return cs
}

// waiting says why a container that has never run does not.
func (o *observed) waiting(p *corev1.Pod, c *corev1.Container, initialised bool, now time.Time) *corev1.ContainerStateWaiting {
	if !initialised {
		return &corev1.ContainerStateWaiting{Reason: reasonInitializing}
	}
	if w := o.startFailure(c, now); w != nil {
		return w
	}
	if _, init := containerOf(p, c.Name); !init && len(p.Spec.InitContainers) > 0 && ephemeralOf(p, c.Name) == nil {
		return &corev1.ContainerStateWaiting{Reason: reasonInitializing}
	}
	return &corev1.ContainerStateWaiting{Reason: reasonCreating}
}

// startFailure says why the last try to start a container failed; nil when it did not.
func (o *observed) startFailure(c *corev1.Container, now time.Time) *corev1.ContainerStateWaiting {
	t, ok := o.tries["start/"+c.Name]
	if !ok || t.reason == "" {
		return nil
	}
	if t.reason == runtime.ReasonImagePull && now.Sub(t.failed) >= pullShown {
		return &corev1.ContainerStateWaiting{Reason: reasonPullBackOff, Message: fmt.Sprintf("Back-off pulling image %q: %s: %s", c.Image, t.reason, t.message)}
	}
	return &corev1.ContainerStateWaiting{Reason: t.reason, Message: t.message}
}

// waitingAgain says what a container that ended waits for before it runs again; nil when it does not wait.
func (o *observed) waitingAgain(p *corev1.Pod, c *corev1.Container, r *runtime.Container, init, initialised bool, now time.Time) *corev1.ContainerStateWaiting {
	policy := p.Spec.RestartPolicy
	switch {
	case init && api.IsSidecar(c):
		policy = corev1.RestartPolicyAlways
	case ephemeralOf(p, c.Name) != nil:
		policy = corev1.RestartPolicyNever
	case init && policy == corev1.RestartPolicyAlways:
		policy = corev1.RestartPolicyOnFailure
	}
	if p.DeletionTimestamp != nil || !o.stopping.IsZero() {
		return nil
	}
	oldLife := o.stale(r)
	switch {
	case init && !api.IsSidecar(c) && o.appsBegan(p):
		return nil
	case oldLife && init:
		return &corev1.ContainerStateWaiting{Reason: reasonInitializing}
	case !restarts(policy, r.ExitCode):
		return nil
	case oldLife && !initialised:
		return &corev1.ContainerStateWaiting{Reason: reasonInitializing}
	}
	if w := o.startFailure(c, now); w != nil {
		return w
	}
	due, streak := o.due(r)
	if !now.Before(due) {
		return nil
	}
	return &corev1.ContainerStateWaiting{Reason: reasonCrashLoop, Message: fmt.Sprintf(
		"back-off %s restarting failed container=%s pod=%s_%s(%s)", backoff(streak), c.Name, p.Name, p.Namespace, p.UID)}
}

func terminated(r *runtime.Container) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: int32(r.ExitCode), Reason: r.Reason, Message: r.Message, ContainerID: containerID(r.ID),
		StartedAt: seconds(r.Started), FinishedAt: seconds(r.Finished),
	}
	switch {
	case r.OOM:
		t.Reason = "OOMKilled"
	case t.Reason == "" && r.ExitCode == 0:
		t.Reason = "Completed"
	case t.Reason == "":
		t.Reason = "Error"
	}
	return t
}

func containerID(id string) string {
	if id == "" {
		return ""
	}
	return "containerd://" + id
}

// seconds is t as the API keeps times.
func seconds(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t).Rfc3339Copy()
}
