package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/node/probe"
	"shoal/node/runtime"
)

// minStop is what a container has left to stop in, however long its hook took.
const minStop = 2 * time.Second

// preStop runs a container's hook, if it has one, and returns what is left of the grace.
func (w *worker) preStop(ctx context.Context, p *corev1.Pod, r runtime.Container, grace time.Duration) time.Duration {
	c, _ := containerOf(p, r.Name)
	if c == nil || c.Lifecycle == nil || c.Lifecycle.PreStop == nil || grace <= 0 {
		return grace
	}
	begun := w.n.cfg.Now()
	hook, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := w.hook(hook, p, c, r.ID, c.Lifecycle.PreStop); err != nil && ctx.Err() == nil {
		w.event(p, corev1.EventTypeWarning, "FailedPreStopHook", "PreStop hook failed: %v", err)
	}
	return max(min(minStop, grace), grace-w.n.cfg.Now().Sub(begun))
}

// How long a pod that ends serves on, so that nobody is sent to it who finds nobody there. Kubernetes tells it to end at once, and lets its author add a
// preStop hook that sleeps.
const (
	withdrawMost = time.Second            // when the Master is slow to say that it ends
	withdrawLag  = 300 * time.Millisecond // by which other machines, if they are busy, may be behind this one
)

// withdraw waits until Services send nobody new to the pod, for half of the grace at most, and returns what is left of it.
func (w *worker) withdraw(ctx context.Context, grace time.Duration) time.Duration {
	ip, err := netip.ParseAddr(w.mem.sandbox.IP) // none in the network of the machine, where others may have it
	if w.n.cfg.Withdrawn == nil || grace <= 0 || err != nil {
		return grace
	}
	begun := w.n.cfg.Now()
	bounded, cancel := context.WithTimeout(ctx, min(withdrawMost, grace/2))
	defer cancel()
	if was, err := w.n.cfg.Withdrawn(bounded, ip); was && err == nil {
		t := time.NewTimer(withdrawLag)
		defer t.Stop()
		select {
		case <-t.C:
		case <-bounded.Done():
		}
	}
	return max(min(minStop, grace), grace-w.n.cfg.Now().Sub(begun))
}

// hook runs one lifecycle handler to its end.
func (w *worker) hook(ctx context.Context, p *corev1.Pod, c *corev1.Container, id string, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		return w.execIn(ctx, id, h.Exec.Command)
	case h.HTTPGet != nil:
		return probe.HTTP(ctx, w.address(), c, h.HTTPGet)
	case h.TCPSocket != nil:
		return probe.TCP(ctx, w.address(), c, h.TCPSocket)
	case h.Sleep != nil:
		t := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("hook has no handler")
}

// address is where the pod answers.
func (w *worker) address() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pod.Spec.HostNetwork {
		if len(w.n.host.ips) > 0 {
			return w.n.host.ips[0]
		}
		return "127.0.0.1"
	}
	return w.sandbox.IP
}

// outputKept is how much of a command's output a message quotes.
const outputKept = 1024

func (w *worker) execIn(ctx context.Context, id string, command []string) error {
	out := &head{most: outputKept}
	code, err := w.n.cfg.Runtime.Exec(ctx, w.uid, id, runtime.ExecConfig{Command: command, Stdout: out, Stderr: out})
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("command %q timed out", command)
	case err != nil:
		return err
	case code != 0:
		return fmt.Errorf("command %q exited with %d: %s", command, code, bytes.TrimSpace(out.b.Bytes()))
	}
	return nil
}
