package node

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/node/runtime"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }

// up is what is observed of a pod whose sandbox runs since the epoch, with these runs.
func up(runs ...runtime.Container) observed {
	return observed{
		held: true, prepared: true, attached: true, accepted: epoch, containers: runs,
		sandbox: runtime.Sandbox{Running: true, Started: epoch, IP: "10.0.0.1"},
		tries:   map[string]try{}, streaks: map[string]int{}, probes: map[string]probeResult{},
	}
}

// run is a run of container name; code is -1 while it runs.
func run(name string, attempt, code int) runtime.Container {
	r := runtime.Container{
		ID: name + "." + string(rune('0'+attempt)), Name: name, Attempt: attempt, State: runtime.Running, Created: at(1), Started: at(1),
		SpecHash: specHash(&corev1.Container{Name: name, Image: "app"}),
	}
	if code >= 0 {
		r.State, r.ExitCode, r.Finished = runtime.Exited, code, at(10)
	}
	return r
}

func with(o observed, change func(*observed)) observed {
	change(&o)
	return o
}

func TestStep(t *testing.T) {
	plain := func() *corev1.Pod { return newPod("a") }
	policy := func(r corev1.RestartPolicy) *corev1.Pod {
		p := plain()
		p.Spec.RestartPolicy = r
		return p
	}
	always := policy(corev1.RestartPolicyAlways)
	deleted := policy(corev1.RestartPolicyAlways)
	now, grace := metav1.NewTime(at(20)), int64(30)
	deleted.DeletionTimestamp, deleted.DeletionGracePeriodSeconds = &now, &grace
	withInit := policy(corev1.RestartPolicyNever)
	withInit.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "app"}}
	hostNet := policy(corev1.RestartPolicyAlways)
	hostNet.Spec.HostNetwork = true
	other := policy(corev1.RestartPolicyAlways)
	other.Spec.Containers[0].Image = "other"

	for _, x := range []struct {
		name string
		d    desired
		o    observed
		want string // verb and detail
		wait int    // seconds after the epoch to look again; 0 for none
	}{
		{name: "new: volumes first", d: desired{pod: always}, want: "prepare"},
		{name: "then the sandbox", d: desired{pod: always}, o: observed{prepared: true}, want: "sandbox"},
		{name: "then its address", d: desired{pod: always}, o: with(up(), func(o *observed) { o.attached = false }), want: "attach"},
		{name: "none in the machine's network", d: desired{pod: hostNet}, o: with(up(), func(o *observed) { o.attached = false }), want: "start c 0"},
		{name: "then the container", d: desired{pod: always}, o: up(), want: "start c 0"},
		{name: "a start that was cut short", d: desired{pod: always}, o: up(runtime.Container{ID: "x", Name: "c", State: runtime.Created, Created: at(1)}), want: "start c 0"},
		{name: "runs", d: desired{pod: always}, o: up(run("c", 0, -1)), want: "wait"},
		{name: "failed a moment ago", d: desired{pod: always}, o: with(up(), func(o *observed) {
			o.tries["start/c"] = try{until: at(60)}
		}), want: "wait", wait: 60},
		{name: "ended: again at once", d: desired{pod: always}, o: up(run("c", 0, 0)), want: "start c 1"},
		{name: "ended often: later", d: desired{pod: always}, o: with(up(run("c", 1, 1)), func(o *observed) { o.streaks["c"] = 3 }), want: "wait", wait: 50},
		{name: "ended often but ran for long", d: desired{pod: always}, o: with(up(run("c", 4, 1)), func(o *observed) {
			o.streaks["c"] = 4
			o.containers[0].Started = at(10).Add(-backoffReset)
			o.sandbox.Started = at(10).Add(-backoffReset)
		}), want: "start c 5"},
		{name: "OnFailure and well", d: desired{pod: policy(corev1.RestartPolicyOnFailure)}, o: up(run("c", 0, 0)), want: "finish Succeeded"},
		{name: "OnFailure and ill", d: desired{pod: policy(corev1.RestartPolicyOnFailure)}, o: up(run("c", 0, 9)), want: "start c 1"},
		{name: "Never and ill", d: desired{pod: policy(corev1.RestartPolicyNever)}, o: up(run("c", 0, 9)), want: "finish Failed"},
		{name: "init first", d: desired{pod: withInit}, o: up(), want: "start i 0"},
		{name: "init runs", d: desired{pod: withInit}, o: up(run("i", 0, -1)), want: "wait"},
		{name: "init done", d: desired{pod: withInit}, o: up(run("i", 0, 0)), want: "start c 0"},
		{name: "init failed for good", d: desired{pod: withInit}, o: up(run("i", 0, 1)), want: "finish Failed"},
		{name: "init of an earlier life", d: desired{pod: withInit}, o: with(up(run("i", 0, 0)), func(o *observed) { o.sandbox.Started = at(100) }), want: "start i 1"},
		{name: "init is over once the rest began", d: desired{pod: withInit}, o: up(run("c", 0, -1)), want: "wait"},
		{name: "unhealthy", d: desired{pod: always}, o: with(up(run("c", 0, -1)), func(o *observed) {
			o.probes["c.0"] = probeResult{failed: "ill"}
		}), want: "stop c"},
		{name: "its image changed", d: desired{pod: other}, o: up(run("c", 0, -1)), want: "stop c"},
		{name: "pause died", d: desired{pod: always}, o: with(up(run("c", 0, -1)), func(o *observed) { o.sandbox.Running = false }), want: "stop c"},
		{name: "pause died, all stopped", d: desired{pod: always}, o: with(up(run("c", 0, 137)), func(o *observed) { o.sandbox.Running = false }), want: "sandbox"},
		{name: "old runs go", d: desired{pod: always}, o: up(run("c", 2, -1), run("c", 1, 1), run("c", 0, 1)), want: "prune c.0"},
		{name: "deleted: stop", d: desired{pod: deleted}, o: up(run("c", 0, -1)), want: "stop c"},
		{name: "deleted: then remove", d: desired{pod: deleted}, o: up(run("c", 0, 143)), want: "remove"},
		{name: "deleted: even when nothing is held", d: desired{pod: deleted}, o: observed{}, want: "remove"},
		{name: "deleted: then say so", d: desired{pod: deleted}, o: observed{removed: true}, want: "confirm"},
		{name: "deleted: said, but held by a finalizer", d: desired{pod: deleted}, o: observed{removed: true, told: true}, want: "wait"},
		{name: "gone: no grace", d: desired{pod: always, gone: true}, o: up(run("c", 0, -1)), want: "remove"},
		{name: "gone: nothing left", d: desired{pod: always, gone: true}, o: observed{removed: true}, want: "forget"},
		{name: "ended for good", d: desired{pod: always, final: &corev1.PodStatus{}}, o: up(run("c", 0, 0)), want: "remove"},
		{name: "ended for good, a sidecar runs", d: desired{pod: always, final: &corev1.PodStatus{}}, o: up(run("c", 0, -1)), want: "stop c"},
		{name: "ended for good, removed", d: desired{pod: always, final: &corev1.PodStatus{}}, o: observed{removed: true}, want: "wait"},
	} {
		t.Run(x.name, func(t *testing.T) {
			a := step(x.d, x.o, at(20))
			got := string(a.verb)
			switch a.verb {
			case start:
				got += " " + a.name + " " + string(rune('0'+a.attempt))
			case stop:
				got += " " + a.runs[0].Name
			case prune:
				got += " " + a.runs[0].ID
			case finish:
				got += " " + string(a.phase)
			default:
			}
			if got != x.want {
				t.Errorf("got %q, want %q", got, x.want)
			}
			if x.wait > 0 && !a.until.Equal(at(x.wait)) || x.wait == 0 && !a.until.IsZero() {
				t.Errorf("waits until %s", a.until)
			}
		})
	}
}

func TestGraceIsOneForAllAndCountsFromTheFirstStop(t *testing.T) {
	p := newPod("a")
	now, grace := metav1.NewTime(at(20)), int64(30)
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "app"})
	o := up(run("c", 0, -1), run("d", 0, -1))
	if a := step(desired{pod: p}, o, at(20)); len(a.runs) != 2 || a.grace != 30*time.Second {
		t.Errorf("%d runs within %s", len(a.runs), a.grace)
	}
	o.stopping = at(20)
	if a := step(desired{pod: p}, o, at(45)); a.grace != 5*time.Second {
		t.Errorf("within %s", a.grace)
	}
}

func TestBackoff(t *testing.T) {
	var got []time.Duration
	for n := range 9 {
		got = append(got, backoff(n)/time.Second)
	}
	if diff := cmp.Diff([]time.Duration{0, 0, 10, 20, 40, 80, 160, 300, 300}, got); diff != "" {
		t.Error(diff)
	}
}

func TestStatus(t *testing.T) {
	pod := func(r corev1.RestartPolicy, init ...string) *corev1.Pod {
		p := newPod("a")
		p.Spec.RestartPolicy = r
		for _, name := range init {
			p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: name, Image: "app"})
		}
		return p
	}
	ready := func(o *observed) { o.probes["c.0"] = probeResult{started: true, ready: true} }
	for _, x := range []struct {
		name  string
		p     *corev1.Pod
		o     observed
		phase corev1.PodPhase
		ready bool
		state string // of the last container
	}{
		{"nothing yet", pod("Always"), observed{}, corev1.PodPending, false, "waiting ContainerCreating"},
		{"behind an init container", pod("Always", "i"), up(run("i", 0, -1)), corev1.PodPending, false, "waiting PodInitializing"},
		{"no image", pod("Always"), with(up(), func(o *observed) {
			o.tries["start/c"] = try{reason: "ErrImagePull", failed: at(19)}
		}), corev1.PodPending, false, "waiting ErrImagePull"},
		{"no image for a while", pod("Always"), with(up(), func(o *observed) {
			o.tries["start/c"] = try{reason: "ErrImagePull", failed: at(10)}
		}), corev1.PodPending, false, "waiting ImagePullBackOff"},
		{"runs, not ready", pod("Always"), with(up(run("c", 0, -1)), func(o *observed) {
			o.probes["c.0"] = probeResult{started: true}
		}), corev1.PodRunning, false, "running"},
		{"runs", pod("Always"), with(up(run("c", 0, -1)), ready), corev1.PodRunning, true, "running"},
		{"crashed", pod("Always"), with(up(run("c", 0, 2)), func(o *observed) { o.streaks["c"] = 3 }), corev1.PodRunning, false, "waiting CrashLoopBackOff"},
		{"done", pod("Never"), up(run("c", 0, 0)), corev1.PodSucceeded, false, "terminated Completed"},
		{"failed", pod("Never"), up(run("c", 0, 2)), corev1.PodFailed, false, "terminated Error"},
		{"out of memory", pod("Never"), up(with2(run("c", 0, 137), func(r *runtime.Container) { r.OOM = true })), corev1.PodFailed, false, "terminated OOMKilled"},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := status(desired{pod: x.p}, x.o, nil, host{ips: []string{"192.0.2.1"}}, at(20))
			state := "none"
			switch c := s.ContainerStatuses[0].State; {
			case c.Waiting != nil:
				state = "waiting " + c.Waiting.Reason
			case c.Running != nil:
				state = "running"
			case c.Terminated != nil:
				state = "terminated " + c.Terminated.Reason
			}
			p := x.p.DeepCopy()
			p.Status = *s
			isReady := s.Conditions[2].Type == corev1.PodReady && s.Conditions[2].Status == corev1.ConditionTrue
			if s.Phase != x.phase || isReady != x.ready || state != x.state {
				t.Errorf("phase %s, ready %v, %s", s.Phase, isReady, state)
			}
		})
	}
}

func with2(r runtime.Container, change func(*runtime.Container)) runtime.Container {
	change(&r)
	return r
}

func TestConditionTimesMoveOnlyWithTheirStatus(t *testing.T) {
	p, o := newPod("a"), up(run("c", 0, -1))
	first := stamp(status(desired{pod: p}, o, nil, host{}, at(20)), at(20))
	o.probes["c.0"] = probeResult{started: true, ready: true}
	second := stamp(status(desired{pod: p}, o, first, host{}, at(40)), at(40))
	for i, c := range second.Conditions {
		moved := c.LastTransitionTime.Time.Equal(at(40))
		if was := first.Conditions[i].Status != c.Status; was != moved {
			t.Errorf("%s: changed %v, time moved %v", c.Type, was, moved)
		}
	}
}
