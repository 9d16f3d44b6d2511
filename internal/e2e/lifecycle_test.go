//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestLifeOfPods scales up and down, replaces what is deleted and restarts what dies.
func TestLifeOfPods(t *testing.T) {
	c := startLab(t, 3)
	apply(t, web(3))
	running(t, c.api, "web", 3, 30*time.Second)

	t.Run("every peer gives the same answer", func(t *testing.T) {
		want := shoal(t, "--peer", "peer-1", "get", "pods", "-o", "name")
		for _, name := range c.names {
			if got := shoal(t, "--peer", name, "get", "pods", "-o", "name"); got != want {
				t.Errorf("%s says\n%s\npeer-1 says\n%s", name, got, want)
			}
			wide := shoal(t, "--peer", name, "get", "pods", "-o", "wide")
			if n := strings.Count(wide, "Running"); n != 3 {
				t.Errorf("%s shows %d running pods:\n%s", name, n, wide)
			}
		}
	})
	t.Run("the VIP answers over TCP and UDP from every machine", func(t *testing.T) {
		vip := shoal(t, "get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}")
		for _, name := range c.names {
			within(t, 10*time.Second, "VIP from "+name, func(ctx context.Context) error {
				out, err := tryShoal(ctx, "lab", "exec", name, "--", "curl", "-sS", "--max-time", "2", "http://"+vip)
				if err == nil && !strings.HasPrefix(out, "web-") {
					err = fmt.Errorf("answer %q", out)
				}
				return err
			})
		}
	})
	t.Run("names resolve in pods", func(t *testing.T) {
		apply(t, pod("names", "peer-1", "sleep"))
		shoal(t, "wait", "pod", "names", "--for", "condition=Ready")
		if _, err := tryShoal(t.Context(), "wait", "pod", "nobody", "--for", "condition=Ready", "--timeout", "1s"); err == nil {
			t.Error("a pod that does not exist is said to be ready")
		}
		for _, name := range []string{"web", "web.default", "web.default.svc.cluster.local"} {
			out := shoal(t, "exec", "names", "--", "/app", "get", "http://"+name)
			if !strings.HasPrefix(out, "web-") {
				t.Errorf("%s answers %q", name, out)
			}
		}
		shoal(t, "delete", "pod", "names", "--now")
	})
	t.Run("a pod asks the API as its service account", func(t *testing.T) {
		apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: talk}\n---"+ // at once: the account is not there yet
			strings.Replace(pod("talker", "peer-2", "sleep"), "{name: talker,", "{name: talker, namespace: talk,", 1))
		shoal(t, "-n", "talk", "wait", "pod", "talker", "--for", "condition=Ready")
		ask := []string{"-n", "talk", "exec", "talker", "--", "/app", "api", "/api/v1/namespaces/{namespace}/pods/talker"}
		if out, err := tryShoal(t.Context(), ask...); err == nil || !strings.Contains(err.Error()+out, "403") {
			t.Errorf("without any right: %v %s", err, out)
		}
		apply(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewers, namespace: talk}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: default, namespace: talk}]
`)
		within(t, 5*time.Second, "the right to look", func(ctx context.Context) error {
			out, err := tryShoal(ctx, ask...)
			if err == nil && !strings.Contains(out, `"name":"talker"`) {
				err = fmt.Errorf("answer %q", out)
			}
			return err
		})
		shoal(t, "delete", "ns", "talk")
	})
	t.Run("a port of a machine leads to its pod, and outlives the peer's restart", func(t *testing.T) {
		apply(t, strings.Replace(pod("porter", "peer-1", "serve", "8080"), "args:", "ports: [{containerPort: 8080, hostPort: 8099}]\n    args:", 1))
		shoal(t, "wait", "pod", "porter", "--for", "condition=Ready")
		var address string
		for _, p := range status(t).Peers {
			if p.Name == "peer-1" {
				address = p.Address
			}
		}
		for from, to := range map[string]string{"peer-2": address, "peer-1": "127.0.0.1"} {
			within(t, 10*time.Second, "port 8099 from "+from, func(ctx context.Context) error {
				out, err := tryShoal(ctx, "lab", "exec", from, "--", "curl", "-sS", "--max-time", "2", "http://"+to+":8099")
				if err == nil && !strings.HasPrefix(out, "porter") {
					err = fmt.Errorf("answer %q", out)
				}
				return err
			})
		}
		// Without a pause, through the restart: who is refused once has found the port closed.
		script := `for i in $(seq 100); do curl -sS --max-time 2 http://` + address + `:8099 >/dev/null || exit 1; sleep 0.05; done`
		asked := make(chan error, 1)
		go func() {
			_, err := tryShoal(t.Context(), "lab", "exec", "peer-2", "--", "sh", "-c", script)
			asked <- err
		}()
		shoal(t, "lab", "kill", "peer-1", "--process")
		shoal(t, "lab", "start", "peer-1")
		if err := <-asked; err != nil {
			t.Errorf("while the peer was restarted: %v", err)
		}
		shoal(t, "delete", "pod", "porter", "--now")
	})
	t.Run("a deleted pod is replaced", func(t *testing.T) {
		all, err := pods(t.Context(), c.api, "web")
		if err != nil {
			t.Fatal(err)
		}
		shoal(t, "delete", "pod", all[0].Name)
		running(t, c.api, "web", 3, 20*time.Second)
	})
	t.Run("a container that dies is started again", func(t *testing.T) {
		all, err := pods(t.Context(), c.api, "web")
		if err != nil {
			t.Fatal(err)
		}
		victim := all[0]
		id := strings.TrimPrefix(victim.Status.ContainerStatuses[0].ContainerID, "containerd://")
		shoal(t, "lab", "exec", victim.Spec.NodeName, "--", "sh", "-c",
			"kill -9 $(cat /sys/fs/cgroup/pids/shoal-lab/"+victim.Spec.NodeName+"/*/"+id+"/cgroup.procs)")
		within(t, 20*time.Second, "restart", func(ctx context.Context) error {
			now, err := pods(ctx, c.api, "web")
			if err != nil {
				return err
			}
			for _, p := range now {
				if p.UID == victim.UID && p.Status.ContainerStatuses[0].RestartCount == 1 && p.Status.ContainerStatuses[0].State.Running != nil {
					return nil
				}
			}
			return errNotYet
		})
	})
	t.Run("3 to 30 to 0 and back", func(t *testing.T) {
		for _, n := range []int{30, 0, 3} {
			shoal(t, "scale", "rc", "web", "--replicas", fmt.Sprint(n))
			if n == 0 {
				t.Logf("FIGURES 30 → 0 gone in %v", gone(t, c.api, "web", 30*time.Second))
				continue
			}
			t.Logf("FIGURES → %d running in %v", n, running(t, c.api, "web", n, 60*time.Second))
		}
	})
	t.Run("out of memory is said so", func(t *testing.T) {
		apply(t, strings.Replace(pod("eater", "peer-2", "eat", "200"), "args:", "resources: {limits: {memory: 32Mi}}\n    args:", 1))
		within(t, 20*time.Second, "OOMKilled", func(ctx context.Context) error {
			all, err := pods(ctx, c.api, "eater")
			if err != nil || len(all) != 1 || len(all[0].Status.ContainerStatuses) != 1 {
				return fmt.Errorf("%w %v", errNotYet, err)
			}
			st := all[0].Status.ContainerStatuses[0].State.Terminated
			if all[0].Status.Phase != corev1.PodFailed || st == nil || st.Reason != "OOMKilled" || st.ExitCode != 137 {
				return fmt.Errorf("phase %s, %+v", all[0].Status.Phase, st)
			}
			return nil
		})
	})
	t.Run("a pod that fits nowhere says why", func(t *testing.T) {
		apply(t, strings.Replace(strings.Replace(pod("giant", "x", "sleep"), "  nodeName: x\n", "", 1), "args:", "resources: {requests: {cpu: 1000}}\n    args:", 1))
		within(t, 10*time.Second, "pending with a reason", func(ctx context.Context) error {
			out, err := tryShoal(ctx, "describe", "pod", "giant")
			if err == nil && !strings.Contains(out, "0/3 nodes are available: 3 Insufficient cpu") {
				err = fmt.Errorf("%s", out)
			}
			return err
		})
	})
}
