package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/node/runtime"
	"shoal/node/runtime/fake"
)

func TestPodConvergesWhateverCallFailsOnce(t *testing.T) {
	calls := []fake.Call{fake.Pods, fake.Pod, fake.StartSandbox, fake.RecordIP, fake.ImageOf, fake.StartContainer}
	for _, c := range calls {
		t.Run("start/"+string(c), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.runtime.Fail(c, errors.New("boom"))
				w.pod("a", nil)
				w.pass(15 * time.Second)
				w.wantRunning("a")
			})
		})
	}
	for _, c := range []fake.Call{fake.Pod, fake.StopContainer, fake.RemovePod} {
		t.Run("stop/"+string(c), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.pod("a", nil)
				w.settle()
				w.runtime.Fail(c, errors.New("boom"))
				w.delete("a", 30)
				w.pass(15 * time.Second)
				if p := w.get("a"); p != nil {
					t.Fatalf("pod is still there: %s", brief(p))
				}
				w.wantNothing()
			})
		})
	}
	t.Run("start/Attach", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.network.fail = errors.New("boom")
			w.pod("a", nil)
			w.pass(5 * time.Second)
			w.wantRunning("a")
		})
	})
}

func TestRestartedNodeAdoptsWithoutRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pod("a", func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 10, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
		})
		w.pass(time.Minute)
		before, pod := w.held(), w.wantRunning("a")
		w.halt()
		node := w.theNode()
		release := w.runtime.Block(fake.Exec)
		w.start()
		if diff := cmp.Diff(before, w.held()); diff != "" {
			t.Fatalf("the runtime was touched:\n%s", diff)
		}
		now := w.wantRunning("a")
		if diff := cmp.Diff(pod.Status, now.Status); diff != "" {
			t.Errorf("status changed:\n%s", diff)
		}
		if diff := cmp.Diff(node, w.theNode()); diff != "" {
			t.Errorf("node changed:\n%s", diff)
		}
		release()
	})
}

func TestWhatTheAPIForgotIsStopped(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pod("a", nil)
		w.pod("b", nil)
		w.settle()
		w.halt()
		w.delete("a", 0)
		w.start()
		if held := w.held(); len(held) != 1 || held[0].Name != "b" {
			t.Fatalf("held: %v", held)
		}
		w.wantRunning("b")
	})
}

func TestWithoutAPIPodsAreKeptAndRestarted(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", nil)
		w.settle()
		w.halt()
		w.client = unreachable{w.api}
		w.start()
		w.runtime.Exit(p.UID, "c", 1)
		w.pass(time.Minute)
		held := w.held()
		if len(held) != 1 || held[0].Containers[0].State != runtime.Running || held[0].Containers[0].Attempt != 1 {
			t.Fatalf("held: %+v", held)
		}
		w.halt()
		w.client = nil
		w.start()
		if p := w.wantRunning("a"); p.Status.ContainerStatuses[0].RestartCount != 1 {
			t.Fatalf("status: %s", brief(p))
		}
	})
}

func TestForceDeletionKillsAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", nil)
		w.settle()
		w.runtime.IgnoreStop(p.UID, "c")
		w.delete("a", 30)
		w.pass(5 * time.Second)
		if len(w.held()) != 1 {
			t.Fatal("it was killed before its grace was over")
		}
		w.delete("a", 0)
		w.settle()
		w.wantNothing()
	})
}

func TestStubbornPodIsKilledAfterItsGrace(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", nil)
		w.settle()
		w.runtime.IgnoreStop(p.UID, "c")
		w.delete("a", 10)
		w.pass(9 * time.Second)
		if w.get("a") == nil {
			t.Fatal("it went before its grace was over")
		}
		w.pass(2 * time.Second)
		if w.get("a") != nil {
			t.Fatal("it is still there")
		}
		w.wantNothing()
	})
}

func TestMissingImageBacksOffAndRecovers(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pod("a", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "later" })
		w.settle()
		if s := w.get("a").Status.ContainerStatuses[0].State.Waiting; s == nil || s.Reason != "ErrImagePull" {
			t.Fatalf("waiting: %+v", s)
		}
		w.pass(3 * time.Second)
		if s := w.get("a").Status.ContainerStatuses[0].State.Waiting; s == nil || s.Reason != "ImagePullBackOff" {
			t.Fatalf("waiting: %+v", s)
		}
		w.runtime.Publish(runtime.Image{Name: "later"})
		w.pass(10 * time.Second)
		w.wantRunning("a")
	})
}

func TestInitContainersRunInOrderBeforeTheRest(t *testing.T) {
	inWorld(t, func(w *world) {
		always := corev1.ContainerRestartPolicyAlways
		p := w.pod("a", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{
				{Name: "one", Image: "app", ImagePullPolicy: corev1.PullIfNotPresent},
				{Name: "side", Image: "app", ImagePullPolicy: corev1.PullIfNotPresent, RestartPolicy: &always},
				{Name: "two", Image: "app", ImagePullPolicy: corev1.PullIfNotPresent},
			}
		})
		running := func(want ...string) {
			t.Helper()
			w.settle()
			var got []string
			for _, c := range w.held()[0].Containers {
				if c.State == runtime.Running {
					got = append(got, c.Name)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("running:\n%s", diff)
			}
		}
		running("one")
		if s := w.get("a").Status; s.Phase != corev1.PodPending || s.ContainerStatuses[0].State.Waiting.Reason != "PodInitializing" {
			t.Fatalf("status: %s", brief(w.get("a")))
		}
		w.runtime.Exit(p.UID, "one", 0)
		running("side", "two")
		w.runtime.Exit(p.UID, "two", 1)
		running("side", "two")
		w.runtime.Exit(p.UID, "two", 0)
		running("c", "side")
		w.wantRunning("a")
		w.runtime.Exit(p.UID, "side", 1)
		running("c", "side")
	})
}

func TestPodThatEndsStaysEnded(t *testing.T) {
	for _, x := range []struct {
		policy corev1.RestartPolicy
		code   int
		want   corev1.PodPhase
	}{
		{corev1.RestartPolicyNever, 0, corev1.PodSucceeded},
		{corev1.RestartPolicyNever, 2, corev1.PodFailed},
		{corev1.RestartPolicyOnFailure, 0, corev1.PodSucceeded},
		{corev1.RestartPolicyOnFailure, 2, corev1.PodRunning},
		{corev1.RestartPolicyAlways, 0, corev1.PodRunning},
	} {
		t.Run(string(x.policy)+"/"+string(x.want), func(t *testing.T) {
			inWorld(t, func(w *world) {
				p := w.pod("a", func(p *corev1.Pod) { p.Spec.RestartPolicy = x.policy })
				w.settle()
				w.runtime.Exit(p.UID, "c", x.code)
				w.settle()
				got := w.get("a")
				if got.Status.Phase != x.want {
					t.Fatalf("phase %s: %s", got.Status.Phase, brief(got))
				}
				if x.want == corev1.PodRunning {
					return
				}
				w.wantNothing()
				if c := got.Status.ContainerStatuses[0].State.Terminated; c == nil || int(c.ExitCode) != x.code {
					t.Fatalf("state: %s", brief(got))
				}
				w.halt()
				w.start()
				if diff := cmp.Diff(got, w.get("a")); diff != "" {
					t.Fatalf("a restart of the node changed it:\n%s", diff)
				}
				w.delete("a", 30)
				w.settle()
				if w.get("a") != nil {
					t.Fatal("it cannot be deleted")
				}
			})
		})
	}
}

func TestPodThatDoesNotFitIsRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pod("a", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: quantity("4000")}
		})
		w.settle()
		if p := w.get("a"); p.Status.Phase != corev1.PodFailed || p.Status.Reason != "OutOfcpu" {
			t.Fatalf("status: %+v", p.Status)
		}
		w.wantNothing()
	})
}

func TestOutOfMemoryIsSaid(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", nil)
		w.settle()
		w.runtime.OOM(p.UID, "c")
		w.settle()
		got := w.wantRunning("a").Status.ContainerStatuses[0].LastTerminationState.Terminated
		if got == nil || got.Reason != "OOMKilled" || got.ExitCode != 137 {
			t.Fatalf("last state: %+v", got)
		}
	})
}

func TestConfigMapThatComesLaterStartsThePod(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "m"}, Key: "k",
			}}}}
		})
		w.settle()
		if s := w.get("a").Status.ContainerStatuses[0].State.Waiting; s == nil || s.Reason != "CreateContainerConfigError" {
			t.Fatalf("waiting: %+v", s)
		}
		w.pass(time.Minute)
		w.create(api.ConfigMaps, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m", Namespace: "default"}, Data: map[string]string{"k": "v"}})
		w.settle()
		w.wantRunning("a")
		c, _ := w.runtime.Container(p.UID, "c")
		if !slices.Contains(c.Env, "X=v") {
			t.Fatalf("environment: %q", c.Env)
		}
	})
}

func TestOthersConditionsAreKeptAndOwnOnesRestored(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pod("a", nil)
		w.settle()
		p := w.wantRunning("a").DeepCopy()
		for i := range p.Status.Conditions {
			if p.Status.Conditions[i].Type == corev1.PodReady {
				p.Status.Conditions[i].Status = corev1.ConditionFalse
			}
		}
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue})
		if _, err := w.api.Update(t.Context(), api.Pods, p, client.UpdateOptions{Subresource: "status"}); err != nil {
			t.Fatal(err)
		}
		w.settle()
		if c := api.PodCondition(w.wantRunning("a"), corev1.DisruptionTarget); c == nil {
			t.Fatal("another's condition was dropped")
		}
	})
}

func TestDeadPauseIsReplacedWithItsContainers(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", nil)
		w.pass(time.Minute)
		w.runtime.KillSandbox(p.UID)
		w.pass(15 * time.Second)
		got := w.wantRunning("a")
		if got.Status.ContainerStatuses[0].RestartCount != 1 {
			t.Fatalf("status: %s", brief(got))
		}
	})
}

func TestDeadlineEndsThePod(t *testing.T) {
	inWorld(t, func(w *world) {
		seconds := int64(60)
		w.pod("a", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &seconds })
		w.pass(58 * time.Second)
		w.wantRunning("a")
		w.pass(3 * time.Second)
		if p := w.get("a"); p.Status.Phase != corev1.PodFailed || p.Status.Reason != "DeadlineExceeded" {
			t.Fatalf("status: %s", brief(p))
		}
		w.wantNothing()
	})
}

func TestProbesDecide(t *testing.T) {
	inWorld(t, func(w *world) {
		var healthy, ready atomic.Bool
		healthy.Store(true)
		w.runtime.OnExec(func(_ runtime.Container, c runtime.ExecConfig) (int, error) {
			ok := healthy.Load()
			if c.Command[0] == "ready" {
				ok = ready.Load()
			}
			if ok {
				return 0, nil
			}
			return 1, nil
		})
		probe := func(command string) *corev1.Probe {
			return &corev1.Probe{PeriodSeconds: 5, FailureThreshold: 2, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{command}}}}
		}
		w.pod("a", func(p *corev1.Pod) {
			p.Spec.Containers[0].LivenessProbe, p.Spec.Containers[0].ReadinessProbe = probe("live"), probe("ready")
		})
		w.settle()
		if p := w.get("a"); p.Status.Phase != corev1.PodRunning || api.IsPodReady(p) {
			t.Fatalf("before it is ready: %s", brief(p))
		}
		ready.Store(true)
		w.pass(6 * time.Second)
		w.wantRunning("a")
		ready.Store(false)
		w.pass(6 * time.Second)
		w.wantRunning("a")
		w.pass(5 * time.Second)
		if api.IsPodReady(w.get("a")) {
			t.Fatal("two failures in a row went unnoticed")
		}
		healthy.Store(false)
		w.pass(11 * time.Second)
		healthy.Store(true)
		w.settle()
		if n := w.get("a").Status.ContainerStatuses[0].RestartCount; n != 1 {
			t.Fatalf("%d restarts", n)
		}
	})
}

func TestDeletionCutsAPullShort(t *testing.T) {
	inWorld(t, func(w *world) {
		release := w.runtime.Block(fake.ImageOf)
		defer release()
		w.pod("a", nil)
		w.settle()
		if s := w.get("a").Status.ContainerStatuses[0].State.Waiting; s == nil || s.Reason != "ContainerCreating" {
			t.Fatalf("waiting: %+v", s)
		}
		w.delete("a", 30)
		w.settle()
		if w.get("a") != nil {
			t.Fatal("it is still there")
		}
		w.wantNothing()
	})
}

func TestFinalizerKeepsTheObjectAndNothingElse(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pod("a", func(p *corev1.Pod) { p.Finalizers = []string{"example.com/wait"} })
		w.settle()
		w.delete("a", 30)
		w.pass(5 * time.Second)
		p := w.get("a")
		if p == nil || p.Status.Phase != corev1.PodFailed || p.Status.ContainerStatuses[0].State.Terminated == nil {
			t.Fatalf("pod: %s", brief(p))
		}
		w.wantNothing()
		rev := w.rev()
		w.pass(time.Hour)
		if w.rev() != rev {
			t.Fatal("it was written to again and again")
		}
		p = p.DeepCopy()
		p.Finalizers = nil
		if _, err := w.api.Update(t.Context(), api.Pods, p, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		w.settle()
		if w.get("a") != nil {
			t.Fatal("it is still there")
		}
		if left := loadRecords(w.node.podsDir(), w.node.log); len(left) > 0 {
			t.Fatalf("left over: %v", left)
		}
	})
}

func TestContainersStopTogether(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "app", ImagePullPolicy: corev1.PullIfNotPresent})
		})
		w.settle()
		w.wantRunning("a")
		w.runtime.IgnoreStop(p.UID, "c")
		w.runtime.IgnoreStop(p.UID, "d")
		w.delete("a", 10)
		w.pass(11 * time.Second)
		if w.get("a") != nil {
			t.Fatal("each had a grace of its own")
		}
	})
}

func TestUnreachableAPILosesNoStatus(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", nil)
		w.settle()
		w.log.SetMaster(false)
		w.runtime.Exit(p.UID, "c", 1)
		w.pass(time.Minute)
		if held := w.held(); held[0].Containers[0].Attempt != 1 {
			t.Fatal("it was not restarted")
		}
		w.log.SetMaster(true)
		w.pass(time.Minute)
		if got := w.wantRunning("a"); got.Status.ContainerStatuses[0].RestartCount != 1 {
			t.Fatalf("status: %s", brief(got))
		}
	})
}

// behind is a replica that has yet to hear of the last hour: it lists nothing, at revision 1.
type behind struct{ client.Interface }

func (b behind) List(ctx context.Context, k *api.Kind, o client.ListOptions) (*client.List, error) {
	if k == api.Pods {
		return &client.List{ResourceVersion: "1"}, nil
	}
	return b.Interface.List(ctx, k, o)
}

func (b behind) Watch(ctx context.Context, k *api.Kind, o client.ListOptions) (client.Watch, error) {
	if k == api.Pods {
		return nil, apierrors.NewServiceUnavailable("not yet")
	}
	return b.Interface.Watch(ctx, k, o)
}

func TestReplicaThatIsBehindStopsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", nil)
		w.settle()
		w.halt()
		w.client = behind{w.api}
		w.start()
		w.runtime.Exit(p.UID, "c", 1)
		w.pass(time.Minute)
		held := w.held()
		if len(held) != 1 || held[0].Containers[0].State != runtime.Running {
			t.Fatalf("held: %+v", held)
		}
	})
}

// TestARuntimeThatHangsHoldsNothingForEver: a call that is never answered is given up, said, and made again.
func TestARuntimeThatHangsHoldsNothingForEver(t *testing.T) {
	for _, call := range []fake.Call{fake.StartSandbox, fake.RecordIP, fake.StartContainer, fake.RemovePod} {
		t.Run(string(call), func(t *testing.T) {
			inWorld(t, func(w *world) {
				if call == fake.RemovePod {
					w.pod("a", nil)
					w.settle()
					w.wantRunning("a")
				}
				release := w.runtime.Block(call)
				if call == fake.RemovePod {
					w.delete("a", 0)
				} else {
					w.pod("a", nil)
				}
				w.pass(runtimePatience + 5*time.Second)
				events, err := w.api.List(w.t.Context(), api.Events, client.ListOptions{Namespace: "default"})
				if err != nil || !slices.ContainsFunc(events.Items, func(o api.Object) bool {
					return strings.Contains(o.(*corev1.Event).Message, "has not answered for 2m0s")
				}) {
					t.Errorf("nobody says so: %v", err)
				}
				release()
				w.pass(time.Minute)
				if call == fake.RemovePod {
					w.wantNothing()
				} else {
					w.wantRunning("a")
				}
			})
		})
	}
}
