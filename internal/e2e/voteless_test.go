//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"shoal/internal/api"
)

// TestAPeerWithoutAVote: of four peers three vote. The fourth is as good as any to talk to.
func TestAPeerWithoutAVote(t *testing.T) {
	startLab(t, 4)
	voteless := ""
	for line := range strings.Lines(shoal(t, "peers")) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == api.RoleReplica {
			voteless = f[0]
		}
	}
	if voteless == "" {
		t.Fatalf("everybody votes:\n%s", shoal(t, "peers"))
	}
	shoal(t, "--peer", voteless, "create", "namespace", "tour")
	apply(t, strings.Replace(pod("there", voteless, "sleep"), "{name: there,", "{name: there, namespace: tour,", 1))
	apply(t, strings.Replace(pod("far", master(t), "sleep"), "{name: far,", "{name: far, namespace: tour,", 1))
	for _, name := range []string{"there", "far"} {
		shoal(t, "--peer", voteless, "-n", "tour", "wait", "pod", name, "--for", "condition=Ready")
		if out := shoal(t, "--peer", voteless, "-n", "tour", "exec", name, "--", "/app", "api", "/version"); !strings.Contains(out, "gitVersion") {
			t.Errorf("exec in %s says %q", name, out)
		}
		shoal(t, "--peer", voteless, "-n", "tour", "logs", name)
	}
	shoal(t, "--peer", voteless, "token", "list")
	shoal(t, "--peer", voteless, "image", "list")
	shell := tourShell(t, t.TempDir(), voteless, map[string]string{"kubectl": "kubectl-current"})
	for _, line := range []string{
		"kubectl create configmap theirs --from-literal=a=b",
		"kubectl label configmap theirs x=y",
		"kubectl apply --server-side -f - <<<'{apiVersion: v1, kind: ConfigMap, metadata: {name: theirs}, data: {c: d}}'",
		"kubectl get configmap theirs -o jsonpath='{.data}' | grep '\"c\":\"d\"'",
		"kubectl logs there && kubectl logs far",
		"kubectl exec there -- /app api /version && kubectl exec far -- /app api /version",
		"kubectl delete configmap theirs",
		"kubectl delete pod there --now",
		"kubectl delete namespace tour",
	} {
		if out, err := shell(line); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}
