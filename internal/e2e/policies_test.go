//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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

// callerPod is a probe to call from, or one that calls by itself.
func callerPod(namespace, name, node, args string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s, labels: {app: %[2]s}}
spec:
  nodeName: %[3]s
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers: [{name: probe, image: "shoal.local/probe:1", args: [%[4]s]}]
`, namespace, name, node, args)
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
	out, err := tryShoal(ctx, "-n", namespace, "exec", name, "--", "/app", "get", url)
	switch {
	case err == nil && strings.Contains(out, ":"): // who answers, and the caller's address
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
	shoal(t, "tenant", "create", "team", "--security", "baseline")
	const forever = "sleep"
	apply(t, server("team", "web", "peer-1")+callerPod("team", "friend", "peer-1", forever)+callerPod("team", "friend-far", "peer-2", forever)+
		server("default", "world", "peer-3")+callerPod("default", "stranger", "peer-1", forever)+callerPod("default", "stranger-far", "peer-2", forever))
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
	t.Run("a tenant's pods send no packets in the name of others", func(t *testing.T) {
		const netRaw = 13
		for pod, want := range map[string]bool{"team/friend": false, "team/friend-far": false, "team/web": false, "default/stranger": true, "default/world": true} {
			ns, name, _ := strings.Cut(pod, "/")
			for set, caps := range capabilitiesOf(t, ns, name) {
				if set == "CapBnd" || set == "CapEff" || set == "CapPrm" {
					if has := caps&(1<<netRaw) != 0; has != want {
						t.Errorf("%s: NET_RAW is in %s (%x): %v", pod, set, caps, has)
					}
				}
			}
		}
		apply(t, callerPod("team", "friend", "peer-1", forever)) // the same again is no change
		_, err := tryKubectl(t.Context(), "-n", "team", "run", "raw", "--image", "shoal.local/probe:1", "--overrides",
			`{"spec":{"containers":[{"name":"raw","image":"shoal.local/probe:1","securityContext":{"capabilities":{"add":["NET_RAW"]}}}]}}`)
		if err == nil || !strings.Contains(err.Error(), "NET_RAW") {
			t.Errorf("who adds it: %v", err)
		}
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
		apply(t, callerPod("default", "prober", "peer-2", `ask, "`+web+`", "50", "10"`))
		within(t, 10*time.Second, "it asks", func(ctx context.Context) error {
			out, err := tryShoal(ctx, "logs", "prober")
			if err == nil && !strings.Contains(out, "failed") {
				err = errNotYet
			}
			return err
		})
		apply(t, callerPod("team", "namer", "peer-1", `ask, "`+throughService+`", "20", "8"`))
		shoal(t, "-n", "team", "wait", "pod", "namer", "--for", "condition=Ready")
		shoal(t, "lab", "kill", "peer-1", "--process")
		shoal(t, "lab", "start", "peer-1")
		allRefused(t, "default", "prober")
		// Its machine's names were gone for a moment: another one answered, but for what was being asked.
		if sent, failed, out := asking(t, "team", "namer"); sent < 100 || failed > 3 {
			t.Errorf("names while the peer was away: %d of %d failed\n%s", failed, sent, out)
		}
	})
	t.Run("a pod is shut off from its first moment on", func(t *testing.T) {
		var all strings.Builder
		const pods = 10
		for i := range pods {
			all.WriteString(callerPod("team", fmt.Sprintf("eager-%d", i), "peer-1", `ask, "`+world+`", "100", "3"`))
		}
		apply(t, all.String())
		for i := range pods {
			allRefused(t, "team", fmt.Sprintf("eager-%d", i))
		}
	})
	t.Run("without policies all is open", func(t *testing.T) {
		shoal(t, "-n", "team", "delete", "networkpolicy", "tenant")
		expect("open", nil, append(strangers, friends...), both)
		expect("open", nil, friends, []string{world})
	})
}

// capabilitiesOf returns the sets of capabilities that a program has which is run in a pod.
func capabilitiesOf(t *testing.T, namespace, name string) map[string]uint64 {
	t.Helper()
	sets := map[string]uint64{}
	out := shoal(t, "-n", namespace, "exec", name, "--", "/app", "rights")
	for line := range strings.Lines(out) {
		set, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			t.Fatalf("%s/%s: %q: %v", namespace, name, out, err)
		}
		sets[set] = n
	}
	if len(sets) < 5 {
		t.Fatalf("%s/%s: %q", namespace, name, out)
	}
	return sets
}

// asking waits for the end of a pod that calls by itself, and returns how often it did, and how often in vain.
func asking(t *testing.T, namespace, name string) (sent, failed int, out string) {
	t.Helper()
	shoal(t, "-n", namespace, "wait", "pod", name, "--for", "jsonpath={.status.phase}=Succeeded")
	out = shoal(t, "-n", namespace, "logs", name)
	at := strings.LastIndex(out, "sent ")
	if at < 0 {
		t.Fatalf("%s: %s", name, out)
	}
	if _, err := fmt.Sscanf(out[at:], "sent %d failed %d", &sent, &failed); err != nil {
		t.Fatalf("%s: %s", name, out)
	}
	return sent, failed, out
}

// allRefused waits for the end of such a pod: nobody has ever answered it.
func allRefused(t *testing.T, namespace, name string) {
	t.Helper()
	if sent, failed, _ := asking(t, namespace, name); sent < 100 || failed != sent {
		t.Errorf("%s: %d of %d calls were answered", name, sent-failed, sent)
	}
}
