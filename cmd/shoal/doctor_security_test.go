package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/audit"
)

// found returns what the checklist has under an item, or a text for what has no number.
func found(all []finding, item string) string {
	for _, f := range all {
		if f.Item == item || f.What == item {
			return f.Verdict + ": " + strings.Join(f.Found, "; ")
		}
	}
	return "nothing"
}

func TestWhatIsToBeLookedAt(t *testing.T) {
	meta := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name}
	}
	ns := func(name, level string) *corev1.Namespace {
		n := &corev1.Namespace{ObjectMeta: meta("", name)}
		n.Labels = map[string]string{"pod-security.kubernetes.io/enforce": level}
		return n
	}
	pod := func(namespace, name string, change func(*corev1.PodSpec)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: meta(namespace, name), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
		if change != nil {
			change(&p.Spec)
		}
		return p
	}
	star := []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
	admin := rbacv1.RoleRef{Kind: "ClusterRole", Name: "cluster-admin"}
	end := time.Now()
	bad := judge(&facts{
		namespaces: []*corev1.Namespace{ns("team", "privileged"), ns("good", "restricted"), ns("empty", ""), ns("kube-system", "")},
		pods: []*corev1.Pod{
			pod("team", "bold", func(s *corev1.PodSpec) {
				s.HostNetwork, s.Containers[0].SecurityContext = true, &corev1.SecurityContext{Privileged: new(true)}
				s.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{}}}
			}),
			pod("good", "shy", nil), pod("kube-system", "agent", func(s *corev1.PodSpec) { s.HostPID = true }), pod("default", "p", nil),
		},
		policies: []*networkingv1.NetworkPolicy{{ObjectMeta: meta("good", "all")}, {ObjectMeta: meta("team", "some"), Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}}}},
		clusterRoles: []*rbacv1.ClusterRole{
			{ObjectMeta: meta("", "cluster-admin"), Rules: star}, {ObjectMeta: meta("", "system:x"), Rules: star}, {ObjectMeta: meta("", "all"), Rules: star},
		},
		roles: []*rbacv1.Role{{ObjectMeta: meta("team", "all"), Rules: star}, {ObjectMeta: meta("team", "some")}},
		bindings: []binding{
			{"", "own", admin, []rbacv1.Subject{{Kind: "Group", Name: "system:masters"}}},
			{"", "ops", admin, []rbacv1.Subject{{Kind: "User", Name: "jane"}}},
			{"team", "default", rbacv1.RoleRef{Kind: "Role", Name: "some"}, []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "team", Name: "default"}}},
		},
		users:   []userLine{{ID: "1", User: "jane"}, {ID: "2", User: "joe", Expires: &end}},
		tokens:  []api.Token{{ID: "t", UsesLeft: 2, Expires: end}},
		secrets: []api.Holder{{Kind: "Group", Name: "system:masters"}, {Kind: "User", Name: "jane", Binding: "ops"}},
	})
	good := judge(&facts{namespaces: []*corev1.Namespace{ns("good", "baseline")}, pods: []*corev1.Pod{pod("good", "shy", nil)}, policies: []*networkingv1.NetworkPolicy{{ObjectMeta: meta("good", "all")}}})
	for item, want := range map[string]string{
		"5.1.1": "look: User jane by ClusterRoleBinding ops", "5.1.2": "look: User jane by ops", "5.1.3": "look: ClusterRole all; Role team/all",
		"5.1.5": "look: ServiceAccount team/default by RoleBinding team/default",
		"5.2.1": "look: team: kubectl label ns team pod-security.kubernetes.io/enforce=baseline",
		"5.2.2": "look: pod team/bold: hostNetwork, privileged", "5.3.2": "look: team", "5.4.1": "look: pod team/bold", "5.7.4": "look: pod p",
		"users' tokens end":            "look: jane, token 1: shoal user revoke jane --token 1",
		"no token for joining is left": "look: t, good for 2 machines until " + end.Format(time.RFC3339) + ": shoal token revoke t",
	} {
		if got := found(bad, item); got != want {
			t.Errorf("%s: %q, want %q", item, got, want)
		}
		if got := found(good, item); got != "ok: " {
			t.Errorf("%s where all is well: %q", item, got)
		}
	}
	for _, f := range append(bad, good...) {
		if f.How == "" || f.What == "" {
			t.Errorf("%+v does not say how it was checked", f)
		}
	}
}

func TestFilesOfThePeer(t *testing.T) {
	dir := t.TempDir()
	if got := found(checkFiles(dir), "1.1"); !strings.HasPrefix(got, "look") {
		t.Errorf("no peer: %s", got)
	}
	key := filepath.Join(dir, "pki", "key.pem")
	for path, mode := range map[string]os.FileMode{filepath.Join(dir, "peer.json"): 0o600, key: 0o600} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(dir, 0o700)
	chmod(key, 0o644)
	if got := found(checkFiles(dir), "1.1.19"); got != "ok: " {
		t.Errorf("in a closed directory: %s", got)
	}
	chmod(dir, 0o755)
	if got := found(checkFiles(dir), "1.1.19"); !strings.HasPrefix(got, "bad: ") || !strings.Contains(got, "key.pem has mode 0644: chmod go= ") {
		t.Errorf("a key that all may read: %s", got)
	}
	if got := found(checkFiles(dir), "1.2.16"); !strings.HasPrefix(got, "look: there is no audit log") {
		t.Error(got)
	}
	l, err := audit.Open(audit.Config{Dir: filepath.Join(dir, "audit")})
	if err != nil {
		t.Fatal(err)
	}
	l.Write(audit.Record{User: "jane"})
	l.Close()
	if got := found(checkFiles(dir), "1.2.16"); got != "ok: " {
		t.Error(got)
	}
	if err := os.WriteFile(filepath.Join(dir, "audit", "audit.log"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := found(checkFiles(dir), "1.2.16"); !strings.HasPrefix(got, "bad: ") {
		t.Error(got)
	}
}

func TestDoctorOfSecurity(t *testing.T) {
	at := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/shoal/v1/peers" {
			fmt.Fprint(w, `{"peer":"peer-1","peers":[]}`)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/shoal/v1/rotations/") {
			fmt.Fprint(w, "{}")
			return
		}
		if strings.HasPrefix(r.URL.Path, "/shoal/") {
			fmt.Fprint(w, "[]")
			return
		}
		fmt.Fprint(w, `{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}`)
	})
	out, stderr, code := cli(t, "", append(at, "--data-dir", t.TempDir(), "doctor", "--security")...)
	if code != 0 || !strings.Contains(out, "ok    5.1.1   cluster-admin is only where it must be\n              checked: bindings of the role cluster-admin\n") || !strings.Contains(out, "look  1.2.27  Secrets are encrypted before they are written") {
		t.Errorf("code %d\n%s%s", code, out, stderr)
	}
	if out, _, code := cli(t, "", append(at, "--data-dir", t.TempDir(), "doctor", "--security", "-o", "json")...); code != 0 || !strings.Contains(out, `"item":"5.1.1"`) {
		t.Errorf("code %d\n%s", code, out)
	}
}
