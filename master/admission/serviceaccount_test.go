package admission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
)

func TestContainersFindTheToken(t *testing.T) {
	yes, no := true, false
	shelf := newShelf()
	shelf.put(api.ServiceAccounts, &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "quiet"}, AutomountServiceAccountToken: &no,
	})
	own := corev1.VolumeMount{Name: "mine", MountPath: tokenPath}
	for _, c := range []struct {
		name    string
		account string
		auto    *bool
		mounts  [2][]corev1.VolumeMount // of an init container and a container
		want    [2]int                  // mounts of the token's volume
	}{
		{"an account that says nothing", "puller", nil, [2][]corev1.VolumeMount{}, [2]int{1, 1}},
		{"no account yet", "", nil, [2][]corev1.VolumeMount{}, [2]int{1, 1}},
		{"an account that says no", "quiet", nil, [2][]corev1.VolumeMount{}, [2]int{}},
		{"a pod that says yes all the same", "quiet", &yes, [2][]corev1.VolumeMount{}, [2]int{1, 1}},
		{"a pod that says no", "puller", &no, [2][]corev1.VolumeMount{}, [2]int{}},
		{"a container with something else in that place", "puller", nil, [2][]corev1.VolumeMount{{}, {own}}, [2]int{1, 0}},
		{"containers that all have", "puller", nil, [2][]corev1.VolumeMount{{own}, {own}}, [2]int{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := podRequest("default", corev1.PodSpec{
				ServiceAccountName: c.account, AutomountServiceAccountToken: c.auto,
				InitContainers: []corev1.Container{{Name: "i", VolumeMounts: c.mounts[0]}},
				Containers:     []corev1.Container{{Name: "c", VolumeMounts: c.mounts[1]}},
			})
			chain := New(Config{Reader: shelf})
			if err := chain.Admit(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			got := r.Object.(*corev1.Pod).Spec
			volume := ""
			for _, v := range got.Volumes {
				if strings.HasPrefix(v.Name, "kube-api-access-") && v.Projected != nil && len(v.Projected.Sources) == 3 {
					volume = v.Name
				}
			}
			if want := c.want != [2]int{}; want != (volume != "") || len(got.Volumes) > 1 {
				t.Errorf("volumes are %v", got.Volumes)
			}
			for i, list := range [][]corev1.Container{got.InitContainers, got.Containers} {
				n := 0
				for _, m := range list[0].VolumeMounts {
					if m.MountPath == tokenPath && m.Name == volume && m.ReadOnly {
						n++
					}
				}
				if n != c.want[i] {
					t.Errorf("container %s mounts %v", list[0].Name, list[0].VolumeMounts)
				}
			}
			before := r.Object.(*corev1.Pod).DeepCopy().Spec
			if err := chain.Admit(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, r.Object.(*corev1.Pod).Spec); diff != "" {
				t.Errorf("admitted again, it changed:\n%s", diff)
			}
		})
	}
}
