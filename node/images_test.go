package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/node/runtime"
)

// The Secret comes after the pod, and at first it is no good: the image is pulled at the moment when it is.
func TestAPullSecretIsUsedTheMomentItIsThere(t *testing.T) {
	inWorld(t, func(w *world) {
		w.runtime.Publish(runtime.Image{Name: "private"})
		w.runtime.Guard("private", "right")
		w.pod("a", func(p *corev1.Pod) {
			p.Spec.Containers[0].Image = "private"
			p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
		})
		w.settle()
		waiting := func(when string) {
			t.Helper()
			if s := w.get("a").Status.ContainerStatuses[0].State.Waiting; s == nil || !strings.Contains(s.Message, "authorization failed") {
				t.Fatalf("%s: %+v", when, s)
			}
		}
		waiting("without the Secret")
		s := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "pull", Namespace: "default"}, Type: corev1.SecretTypeDockerConfigJson,
			Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"private":{"username":"ann","password":"wrong"}}}`)},
		}
		w.create(api.Secrets, s)
		w.settle()
		waiting("with the wrong password")
		fixed := s.DeepCopy()
		fixed.Data[corev1.DockerConfigJsonKey] = []byte(`{"auths":{"private":{"username":"ann","password":"right"}}}`)
		if _, err := w.api.Update(w.t.Context(), api.Secrets, fixed, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		w.settle()
		w.wantRunning("a")
	})
}

func TestTheNodeSaysWhatImagesItHolds(t *testing.T) {
	inWorld(t, func(w *world) {
		names := func() (out []string) {
			for _, i := range w.theNode().Status.Images {
				out = append(out, i.Names...)
			}
			return out
		}
		w.pass(imagesQuiet)
		if !slices.Equal(names(), []string{"app"}) {
			t.Errorf("at first: %q", names())
		}
		before := w.rev()
		for i := range 60 {
			w.runtime.AddImage(runtime.Image{Name: fmt.Sprintf("image-%d", i), Size: int64(1000 + i)})
		}
		w.pass(2 * imagesQuiet)
		if got := names(); len(got) != mostImages || got[0] != "image-59" {
			t.Errorf("%d: %q", len(got), got)
		}
		if n := w.rev() - before; n > 2 {
			t.Errorf("%d writes for images that came together", n)
		}
		w.halt()
		before = w.rev()
		w.start()
		w.pass(2 * imagesQuiet)
		if n := w.rev() - before; n != 0 {
			t.Errorf("%d writes when it was started again", n)
		}
	})
}

func TestImagesOfOneIDAreOneWithAllNames(t *testing.T) {
	got := imagesOf([]runtime.Image{
		{Name: "r/a:v1", ID: "1", Digests: []string{"r/a@sha256:x"}, Size: 5},
		{Name: "r/b:v1", ID: "2", Size: 7},
		{Name: "r/a:v2", ID: "1", Digests: []string{"r/a@sha256:x"}, Size: 5},
	})
	if len(got) != 2 || !slices.Equal(got[0].Names, []string{"r/b:v1"}) || !slices.Equal(got[1].Names, []string{"r/a:v1", "r/a:v2", "r/a@sha256:x"}) {
		t.Errorf("%+v", got)
	}
}

func TestAVolumeMayBeAnImage(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.pod("a", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "models/small"}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "model", MountPath: "/model"}}
		})
		w.settle()
		if got := w.get("a"); got.Status.Phase != corev1.PodPending {
			t.Errorf("without its image: %s", brief(got))
		}
		w.runtime.Publish(runtime.Image{Name: "models/small"})
		w.pass(backoffMost)
		w.wantRunning("a")
		dir := filepath.Join(w.dir, "pods", string(p.UID), "images", "model")
		if _, err := os.Stat(filepath.Join(dir, "models_small")); err != nil || w.runtime.Mounted() != 1 {
			t.Errorf("%d images are mounted: %v", w.runtime.Mounted(), err)
		}
		mounts, err := w.node.volumes.Mounts(p, &p.Spec.Containers[0], nil)
		if err != nil || len(mounts) != 1 || !mounts[0].ReadOnly || !mounts[0].Inert || mounts[0].HostPath != dir {
			t.Errorf("mounts %+v, %v", mounts, err)
		}
		w.delete("a", 0)
		w.settle()
		w.wantNothing()
		if w.runtime.Mounted() != 0 {
			t.Error("the image is still held")
		}
	})
}
