package admission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// caps is a security context with capabilities: "+A" is added, "A" dropped.
func caps(names ...string) *corev1.SecurityContext {
	c := &corev1.Capabilities{}
	for _, n := range names {
		if added, ok := strings.CutPrefix(n, "+"); ok {
			c.Add = append(c.Add, corev1.Capability(added))
			continue
		}
		c.Drop = append(c.Drop, corev1.Capability(n))
	}
	return &corev1.SecurityContext{Capabilities: c}
}

func podWith(main, init *corev1.SecurityContext, debug ...*corev1.SecurityContext) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "p"}}
	p.Spec.Containers = []corev1.Container{{Name: "main", SecurityContext: main}}
	p.Spec.InitContainers = []corev1.Container{{Name: "init", SecurityContext: init}}
	for _, d := range debug {
		p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", SecurityContext: d}})
	}
	return p
}

func netRawIn(labels map[string]string) netRaw {
	ns := namespace("team", corev1.NamespaceActive)
	ns.Labels = labels
	return netRaw{newShelf().put(api.Namespaces, ns)}
}

var dropping = map[string]string{api.NetRawLabel: api.NetRawDrop}

func write(p, old *corev1.Pod, sub string) *Request {
	r := &Request{Operation: Create, Kind: api.Pods, Key: client.Key{Namespace: "team", Name: "p"}, Subresource: sub, Object: p}
	if old != nil {
		r.Operation, r.OldObject = Update, old
	}
	return r
}

func TestNetRawIsTakenFromNewPods(t *testing.T) {
	for name, tc := range map[string]struct{ pod, want *corev1.Pod }{
		"nothing said":       {podWith(nil, nil), podWith(caps("NET_RAW"), caps("NET_RAW"))},
		"others are dropped": {podWith(caps("CHOWN"), caps("+KILL")), podWith(caps("CHOWN", "NET_RAW"), caps("+KILL", "NET_RAW"))},
		"it is dropped":      {podWith(caps("NET_RAW"), caps("net_raw", "CHOWN")), podWith(caps("NET_RAW"), caps("net_raw", "CHOWN"))},
		"all are":            {podWith(caps("ALL"), caps("CAP_NET_RAW")), podWith(caps("ALL"), caps("CAP_NET_RAW"))},
	} {
		given, same := tc.pod.DeepCopy(), tc.pod.DeepCopy()
		plugin := netRawIn(dropping)
		for range 2 { // the second time changes nothing
			if err := plugin.Admit(t.Context(), write(tc.pod, nil, "")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if diff := cmp.Diff(tc.want, tc.pod); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		if err := netRawIn(nil).Admit(t.Context(), write(given, nil, "")); err != nil || !cmp.Equal(given, same) {
			t.Errorf("%s, in a namespace without the label: %v, %v", name, err, given.Spec)
		}
	}
}

func TestNobodyKeepsNetRawByAddingIt(t *testing.T) {
	yes, no := true, false
	for name, tc := range map[string]struct {
		pod *corev1.Pod
		ok  bool
	}{
		"added":            {podWith(nil, caps("+NET_RAW")), false},
		"added in passing": {podWith(caps("+cap_net_raw", "NET_RAW"), nil), false},
		"all added":        {podWith(caps("+ALL"), nil), false},
		"privileged":       {podWith(nil, &corev1.SecurityContext{Privileged: &yes}), false},
		"not privileged":   {podWith(nil, &corev1.SecurityContext{Privileged: &no}), true},
		"another":          {podWith(caps("+NET_BIND_SERVICE", "ALL"), nil), true},
	} {
		err := netRawIn(dropping).Admit(t.Context(), write(tc.pod.DeepCopy(), nil, ""))
		if (err == nil) != tc.ok || err != nil && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "shoal/net-raw=drop")) {
			t.Errorf("%s: %v", name, err)
		}
		if err := netRawIn(nil).Admit(t.Context(), write(tc.pod, nil, "")); err != nil {
			t.Errorf("%s, in a namespace without the label: %v", name, err)
		}
	}
}

// Who applies the same manifest again must not be told that pods do not change.
func TestNetRawOfAPodThatRuns(t *testing.T) {
	for name, tc := range map[string]struct {
		old, given, want *corev1.Pod
		sub              string
	}{
		"applied again":                   {podWith(caps("CHOWN", "NET_RAW"), caps("NET_RAW")), podWith(caps("CHOWN"), nil), podWith(caps("CHOWN", "NET_RAW"), caps("NET_RAW")), ""},
		"from before the label":           {podWith(nil, caps("+NET_RAW")), podWith(nil, caps("+NET_RAW")), podWith(nil, caps("+NET_RAW")), ""},
		"debugged":                        {podWith(nil, nil), podWith(nil, nil, nil), podWith(nil, nil, caps("NET_RAW")), "ephemeralcontainers"},
		"its status":                      {podWith(nil, nil), podWith(nil, nil), podWith(nil, nil), "status"},
		"debugged, from before the label": {podWith(nil, nil, nil), podWith(nil, nil, nil), podWith(nil, nil, nil), "ephemeralcontainers"},
	} {
		if err := netRawIn(dropping).Admit(t.Context(), write(tc.given, tc.old, tc.sub)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, tc.given); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if err := netRawIn(dropping).Admit(t.Context(), write(podWith(nil, nil, caps("+NET_RAW")), podWith(nil, nil), "ephemeralcontainers")); err == nil {
		t.Error("a container for debugging has it")
	}
}

func TestNetRawIsOfLinuxPodsOnly(t *testing.T) {
	p := podWith(nil, nil)
	p.Spec.OS = &corev1.PodOS{Name: corev1.Windows}
	if err := netRawIn(dropping).Admit(t.Context(), write(p, nil, "")); err != nil || p.Spec.Containers[0].SecurityContext != nil {
		t.Errorf("%v, %v", err, p.Spec.Containers)
	}
	rc := &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Template: &corev1.PodTemplateSpec{Spec: podWith(nil, nil).Spec}}}
	err := netRawIn(dropping).Admit(t.Context(), &Request{Operation: Create, Kind: api.ReplicationControllers, Key: client.Key{Namespace: "team", Name: "r"}, Object: rc})
	if err != nil || rc.Spec.Template.Spec.Containers[0].SecurityContext != nil {
		t.Errorf("a template: %v, %v", err, rc.Spec.Template.Spec)
	}
}
