package admission

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

const (
	harmless = `{containers: [{name: c, image: i}]}`
	careful  = `{securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, containers: [{name: c, image: i, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}`
	mighty   = `{containers: [{name: c, image: i, securityContext: {privileged: true}}]}`
)

// TestPodSecurity follows "Pod Security Admission" and "Pod Security Standards" in Kubernetes' documentation.
func TestPodSecurity(t *testing.T) {
	for _, c := range []struct {
		name   string
		labels map[string]string // without their common beginning
		pod    string
		refuse string
		warn   string
	}{
		{"without labels, a usual pod", nil, harmless, "", ""},
		{"without labels, one that may do anything", nil, mighty, "", `would violate PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)`},
		{"baseline, a usual pod", map[string]string{"enforce": "baseline"}, harmless, "", ""},
		{"baseline, one that may do anything", map[string]string{"enforce": "baseline"}, mighty, `pods "p" is forbidden: violates PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)`, ""},
		{"restricted, a usual pod", map[string]string{"enforce": "restricted"}, harmless, `violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false`, ""},
		{"restricted, a careful one", map[string]string{"enforce": "restricted"}, careful, "", ""},
		{"warned of more than is enforced", map[string]string{"enforce": "baseline", "warn": "restricted"}, harmless, "", `would violate PodSecurity "restricted:latest"`},
		{"of an older version", map[string]string{"enforce": "restricted", "enforce-version": "v1.24"}, harmless, `violates PodSecurity "restricted:v1.24"`, ""},
		{"nobody wants to know", map[string]string{"warn": "privileged"}, mighty, "", ""},
		{"a label that makes no sense is the strictest", map[string]string{"enforce": "strict"}, harmless, `violates PodSecurity "restricted:latest"`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			shelf := newShelf()
			ns := namespace("team", corev1.NamespaceActive)
			ns.Labels = labelled(c.labels)
			shelf.put(api.Namespaces, ns)
			r := podRequest("team", parsed[corev1.Pod](t, "spec: "+c.pod).Spec)
			var warned []string
			r.Warn = func(text string) { warned = append(warned, text) }
			err := newPodSecurity(shelf).Admit(t.Context(), r)
			if (err == nil) != (c.refuse == "") || err != nil && !strings.Contains(err.Error(), c.refuse) {
				t.Errorf("got %v, want %q", err, c.refuse)
			}
			if len(warned) > 0 != (c.warn != "") || len(warned) > 0 && !strings.HasPrefix(warned[0], c.warn) {
				t.Errorf("warned of %q, want %q", warned, c.warn)
			}
		})
	}
}

func labelled(short map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range short {
		out["pod-security.kubernetes.io/"+k] = v
	}
	return out
}

func TestWhatMakesPodsIsWarnedOf(t *testing.T) {
	shelf := newShelf()
	ns := namespace("team", corev1.NamespaceActive)
	ns.Labels = labelled(map[string]string{"enforce": "restricted"})
	shelf.put(api.Namespaces, ns)
	d := parsed[appsv1.Deployment](t, "metadata: {namespace: team, name: d}\nspec: {template: {spec: "+harmless+"}}")
	warned := ""
	r := &Request{Operation: Create, Kind: api.Deployments, Key: client.KeyOf(d), Object: d, Warn: func(text string) { warned = text }}
	if err := newPodSecurity(shelf).Admit(t.Context(), r); err != nil || !strings.HasPrefix(warned, `would violate PodSecurity "restricted:latest"`) {
		t.Errorf("%v, warned of %q", err, warned)
	}
}

func TestAPodThatRunsIsJudgedOnlyByWhatIsNew(t *testing.T) {
	shelf := newShelf()
	ns := namespace("team", corev1.NamespaceActive)
	ns.Labels = labelled(map[string]string{"enforce": "restricted"})
	shelf.put(api.Namespaces, ns)
	for _, c := range []struct {
		sub    string
		change func(*corev1.Pod)
		refuse bool
	}{
		{"", func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }, false},
		{"status", func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }, false},
		{"", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "j" }, true},
		{"ephemeralcontainers", func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: "i"}}}
		}, true},
	} {
		old := parsed[corev1.Pod](t, "metadata: {namespace: team, name: p}\nspec: "+harmless)
		p := old.DeepCopy()
		c.change(p)
		r := &Request{Operation: Update, Kind: api.Pods, Subresource: c.sub, Key: client.KeyOf(p), Object: p, OldObject: old}
		if err := newPodSecurity(shelf).Admit(t.Context(), r); (err != nil) != c.refuse {
			t.Errorf("a change through %q: %v", c.sub, err)
		}
	}
}

// TestWhatIsBelowTheBaselineIsNoted for the audit log, where nothing says otherwise.
func TestWhatIsBelowTheBaselineIsNoted(t *testing.T) {
	for spec, want := range map[string]bool{harmless: false, "{hostNetwork: true, containers: [{name: c, image: i}]}": true} {
		p := parsed[corev1.Pod](t, "metadata: {namespace: default, name: p}\nspec: "+spec)
		r := &Request{Operation: Create, Kind: api.Pods, Key: client.KeyOf(p), Object: p}
		noted := map[string]string{}
		r.Note = func(key, text string) { noted[key] = text }
		if err := newPodSecurity(newShelf()).Admit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if got := noted["pod-security.kubernetes.io/audit-violations"]; strings.Contains(got, `would violate PodSecurity "baseline:latest": host namespaces`) != want {
			t.Errorf("%s: %q", spec, noted)
		}
	}
}

func TestLabelsOfNamespaces(t *testing.T) {
	shelf := newShelf()
	for i, spec := range []string{harmless, harmless, careful, mighty} {
		p := parsed[corev1.Pod](t, "spec: "+spec)
		p.ObjectMeta = metav1.ObjectMeta{Namespace: "team", Name: fmt.Sprint("p", i)}
		shelf.put(api.Pods, p)
	}
	plain := namespace("team", corev1.NamespaceActive)
	try := func(old *corev1.Namespace, labels map[string]string) (warned []string, err error) {
		ns := namespace("team", corev1.NamespaceActive)
		ns.Labels = labelled(labels)
		r := &Request{Operation: Update, Kind: api.Namespaces, Key: client.KeyOf(ns), Object: ns, Warn: func(text string) { warned = append(warned, text) }}
		if old == nil {
			r.Operation = Create
		} else {
			r.OldObject = old
		}
		return warned, newPodSecurity(shelf).Admit(t.Context(), r)
	}
	if _, err := try(nil, map[string]string{"enforce": "strict"}); err == nil || !strings.Contains(err.Error(), `metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict"`) {
		t.Errorf("a level that there is not: %v", err)
	}
	warned, err := try(plain, map[string]string{"enforce": "restricted"})
	if err != nil || len(warned) != 3 || warned[0] != `existing pods in namespace "team" violate the new PodSecurity enforce level "restricted:latest"` ||
		!strings.HasPrefix(warned[1], "p0 (and 1 other pod): allowPrivilegeEscalation != false") || !strings.HasPrefix(warned[2], "p3: ") {
		t.Errorf("%v, warned of %q", err, warned)
	}
	if warned, err := try(plain, map[string]string{"warn": "restricted"}); err != nil || len(warned) > 0 {
		t.Errorf("nothing is enforced: %v, %q", err, warned)
	}
}
