package api

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Laws that every row keeps, so that a new row cannot forget something.
func TestRows(t *testing.T) {
	table, scheme := Default(), NewScheme()
	for _, k := range Kinds() {
		t.Run(k.Kind, func(t *testing.T) {
			for name, missing := range map[string]bool{
				"a singular":       k.Singular == "",
				"a name function":  k.ValidateName == nil,
				"columns":          len(k.Columns) == 0,
				"cells":            k.Cells == nil,
				"a list":           k.NewList == nil,
				"lower case names": k.Resource != strings.ToLower(k.Resource) || k.Singular != strings.ToLower(k.Singular),
			} {
				if missing {
					t.Errorf("it lacks %s", name)
				}
			}
			if k.HasSubresource("status") != (k.CopyStatus != nil && k.ValidateStatus != nil) {
				t.Error("a status subresource needs CopyStatus and ValidateStatus, and they need it")
			}
			if (k.Validate == nil) != (k.ValidateUpdate == nil) {
				t.Error("it validates only one of creation and update")
			}
			for _, c := range k.Columns {
				if c.Description == "" {
					t.Errorf("column %s has no description", c.Name)
				}
			}
			if got := k.Cells(k.New(), time.Now()); len(got) != len(k.Columns) {
				t.Errorf("%d cells in %d columns", len(got), len(k.Columns))
			}
			gvks, _, err := scheme.ObjectKinds(k.New())
			if err != nil || gvks[0] != k.GroupVersionKind {
				t.Errorf("the scheme knows it as %v (%v)", gvks, err)
			}
			byResource, _ := table.ByResource(k.GVR())
			byKind, _ := table.ByKind(k.GroupVersionKind)
			byType, _ := table.For(k.New())
			if byResource != k || byKind != k || byType != k {
				t.Error("the table does not find it")
			}
		})
	}
	if _, ok := table.ByResource(schema.GroupVersionResource{Version: "v1", Resource: "nope"}); ok {
		t.Error("the table finds what is not there")
	}
}

// Defaults are a fixed point: stored objects are defaulted again at every update.
func TestDefaultsAgainChangeNothing(t *testing.T) {
	s := newServer()
	for _, r := range append(readRecorded(t, "default"), readRecorded(t, "default-workloads")...) {
		if r.Request.Method != "POST" {
			continue
		}
		k, _, _, _, err := s.route(r.Request.Path)
		if err != nil {
			t.Fatal(err)
		}
		decoded, _, err := s.codecs.Decode(r.Request.Body, MediaJSON, "", k.GroupVersionKind)
		if err != nil {
			t.Fatal(err)
		}
		if k.Default == nil {
			continue
		}
		once := decoded.(Object)
		k.Default(once)
		twice := once.DeepCopyObject().(Object)
		k.Default(twice)
		if diff := cmp.Diff(asJSON(once), asJSON(twice)); diff != "" {
			t.Errorf("%s:\n%s", r.ID, diff)
		}
	}
}

func TestSelects(t *testing.T) {
	for _, c := range []struct {
		selector, labels map[string]string
		want             bool
	}{
		{nil, map[string]string{"a": "b"}, false},
		{map[string]string{}, map[string]string{}, false},
		{map[string]string{"a": "b"}, map[string]string{"a": "b", "c": "d"}, true},
		{map[string]string{"a": "b", "c": "d"}, map[string]string{"a": "b"}, false},
		{map[string]string{"a": ""}, map[string]string{}, false},
	} {
		if got := Selects(c.selector, c.labels); got != c.want {
			t.Errorf("%v selects %v: %v", c.selector, c.labels, got)
		}
	}
}

func TestScale(t *testing.T) {
	three := int32(3)
	rc := &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Name: "rc", Namespace: "n", UID: "u", ResourceVersion: "5"},
		Spec:       corev1.ReplicationControllerSpec{Replicas: &three, Selector: map[string]string{"b": "2", "a": "1"}},
		Status:     corev1.ReplicationControllerStatus{Replicas: 2},
	}
	s, ok := ScaleOf(ReplicationControllers, rc)
	if !ok || s.Spec.Replicas != 3 || s.Status.Replicas != 2 || s.Status.Selector != "a=1,b=2" || s.UID != "u" || s.ResourceVersion != "5" {
		t.Errorf("got %+v", s)
	}
	s.Spec.Replicas, s.ResourceVersion = 0, "4"
	ApplyScale(ReplicationControllers, rc, s)
	if *rc.Spec.Replicas != 0 || rc.ResourceVersion != "4" {
		t.Errorf("got %d replicas on condition of %s", *rc.Spec.Replicas, rc.ResourceVersion)
	}
	s.Spec.Replicas = -1
	if len(ValidateScale(s)) != 1 {
		t.Error("a negative scale passes")
	}
}

func TestOwnedBy(t *testing.T) {
	yes := true
	rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "rc", UID: "u"}}
	pod := &corev1.Pod{}
	pod.OwnerReferences = []metav1.OwnerReference{{Name: "rc", UID: "u"}}
	if OwnedBy(pod, rc) {
		t.Error("an owner that is no controller counts")
	}
	pod.OwnerReferences[0].Controller = &yes
	if !OwnedBy(pod, rc) {
		t.Error("the controller does not count")
	}
	pod.OwnerReferences[0].UID = "another of that name"
	if OwnedBy(pod, rc) {
		t.Error("the name alone counts")
	}
}
