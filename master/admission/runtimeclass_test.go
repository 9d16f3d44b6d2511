package admission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
)

func TestRuntimeClasses(t *testing.T) {
	resources := func(cpu string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
	ours := corev1.Toleration{Key: "ours", Operator: corev1.TolerationOpExists}
	shelf := newShelf()
	for _, c := range []*nodev1.RuntimeClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Handler: "runc"},
		{ObjectMeta: metav1.ObjectMeta{Name: "kata"}, Handler: "kata"},
		{
			ObjectMeta: metav1.ObjectMeta{Name: "costly"}, Handler: "runc", Overhead: &nodev1.Overhead{PodFixed: resources("100m")},
			Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"disk": "fast"}, Tolerations: []corev1.Toleration{ours}},
		},
	} {
		shelf.put(api.RuntimeClasses, c)
	}
	for _, c := range []struct {
		name    string
		class   string
		given   corev1.PodSpec
		refused string
		want    corev1.PodSpec // overhead, selector, and the first toleration
	}{
		{name: "none"},
		{name: "one that says nothing", class: "plain"},
		{name: "one that does not exist", class: "gone", refused: `RuntimeClass "gone" not found`},
		{name: "another runtime, which some machine may have", class: "kata"},
		{name: "overhead without a class", given: corev1.PodSpec{Overhead: resources("1")}, refused: "without corresponding RuntimeClass"},
		{name: "overhead that the class does not have", class: "plain", given: corev1.PodSpec{Overhead: resources("1")}, refused: "without corresponding RuntimeClass"},
		{name: "another overhead", class: "costly", given: corev1.PodSpec{Overhead: resources("1")}, refused: "doesn't match RuntimeClass's defined Overhead"},
		{
			name: "another machine", class: "costly", given: corev1.PodSpec{NodeSelector: map[string]string{"disk": "slow"}},
			refused: "runtimeClass.scheduling.nodeSelector[disk] = fast; pod.spec.nodeSelector[disk] = slow",
		},
		{
			name: "all of it", class: "costly", given: corev1.PodSpec{NodeSelector: map[string]string{"zone": "a"}},
			want: corev1.PodSpec{
				Overhead: resources("0.1"), NodeSelector: map[string]string{"zone": "a", "disk": "fast"}, Tolerations: []corev1.Toleration{ours},
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.class != "" {
				c.given.RuntimeClassName = &c.class
			}
			r := podRequest("default", c.given)
			for range 2 { // the second time changes nothing
				err := New(Config{Reader: shelf}).Admit(t.Context(), r)
				if c.refused != "" {
					if err == nil || !strings.Contains(err.Error(), c.refused) {
						t.Errorf("got %v, want %s", err, c.refused)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				got := r.Object.(*corev1.Pod).Spec
				tolerations := 2 + len(c.want.Tolerations) // those of machines that are away
				if !cmp.Equal(got.Overhead, c.want.Overhead) || !cmp.Equal(got.NodeSelector, c.want.NodeSelector) || len(got.Tolerations) != tolerations {
					t.Errorf("got %v %v %v", got.Overhead, got.NodeSelector, got.Tolerations)
				}
			}
		})
	}
}
