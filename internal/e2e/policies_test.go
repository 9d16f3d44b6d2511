//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// server is a pod that serves HTTP behind a Service of its name.
func server(namespace, name, node string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec: {selector: {app: %[2]s}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s, labels: {app: %[2]s}}
spec:
  nodeName: %[3]s
  terminationGracePeriodSeconds: 1
  containers:
  - name: probe
    image: shoal.local/probe:1
    args: [serve, "8080"]
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
`, namespace, name, node)
}

// shellPod is a pod to call from.
func shellPod(namespace, name, node, script string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s, labels: {app: %[2]s}}
spec:
  nodeName: %[3]s
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers: [{name: sh, image: "shoal.local/busybox:1", command: [sh, -c, %[4]q]}]
`, namespace, name, node, script)
}

const allowStrangers = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: strangers, namespace: team}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}, podSelector: {matchLabels: {kind: guest}}}]
    ports: [{port: http}]
`

// callFrom calls a URL from a pod: nil when it is answered, errRefused when it is refused at once.
func callFrom(ctx context.Context, namespace, name, url string) error {
	out, err := tryShoal(ctx, "-n", namespace, "exec", name, "--", "wget", "-q", "-T", "3", "-O", "-", url)
	switch {
	case err == nil && strings.Contains(out, "from"):
		return nil
	case err == nil:
		return fmt.Errorf("answer %q", out)
	case strings.Contains(err.Error(), "refused"):
		return errRefused
	}
	return err
}

var errRefused = errors.New("refused")

// TestNetworkPolicies shuts a tenant off, lets somebody in, and looks from pods of the same machine, of others, and through Services.
func TestNetworkPolicies(t *testing.T) {
	c := startLab(t, 3)
	shoal(t, "image", "import", filepath.Join(repo(), "build/images/busybox.tar"))
	shoal(t, "tenant", "create", "team", "--security", "baseline")
	const forever = "sleep 99999"
	apply(t, server("team", "web", "peer-1")+shellPod("team", "friend", "peer-1", forever)+shellPod("team", "friend-far", "peer-2", forever)+
		server("default", "world", "peer-3")+shellPod("default", "stranger", "peer-1", forever)+shellPod("default", "stranger-far", "peer-2", forever))
	for _, p := range []string{"team/web", "team/friend", "team/friend-far", "default/world", "default/stranger", "default/stranger-far"} {
		ns, name, _ := strings.Cut(p, "/")
		shoal(t, "-n", ns, "wait", "pod", name, "--for", "condition=Ready") // which its own machine's probe says: that may come in
	}
	address := func(namespace, name string) string {
		o, err := c.api.Get(t.Context(), api.Pods, client.Key{Namespace: namespace, Name: name}, client.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return "http://" + o.(*corev1.Pod).Status.PodIP + ":8080/"
	}
	web, world := address("team", "web"), address("default", "world")
	const throughService = "http://web.team.svc.cluster.local/"
	expect := func(when string, want error, pods, urls []string) {
		t.Helper()
		for _, p := range pods {
			ns, name, _ := strings.Cut(p, "/")
			for _, url := range urls {
				within(t, 10*time.Second, fmt.Sprintf("%s: %s calls %s, want %v", when, p, url, want), func(ctx context.Context) error {
					if err := callFrom(ctx, ns, name, url); !errors.Is(err, want) {
						return fmt.Errorf("got %w", err)
					}
					return nil
				})
			}
		}
	}
	friends, strangers := []string{"team/friend", "team/friend-far"}, []string{"default/stranger", "default/stranger-far"}
	both := []string{web, throughService}

	t.Run("a tenant's pods reach one another, and nobody else does", func(t *testing.T) {
		expect("tenant", nil, friends, both)
		expect("tenant", errRefused, strangers, both)
		expect("tenant", errRefused, friends, []string{world})
		expect("tenant", nil, strangers, []string{world})
	})
	t.Run("who is let in by label and namespace, through a port's name", func(t *testing.T) {
		apply(t, allowStrangers)
		expect("no guest", errRefused, strangers, both)
		for _, p := range strangers {
			_, name, _ := strings.Cut(p, "/")
			if _, err := tryKubectl(t.Context(), "label", "pod", name, "kind=guest"); err != nil {
				t.Fatal(err)
			}
		}
		expect("guests", nil, strangers, both)
		shoal(t, "-n", "team", "delete", "networkpolicy", "strangers")
		expect("guests no more", errRefused, strangers, both)
	})
	t.Run("the peer's restart opens nothing", func(t *testing.T) {
		script := `n=0; while [ $n -lt 150 ]; do n=$((n+1)); wget -q -T 1 -O - ` + web + ` && echo OPEN; sleep 0.05; done; echo asked $n`
		asked := make(chan string, 1)
		go func() {
			out, err := tryShoal(t.Context(), "exec", "stranger-far", "--", "sh", "-c", script)
			asked <- fmt.Sprint(out, err)
		}()
		shoal(t, "lab", "kill", "peer-1", "--process")
		shoal(t, "lab", "start", "peer-1")
		if got := <-asked; strings.Contains(got, "OPEN") || !strings.Contains(got, "asked 150") {
			t.Errorf("while the peer was restarted: %s", got)
		}
	})
	t.Run("a pod is shut off from its first moment on", func(t *testing.T) {
		var all strings.Builder
		const pods = 10
		for i := range pods {
			all.WriteString(shellPod("team", fmt.Sprintf("eager-%d", i), "peer-1",
				`n=0; while [ $n -lt 40 ]; do n=$((n+1)); wget -q -T 1 -O - `+world+` && echo OPEN; done; echo asked $n`))
		}
		apply(t, all.String())
		for i := range pods {
			name := fmt.Sprintf("eager-%d", i)
			shoal(t, "-n", "team", "wait", "pod", name, "--for", "jsonpath={.status.phase}=Succeeded")
			if got := shoal(t, "-n", "team", "logs", name); strings.Contains(got, "OPEN") || !strings.Contains(got, "asked 40") {
				t.Errorf("%s: %s", name, got)
			}
		}
	})
	t.Run("without policies all is open", func(t *testing.T) {
		shoal(t, "-n", "team", "delete", "networkpolicy", "tenant")
		expect("open", nil, append(strangers, friends...), both)
		expect("open", nil, friends, []string{world})
	})
}
