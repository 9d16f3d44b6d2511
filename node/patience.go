package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
)

// runtimePatience is how long the runtime may take for anything but what has a length of its own (a pull, a command, a grace). One call that hangs
// would hold its pod for ever. It is the kubelet's (runtimeRequestTimeout).
const runtimePatience = 2 * time.Minute

// patient is a runtime whose calls are given up in the end.
type patient struct{ runtime.Interface }

// bounded makes one call.
func bounded[T any](ctx context.Context, what string, limit time.Duration, call func(context.Context) (T, error)) (T, error) {
	late := fmt.Errorf("the container runtime has not answered for %v: %s", limit, what)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	v, err := call(ctx)
	if err != nil && errors.Is(context.Cause(ctx), late) {
		err = fmt.Errorf("%w: %w", late, err)
	}
	return v, err
}

// done is bounded for calls that return nothing.
func done(ctx context.Context, what string, limit time.Duration, call func(context.Context) error) error {
	_, err := bounded(ctx, what, limit, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

func (p patient) Pods(ctx context.Context) ([]runtime.Pod, error) {
	return bounded(ctx, "list pods", runtimePatience, p.Interface.Pods)
}

func (p patient) Pod(ctx context.Context, uid types.UID) (runtime.Pod, error) {
	return bounded(ctx, "look at a pod", runtimePatience, func(ctx context.Context) (runtime.Pod, error) { return p.Interface.Pod(ctx, uid) })
}

func (p patient) StartSandbox(ctx context.Context, c runtime.SandboxConfig) (runtime.Sandbox, error) {
	return bounded(ctx, "start a sandbox", runtimePatience, func(ctx context.Context) (runtime.Sandbox, error) {
		return p.Interface.StartSandbox(ctx, c)
	})
}

func (p patient) RecordIP(ctx context.Context, uid types.UID, ip string) error {
	return done(ctx, "record an address", runtimePatience, func(ctx context.Context) error { return p.Interface.RecordIP(ctx, uid, ip) })
}

func (p patient) RemovePod(ctx context.Context, uid types.UID) error {
	return done(ctx, "remove a pod", runtimePatience, func(ctx context.Context) error { return p.Interface.RemovePod(ctx, uid) })
}

func (p patient) StartContainer(ctx context.Context, c runtime.ContainerConfig) (runtime.Container, error) {
	return bounded(ctx, "start a container", runtimePatience, func(ctx context.Context) (runtime.Container, error) {
		return p.Interface.StartContainer(ctx, c)
	})
}

func (p patient) StopContainer(ctx context.Context, uid types.UID, id string, grace time.Duration) error {
	return done(ctx, "stop a container", grace+runtimePatience, func(ctx context.Context) error { return p.Interface.StopContainer(ctx, uid, id, grace) })
}

func (p patient) Resize(ctx context.Context, uid types.UID, pod runtime.Resources, containers map[string]runtime.Resources) error {
	return done(ctx, "resize a pod", runtimePatience, func(ctx context.Context) error { return p.Interface.Resize(ctx, uid, pod, containers) })
}

func (p patient) RemoveImage(ctx context.Context, name string) error {
	return done(ctx, "remove an image", runtimePatience, func(ctx context.Context) error { return p.Interface.RemoveImage(ctx, name) })
}

func (p patient) Layers(ctx context.Context, uid types.UID) (map[string]runtime.Disk, error) {
	return bounded(ctx, "measure what containers wrote", runtimePatience, func(ctx context.Context) (map[string]runtime.Disk, error) {
		return p.Interface.Layers(ctx, uid)
	})
}

func (p patient) RemoveContainer(ctx context.Context, uid types.UID, id string) error {
	return done(ctx, "remove a container", runtimePatience, func(ctx context.Context) error { return p.Interface.RemoveContainer(ctx, uid, id) })
}
