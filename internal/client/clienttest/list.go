package clienttest

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"shoal/internal/api"
	"shoal/internal/client"
)

func listLaws() []law {
	return []law{
		{"ListHoldsTheNamespaceInOrderOfNames", listNamespace},
		{"ListSelectsByLabels", listLabels},
		{"ListSelectsByFields", listFields},
		{"ListByAnUnknownFieldIsBadRequest", listUnknownField},
		{"ListByPagesIsOneRevision", listPages},
		{"AListsRevisionIncludesItsItems", listRevision},
	}
}

func names(l *client.List) []string {
	out := []string{}
	for _, o := range l.Items {
		out = append(out, o.GetName())
	}
	return out
}

func (e *env) list(k *api.Kind, o client.ListOptions) *client.List {
	e.Helper()
	o.Namespace = e.ns
	l, err := e.c.List(e.ctx, k, o)
	if err != nil {
		e.Fatal(err)
	}
	return l
}

func (e *env) wantNames(l *client.List, want ...string) {
	e.Helper()
	if !slices.Equal(names(l), want) {
		e.Fatalf("listed %v, want %v", names(l), want)
	}
}

func listNamespace(e *env) {
	// Other objects, such as a namespace's own, may be there too: ask for ours.
	mine := client.ListOptions{Labels: labels.SelectorFromSet(labels.Set{"mine": "yes"})}
	e.wantNames(e.list(api.ConfigMaps, mine))
	other := namespace(e.T, e.ctx, e.c)
	for _, name := range []string{"c", "a", "b"} {
		cm := e.configMap(name, "1")
		cm.Labels = map[string]string{"mine": "yes"}
		create(e, api.ConfigMaps, cm)
		cm.Namespace = other
		create(e, api.ConfigMaps, cm)
	}
	e.wantNames(e.list(api.ConfigMaps, mine), "a", "b", "c")
}

func listLabels(e *env) {
	for name, tier := range map[string]string{"a": "front", "b": "back", "c": ""} {
		cm := e.configMap(name, "1")
		if tier != "" {
			cm.Labels = map[string]string{"tier": tier}
		}
		create(e, api.ConfigMaps, cm)
	}
	for selector, want := range map[string][]string{
		"tier=front": {"a"}, "tier": {"a", "b"}, "tier,tier!=front": {"b"}, "tier in (front,back)": {"a", "b"}, "tier=none": {},
	} {
		s, err := labels.Parse(selector)
		if err != nil {
			e.Fatal(err)
		}
		if got := names(e.list(api.ConfigMaps, client.ListOptions{Labels: s})); !slices.Equal(got, want) {
			e.Errorf("%s: %v, want %v", selector, got, want)
		}
	}
}

func listFields(e *env) {
	for _, name := range []string{"a", "b"} {
		p := e.pod(name)
		if name == "b" {
			p.Spec.NodeName = "law-node"
		}
		create(e, api.Pods, p)
	}
	for selector, want := range map[string][]string{
		"metadata.name=a": {"a"}, "spec.nodeName=law-node": {"b"}, "spec.nodeName=": {"a"}, "spec.nodeName!=,metadata.name=a": {},
	} {
		s, err := fields.ParseSelector(selector)
		if err != nil {
			e.Fatal(err)
		}
		if got := names(e.list(api.Pods, client.ListOptions{Fields: s})); !slices.Equal(got, want) {
			e.Errorf("%s: %v, want %v", selector, got, want)
		}
	}
	e.forcePodGone("b")
}

// forcePodGone removes a pod whose node is not there to confirm its end.
func (e *env) forcePodGone(name string) {
	e.Helper()
	if _, err := e.c.Delete(e.ctx, api.Pods, e.key(name), client.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		e.Fatal(err)
	}
}

func listUnknownField(e *env) {
	_, err := e.c.List(e.ctx, api.ConfigMaps, client.ListOptions{Namespace: e.ns, Fields: fields.OneTermEqualSelector("data.v", "1")})
	e.wantReason(err, metav1.StatusReasonBadRequest)
}

func listPages(e *env) {
	o := client.ListOptions{Limit: 2, Labels: labels.SelectorFromSet(labels.Set{"mine": "yes"})}
	for i := range 5 {
		cm := e.configMap(fmt.Sprint("cm-", i), "1")
		cm.Labels = map[string]string{"mine": "yes"}
		create(e, api.ConfigMaps, cm)
	}
	first := e.list(api.ConfigMaps, o)
	e.wantNames(first, "cm-0", "cm-1")
	if first.Continue == "" {
		e.Fatal("nothing to continue with")
	}
	// What changes between the pages does not show in them.
	late := e.configMap("cm-3x", "late")
	late.Labels = map[string]string{"mine": "yes"}
	create(e, api.ConfigMaps, late)
	if _, err := e.c.Delete(e.ctx, api.ConfigMaps, e.key("cm-4"), client.DeleteOptions{}); err != nil {
		e.Fatal(err)
	}
	o.Continue = first.Continue
	second := e.list(api.ConfigMaps, o)
	e.wantNames(second, "cm-2", "cm-3")
	o.Continue = second.Continue
	third := e.list(api.ConfigMaps, o)
	e.wantNames(third, "cm-4")
	if third.Continue != "" || second.ResourceVersion != first.ResourceVersion || third.ResourceVersion != first.ResourceVersion {
		e.Fatalf("pages at %s, %s, %s, then %q", first.ResourceVersion, second.ResourceVersion, third.ResourceVersion, third.Continue)
	}
}

func listRevision(e *env) {
	var last *corev1.ConfigMap
	for _, name := range []string{"a", "b"} {
		last = create(e, api.ConfigMaps, e.configMap(name, "1"))
	}
	l := e.list(api.ConfigMaps, client.ListOptions{})
	if rev(e, l.ResourceVersion) < rev(e, last.ResourceVersion) {
		e.Fatalf("list at %s misses %s", l.ResourceVersion, last.ResourceVersion)
	}
	at := e.list(api.ConfigMaps, client.ListOptions{ResourceVersion: last.ResourceVersion})
	if rev(e, at.ResourceVersion) < rev(e, last.ResourceVersion) {
		e.Fatalf("list not older than %s is at %s", last.ResourceVersion, at.ResourceVersion)
	}
}
