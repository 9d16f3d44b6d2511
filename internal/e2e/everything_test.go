//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// TestAPodThatSaysEverything runs a pod that says much of what a pod can say, and looks at it from inside: its script finds everything as it should be. Then
// it falls ill and is started again, is approved, and ends within its grace, with its last words.
func TestAPodThatSaysEverything(t *testing.T) {
	c := startLab(t, 3)
	shoal(t, "image", "import", filepath.Join(repo(), "build/images/busybox.tar"))
	apply(t, manifest(t, "everything.yaml"))
	pod := func(ctx context.Context) (*corev1.Pod, error) {
		o, err := c.api.Get(ctx, api.Pods, client.Key{Namespace: "default", Name: "everything"}, client.GetOptions{})
		if err != nil {
			return nil, err
		}
		return o.(*corev1.Pod), nil
	}
	until := func(what string, met func(p *corev1.Pod) bool) {
		t.Helper()
		within(t, 40*time.Second, what, func(ctx context.Context) error {
			p, err := pod(ctx)
			if err == nil && !met(p) {
				out, _ := tryShoal(ctx, "logs", "everything", "-c", "main")
				err = fmt.Errorf("%s; %+v; %s", p.Status.Phase, p.Status.ContainerStatuses, out)
			}
			return err
		})
	}
	ready := func(p *corev1.Pod) bool { s := p.Status.ContainerStatuses; return len(s) == 1 && s[0].Ready }
	until("all is well", ready)
	if out := shoal(t, "logs", "everything", "-c", "main"); !strings.HasPrefix(out, "all is well") {
		t.Errorf("it says %q", out)
	}
	prints(t, "started", "everything", "cat", "/shared/hook")
	p, err := pod(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if api.IsPodReady(p) {
		t.Error("it is ready before it is approved")
	}
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: "example.org/approved", Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
	if _, err := c.api.Update(t.Context(), api.Pods, p, client.UpdateOptions{Subresource: "status"}); err != nil {
		t.Fatal(err)
	}
	until("it is approved", api.IsPodReady)

	shoal(t, "exec", "everything", "-c", "main", "--", "sh", "-c", "rm /shared/well; touch /shared/ill")
	until("it is ill, and told so", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount > 0 })
	shoal(t, "exec", "everything", "-c", "beside", "--", "rm", "/shared/ill")
	until("it is well again", ready)
	p, err = pod(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last := p.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 7 || strings.TrimSpace(last.Message) != "stopping" {
		t.Errorf("its last words: %+v", last)
	}
	for i, name := range []string{"first", "beside", "last"} {
		s := p.Status.InitContainerStatuses[i]
		if s.Name != name || s.RestartCount != 0 || (s.State.Running != nil) != (name == "beside") {
			t.Errorf("%+v", s)
		}
	}
	began := time.Now()
	shoal(t, "delete", "pod", "everything")
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %s to end", took)
	}
}
