//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/lab"
)

// correctHorse is what is looked for on disks.
const correctHorse = "correct-horse-battery-staple"

// secretPod says what it was given by a Secret.
const secretPod = `apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  nodeName: %s
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: c
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    image: shoal.local/probe:1
    command: [/app, say, "$(FROM)"]
    env: [{name: FROM, valueFrom: {secretKeyRef: {name: horse, key: password}}}]
    volumeMounts: [{name: s, mountPath: /s}]
  volumes: [{name: s, secret: {secretName: horse}}]
`

// TestSecretsAreSealed: of four peers three vote. What is in Secrets is in clear on none of their disks; the fourth, which has no key, serves them
// like any other, and its pods get them. Their key is changed under load, and a peer that is given a vote is given the key.
func TestSecretsAreSealed(t *testing.T) {
	c := startLab(t, 4)
	voteless := ""
	for _, p := range status(t).Peers {
		if p.Role == api.RoleReplica {
			voteless = p.Name
		}
	}
	config := filepath.Join(t.TempDir(), "jane.kubeconfig")
	shoal(t, "tenant", "create", "team", "--user", "jane", "--pods", "5")
	must(t, os.WriteFile(config, []byte(shoal(t, "-n", "team", "user", "create", "jane", "--ttl", "1h")), 0o600))
	kubectl := func(peer string, args ...string) (string, error) {
		return tryRun(t.Context(), filepath.Join(repo(), "build/tools/kubectl-current"), append([]string{"--kubeconfig", config, "--context", peer}, args...)...)
	}
	manifest := filepath.Join(t.TempDir(), "secret.yaml")
	must(t, os.WriteFile(manifest, []byte("{apiVersion: v1, kind: Secret, metadata: {name: horse}, stringData: {password: "+correctHorse+"}}"), 0o600))
	for _, at := range []string{voteless, master(t)} { // which keeps all of it in an annotation
		if out, err := kubectl(at, "apply", "-f", manifest); err != nil {
			t.Fatal(out, err)
		}
	}
	reads := func(when string) {
		t.Helper()
		for _, peer := range c.names {
			for _, args := range [][]string{{"get", "secret", "horse", "-o", "jsonpath={.data.password}"}, {"get", "secrets", "-o", "jsonpath={.items[*].data.password}"}} {
				out, err := kubectl(peer, args...)
				if err != nil || out != "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ==" {
					t.Errorf("%s, at %s, %v: %q, %v", when, peer, args, out, err)
				}
			}
		}
	}
	reads("at first")
	if out := shoal(t, "--peer", voteless, "-n", "team", "history", "secret", "horse"); !strings.Contains(out, "created") {
		t.Errorf("its history at %s: %s", voteless, out)
	}
	apply(t, fmt.Sprintf(secretPod, voteless), "-n", "team")
	shoal(t, "-n", "team", "wait", "pod", "reader", "--for", "condition=Ready")
	within(t, 10*time.Second, "the pod says it", func(ctx context.Context) error {
		out, err := tryShoal(ctx, "-n", "team", "logs", "reader")
		if err == nil && !strings.Contains(out, correctHorse) {
			err = fmt.Errorf("%q", out)
		}
		return err
	})
	nowhereOnDisk(t, c)

	bootstrapper(t, c)

	w := startWriting(t, secrets(c.api), "meanwhile")
	for range 3 {
		out := shoal(t, "--peer", voteless, "rotate", "secrets")
		t.Log(out)
		if !strings.Contains(out, "new key") || strings.Contains(out, voteless) {
			t.Errorf("%s", out)
		}
	}
	acked := w.stop()
	reads("after three changes of the key")
	l, err := c.api.List(t.Context(), api.Secrets, client.ListOptions{Namespace: "default"})
	must(t, err)
	var have []string
	for _, o := range l.Items {
		if v := string(o.(*corev1.Secret).Data["v"]); v == "" {
			t.Errorf("%s is empty", o.GetName())
		}
		have = append(have, o.GetName())
	}
	for _, name := range acked {
		if !slices.Contains(have, name) {
			t.Errorf("%s was acknowledged, and is not there", name)
		}
	}
	t.Logf("%d Secrets written meanwhile", len(acked))
	if out := shoal(t, "rotate", "secrets", "--status"); strings.Contains(out, "clear") {
		t.Error(out)
	}

	gone := c.others(master(t))
	gone = slices.DeleteFunc(gone, func(n string) bool { return n == voteless })
	shoal(t, "lab", "kill", gone[0])
	within(t, 30*time.Second, voteless+" has the key", func(ctx context.Context) error {
		out, err := tryShoal(ctx, "rotate", "secrets", "--status")
		if err == nil && !strings.Contains(out, voteless) {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	shoal(t, "lab", "kill", master(t)) // who answers now may be the one that was just given the key
	alive := slices.DeleteFunc(slices.Clone(c.names), func(n string) bool {
		return !slices.ContainsFunc(status(t).Peers, func(p lab.PeerStatus) bool { return p.Name == n && p.State == "running" })
	})
	within(t, 20*time.Second, "Secrets are read and written", func(ctx context.Context) error {
		for _, peer := range alive {
			if out, err := kubectl(peer, "get", "secret", "horse", "-o", "jsonpath={.data.password}"); err != nil || out == "" {
				return fmt.Errorf("at %s: %q, %v", peer, out, err)
			}
		}
		return nil
	})
	nowhereOnDisk(t, c)
}

// bootstrapper shows Kubernetes' bootstrap token to every peer.
func bootstrapper(t *testing.T, c *cluster) {
	t.Helper()
	apply(t, `{apiVersion: v1, kind: Secret, metadata: {name: bootstrap-token-abcdef, namespace: kube-system}, type: bootstrap.kubernetes.io/token,
  stringData: {token-id: abcdef, token-secret: 0123456789abcdef, usage-bootstrap-authentication: "true"}}`)
	for _, peer := range c.names {
		for token, want := range map[string]string{"abcdef.0123456789abcdef": `User "system:bootstrap:abcdef" cannot list`, "abcdef.0123456789abcdee": "logged in"} {
			_, err := tryRun(t.Context(), filepath.Join(repo(), "build/tools/kubectl-current"), "--kubeconfig", lab.Kubeconfig(), "--context", peer,
				"--token", token, "get", "pods")
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("token %s at %s: %v", token, peer, err)
			}
		}
	}
}

// secrets writes one after the other.
func secrets(at client.Interface) func(ctx context.Context, name string) error {
	return func(ctx context.Context, name string) error {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, StringData: map[string]string{"v": "meanwhile-value"}}
		_, err := at.Create(ctx, api.Secrets, s, client.CreateOptions{})
		return err
	}
}

// nowhereOnDisk looks for the value of the Secret in the logs and snapshots of all peers.
func nowhereOnDisk(t *testing.T, c *cluster) {
	t.Helper()
	files := 0
	for _, name := range c.names {
		must(t, filepath.WalkDir(filepath.Join(lab.Dir, name, "data", "raft"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return nil // a snapshot that has just been replaced
			}
			files++
			for _, clear := range []string{correctHorse, "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ", "meanwhile-value"} {
				if strings.Contains(string(b), clear) {
					t.Errorf("%s has %q in clear", path, clear)
				}
			}
			return nil
		}))
	}
	if files < len(c.names) {
		t.Errorf("%d files were looked at", files)
	}
}
