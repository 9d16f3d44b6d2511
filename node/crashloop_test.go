package node

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestCrashLoopBacksOff(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", nil)
		w.settle()
		crash := func() {
			t.Helper()
			if !w.runtime.Exit(p.UID, "c", 3) {
				t.Fatal("it does not run")
			}
			w.settle()
		}
		crash()
		if got := w.wantRunning("a"); got.Status.ContainerStatuses[0].RestartCount != 1 {
			t.Fatalf("first restart is not at once: %s", brief(got))
		}
		crash()
		st := w.get("a").Status
		cs := st.ContainerStatuses[0]
		want := "back-off 10s restarting failed container=c pod=a_default(" + string(p.UID) + ")"
		if cs.State.Waiting == nil || cs.State.Waiting.Reason != "CrashLoopBackOff" || cs.State.Waiting.Message != want {
			t.Fatalf("waiting: %+v", cs.State)
		}
		if cs.LastTerminationState.Terminated == nil || cs.LastTerminationState.Terminated.ExitCode != 3 || st.Phase != corev1.PodRunning {
			t.Fatalf("last state: %+v, phase %s", cs.LastTerminationState, st.Phase)
		}
		w.pass(10 * time.Second)
		w.wantRunning("a")
		crash()
		w.pass(18 * time.Second)
		if w.get("a").Status.ContainerStatuses[0].State.Waiting == nil {
			t.Fatal("the second wait is no longer than the first")
		}
		w.pass(2 * time.Second)
		w.wantRunning("a")
		w.pass(11 * time.Minute)
		crash()
		w.wantRunning("a")
	})
}

func TestARestartedNodeRemembersACrashLoop(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", nil)
		w.settle()
		for range 2 {
			w.runtime.Exit(p.UID, "c", 3)
			w.settle()
		}
		w.halt()
		w.start()
		w.settle()
		if cs := w.get("a").Status.ContainerStatuses[0]; cs.State.Waiting == nil || !strings.HasPrefix(cs.State.Waiting.Message, "back-off 10s") {
			t.Fatalf("state: %+v", cs.State)
		}
		w.pass(10 * time.Second)
		w.wantRunning("a")
	})
}

// TestAMachineThatLosesItsPowerIsNoCrashLoop does so often: nobody's container has failed.
func TestAMachineThatLosesItsPowerIsNoCrashLoop(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", nil)
		w.settle()
		for i := range 6 {
			w.halt()
			w.runtime.KillSandbox(p.UID)
			w.runtime.Exit(p.UID, "c", 137)
			w.start()
			w.settle()
			if got := w.wantRunning("a"); got.Status.ContainerStatuses[0].RestartCount != int32(i+1) {
				t.Fatalf("status: %s", brief(got))
			}
			w.halt() // an upgrade, say
			w.start()
		}
	})
}
