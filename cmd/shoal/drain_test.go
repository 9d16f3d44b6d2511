package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// machine is an API with a Node and its pods, whose budget refuses the first eviction.
func machine(t *testing.T, pods ...corev1.Pod) (at []string, evicted func() []string) {
	t.Helper()
	var mu sync.Mutex
	var gone []string
	refused := false
	return server(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			switch name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]; {
			case r.URL.Path == "/api/v1/nodes/m-1":
				_ = json.NewEncoder(w).Encode(corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "m-1"}})
			case r.URL.Path == "/api/v1/pods" && r.URL.Query().Get("fieldSelector") == "spec.nodeName=m-1":
				_ = json.NewEncoder(w).Encode(corev1.PodList{Items: pods})
			case name == "eviction" && !refused:
				refused = true
				refuse(w, http.StatusTooManyRequests, "Cannot evict pod as it would violate the pod's disruption budget.")
			case name == "eviction":
				gone = append(gone, strings.Split(r.URL.Path, "/")[6])
				_, _ = w.Write([]byte(`{}`))
			case name == "poddisruptionbudgets":
				_ = json.NewEncoder(w).Encode(policyv1.PodDisruptionBudgetList{Items: []policyv1.PodDisruptionBudget{{Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 1}}}})
			case strings.Contains(r.URL.Path, "/pods/"): // another of the name has taken its place
				_ = json.NewEncoder(w).Encode(corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "another"}})
			default:
				refuse(w, 404, r.URL.String())
			}
		}), func() []string {
			mu.Lock()
			defer mu.Unlock()
			return gone
		}
}

func TestDrain(t *testing.T) {
	yes := true
	pod := func(name, owner string, volumes ...corev1.Volume) corev1.Pod {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "u"}, Spec: corev1.PodSpec{Volumes: volumes}}
		if owner != "" {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: owner, Name: "x", UID: "x", Controller: &yes}}
		}
		return p
	}
	scratch := corev1.Volume{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	web, bare, agent, cache := pod("web", "ReplicaSet"), pod("bare", ""), pod("agent", "DaemonSet"), pod("cache", "ReplicaSet", scratch)
	for _, c := range []struct {
		flags   string
		pods    []corev1.Pod
		code    int
		says    []string
		evicted int
	}{
		{"", []corev1.Pod{web, web}, 0, []string{"node/m-1 cordoned", "default/web evicted", "waits: Cannot evict", "node/m-1 drained"}, 2},
		{"", []corev1.Pod{web, bare}, exitFailed, []string{"nothing was evicted", "default/bare has nobody who would replace it: give --force"}, 0},
		{"--force", []corev1.Pod{web, bare}, 0, []string{"default/bare evicted"}, 2},
		{"", []corev1.Pod{agent}, exitFailed, []string{"--ignore-daemonsets"}, 0},
		{"--ignore-daemonsets", []corev1.Pod{agent, web}, 0, []string{"leaves default/agent", "drained"}, 1},
		{"", []corev1.Pod{cache}, exitFailed, []string{"--delete-emptydir-data"}, 0},
		{"--delete-emptydir-data", []corev1.Pod{cache}, 0, []string{"default/cache evicted"}, 1},
		{"--dry-run", []corev1.Pod{web}, 0, []string{"would evict pod default/web"}, 0},
	} {
		at, evicted := machine(t, c.pods...)
		out, stderr, code := cli(t, "", append(at, strings.Fields("drain m-1 "+c.flags)...)...)
		if code != c.code || len(evicted()) != c.evicted {
			t.Errorf("shoal drain %s: code %d, %v evicted\n%s%s", c.flags, code, evicted(), out, stderr)
		}
		for _, says := range c.says {
			if !strings.Contains(out+stderr, says) {
				t.Errorf("shoal drain %s does not say %q:\n%s%s", c.flags, says, out, stderr)
			}
		}
	}
	at, _ := machine(t)
	if _, stderr, code := cli(t, "", append(at, "drain", "m-2")...); code != exitFailed || !strings.Contains(stderr, "m-2") {
		t.Errorf("a machine that is not there: code %d, %s", code, stderr)
	}
}
