package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/node/runtime"
)

// do carries out one action. Each is safe to repeat.
func (w *worker) do(ctx context.Context, d desired, a action) error {
	switch a.verb {
	case prepare:
		return w.prepare(ctx, d.pod)
	case sandbox:
		return w.startSandbox(ctx, d.pod)
	case attach:
		return w.attach(ctx, d.pod)
	case start:
		return w.startContainer(ctx, d.pod, a)
	case stop:
		return w.stop(ctx, d, a)
	case resize:
		return w.resize(ctx, d.pod, a.runs)
	case prune:
		return w.prune(ctx, a.runs[0])
	case finish:
		w.finish(d, a)
		return nil
	case remove:
		return w.remove(ctx, d)
	case confirm:
		return w.confirm(ctx, d.pod)
	case forget:
		return w.clear()
	case wait:
	}
	return nil
}

func (w *worker) prepare(ctx context.Context, p *corev1.Pod) error {
	w.n.refs.hold(p)
	var err error
	if !isStatic(p) { // which needs nobody
		err = w.n.refs.await(ctx, p)
	}
	if err == nil && len(api.ClaimsOf(p)) > 0 {
		w.n.refs.holdVolumes(p) // which the claims name
		err = w.n.refs.await(ctx, p)
	}
	if err != nil && len(w.env) == 0 {
		return err // what ran before has volumes and an environment, and can go on with those
	}
	if err := w.n.volumes.Setup(ctx, p); err != nil {
		return err
	}
	if err := w.n.writeResolver(w.dir(), p); err != nil {
		return err
	}
	w.mem.prepared = true
	return nil
}

func (w *worker) startSandbox(ctx context.Context, p *corev1.Pod) error {
	if err := w.n.handles(ctx, p); err != nil {
		return err
	}
	c, err := w.n.sandboxConfig(p)
	if err != nil {
		return err
	}
	size := podResources(p)
	w.mem.cgroup = &size
	sb, err := w.n.cfg.Runtime.StartSandbox(ctx, c)
	if err != nil {
		return fmt.Errorf("start sandbox of %s/%s: %w", p.Namespace, p.Name, err)
	}
	w.mem.sandbox, w.mem.held, w.mem.removed, w.mem.stopping = sb, true, false, time.Time{}
	return nil
}

// protectWait is how long network policies may take to be in force, before the pod says what it waits for and begins to wait anew.
const protectWait = 10 * time.Second

// attach gives the pod its address. When it is done nobody can reach the pod who may not.
func (w *worker) attach(ctx context.Context, p *corev1.Pod) error {
	recorded, _ := netip.ParseAddr(w.mem.sandbox.IP)
	addr, err := w.n.cfg.Network.Attach(ctx, w.uid, w.mem.sandbox.NetNS, recorded)
	if err != nil {
		return err
	}
	if addr != recorded {
		if err := w.n.cfg.Runtime.RecordIP(ctx, w.uid, addr.String()); err != nil {
			return err
		}
	}
	if g := w.n.cfg.Guard; g != nil {
		ctx, cancel := context.WithTimeout(ctx, protectWait)
		defer cancel()
		if err := g.Protect(ctx, p, addr); err != nil {
			return err
		}
	}
	w.mem.attached = true
	return nil
}

func (w *worker) startContainer(ctx context.Context, p *corev1.Pod, a action) error {
	c, _ := containerOf(p, a.name)
	if err := refuses(p, c); err != nil {
		return &runtime.Error{Reason: runtime.ReasonConfig, Err: err}
	}
	begun := w.n.cfg.Now()
	img, err := w.n.cfg.Runtime.Image(ctx, c.Image, runtime.Pull{Policy: c.ImagePullPolicy, Credentials: w.n.pullCredentials(p)})
	if err != nil {
		if runtime.Reason(err) == "" {
			err = &runtime.Error{Reason: runtime.ReasonImagePull, Err: err}
		}
		return err
	}
	if took := w.n.cfg.Now().Sub(begun); took > pullNoticed {
		w.event(p, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %s", c.Image, took.Round(time.Millisecond))
	}
	cfg, err := w.containerConfig(ctx, p, c, img, a.attempt)
	if err != nil {
		return &runtime.Error{Reason: runtime.ReasonConfig, Err: err}
	}
	cfg.Streak = a.streak
	if cfg.BesidePid, err = w.targetOf(ctx, p, c.Name); err != nil {
		return &runtime.Error{Reason: runtime.ReasonConfig, Err: err}
	}
	if err := w.fitPod(ctx, p); err != nil {
		return err
	}
	run, err := w.n.cfg.Runtime.StartContainer(ctx, cfg)
	if err != nil {
		if runtime.Reason(err) == "" {
			err = &runtime.Error{Reason: runtime.ReasonCreate, Err: err}
		}
		return err
	}
	w.mem.streaks[a.name] = a.streak
	w.env[a.name] = cfg.Env
	w.saved = nil // to be kept anew
	if a.attempt == 0 {
		w.log.Info("container started", "pod", p.Name, "ns", p.Namespace, "container", c.Name)
	}
	w.event(p, corev1.EventTypeNormal, "Started", "Started container %s", c.Name)
	if c.Lifecycle != nil && c.Lifecycle.PostStart != nil {
		if err := w.hook(ctx, p, c, run.ID, c.Lifecycle.PostStart); err != nil {
			w.event(p, corev1.EventTypeWarning, "FailedPostStartHook", "PostStart hook failed: %v", err)
			return w.n.cfg.Runtime.StopContainer(ctx, w.uid, run.ID, gracePeriod(p))
		}
	}
	return nil
}

// targetOf returns the process whose PID namespace a container joins, 0 for none. It is asked for at the last moment: pulling the image may
// have taken minutes, and the number of a process that has ended may be that of one of the machine's own by now.
func (w *worker) targetOf(ctx context.Context, p *corev1.Pod, name string) (int, error) {
	e := ephemeralOf(p, name)
	if e == nil || e.TargetContainerName == "" {
		return 0, nil
	}
	held, err := w.n.cfg.Runtime.Pod(ctx, w.uid)
	if err != nil {
		return 0, err
	}
	o := observed{containers: held.Containers}
	if r := o.newest(e.TargetContainerName); r != nil && r.State == runtime.Running {
		return r.Pid, nil
	}
	return 0, fmt.Errorf("the target container %s does not run", e.TargetContainerName)
}

// pullNoticed is how long an image must take for it to be worth a word.
const pullNoticed = 200 * time.Millisecond

// stop stops containers at the same time, so that one that is slow does not take the others' grace.
func (w *worker) stop(ctx context.Context, d desired, a action) error {
	if a.whole && w.mem.stopping.IsZero() {
		w.mem.stopping = w.n.cfg.Now()
	}
	var g errgroup.Group
	for _, r := range a.runs {
		g.Go(func() error {
			reason := a.reason
			if strings.Contains(reason, "%s") {
				reason = fmt.Sprintf(reason, r.Name)
			}
			w.event(d.pod, corev1.EventTypeNormal, "Killing", "%s", reason)
			grace := w.preStop(ctx, d.pod, r, a.grace)
			if a.whole {
				grace = w.withdraw(ctx, grace)
			}
			err := w.n.cfg.Runtime.StopContainer(ctx, w.uid, r.ID, grace)
			if errors.Is(err, runtime.ErrNotFound) {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

func (w *worker) prune(ctx context.Context, r runtime.Container) error {
	if err := w.n.cfg.Runtime.RemoveContainer(ctx, w.uid, r.ID); err != nil {
		return err
	}
	logs, err := filepath.Glob(w.logPath(r.Name, r.Attempt) + "*")
	if err != nil {
		return err
	}
	for _, path := range append(logs, w.wordsPath(r.Name, r.Attempt)) {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// finish notes for good how the pod ended. Once noted, no restart of anything changes it.
func (w *worker) finish(d desired, a action) {
	now := w.n.cfg.Now()
	s := status(d, w.mem, w.n.writer.newest(d.pod), w.n.host, now)
	if a.phase != "" {
		s.Phase = a.phase
	}
	s.Reason, s.Message = a.reason, a.message
	if s.Phase != corev1.PodSucceeded && s.Phase != corev1.PodFailed {
		s.Phase = corev1.PodFailed
	}
	s.Conditions = conditions(d.pod, w.mem, s, s.Phase == corev1.PodSucceeded || w.mem.appsBegan(d.pod))
	if a.reason == reasonEvicted {
		s.Conditions = append(s.Conditions, disrupted(d.pod, a.message))
	}
	w.final = stamp(mergeStatus(s, w.n.writer.newest(d.pod)), now)
	w.save(d.pod, w.final)
}

// remove leaves nothing of the pod but its logs and its record.
func (w *worker) remove(ctx context.Context, d desired) error {
	if d.pod.DeletionTimestamp != nil && !d.gone && len(d.pod.Finalizers) > 0 && w.final == nil && len(d.pod.Spec.Containers) > 0 {
		w.finish(d, action{}) // somebody still looks at it
	}
	w.probers.stop()
	if err := w.n.cfg.Runtime.RemovePod(ctx, w.uid); err != nil {
		return fmt.Errorf("remove pod: %w", err)
	}
	if err := w.n.cfg.Network.Detach(ctx, w.uid); err != nil {
		return fmt.Errorf("detach pod: %w", err)
	}
	if w.n.cfg.Guard != nil {
		w.n.cfg.Guard.Release(w.uid)
	}
	if err := w.n.volumes.Teardown(ctx, w.uid); err != nil {
		return fmt.Errorf("remove volumes: %w", err)
	}
	w.n.refs.release(w.uid)
	w.n.tokens.release(w.uid)
	w.n.pods.unclaim(w.uid)
	w.mem.removed, w.mem.held, w.mem.prepared, w.mem.attached = true, false, false, false
	w.mem.sandbox = runtime.Sandbox{}
	w.mem.containers = nil
	return nil
}

// confirm deletes the object of a pod of which nothing is left.
func (w *worker) confirm(ctx context.Context, p *corev1.Pod) error {
	if err := w.clear(); err != nil {
		return err
	}
	if isStatic(p) {
		w.want(p, true)
		return nil
	}
	_, err := w.n.cfg.Client.Delete(ctx, api.Pods, client.KeyOf(p), client.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &p.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return err
	}
	w.mem.told = true
	return nil
}

// clear removes the pod's directory.
func (w *worker) clear() error {
	w.n.refs.release(w.uid)
	w.n.tokens.release(w.uid)
	w.n.writer.drop(w.wanted())
	if err := os.RemoveAll(w.dir()); err != nil {
		return fmt.Errorf("remove directory of pod: %w", err)
	}
	return nil
}

func (w *worker) event(p *corev1.Pod, typ, reason, format string, args ...any) {
	w.n.events.Event(p, typ, reason, format, args...)
}
