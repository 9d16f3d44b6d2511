package node

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// volume makes a claim that is bound to a volume which class local made on a node.
func (w *world) volume(name, node string) {
	w.t.Helper()
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: map[string]string{"pv.kubernetes.io/bind-completed": "yes"}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeName: name, StorageClassName: new(api.LocalClass),
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: quantity("1Gi")}},
		},
	}
	claim = w.create(api.PersistentVolumeClaims, claim).(*corev1.PersistentVolumeClaim)
	v := api.NewLocalVolume(claim, api.LocalStorageClass(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}})
	v.Name, v.Spec.CSI.VolumeHandle = name, name
	w.create(api.PersistentVolumes, v)
}

func (w *world) theVolume(name string) *corev1.PersistentVolume {
	w.t.Helper()
	o, err := w.api.Get(w.t.Context(), api.PersistentVolumes, client.Key{Name: name}, client.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return o.(*corev1.PersistentVolume)
}

func (w *world) deleteVolume(name string) {
	w.t.Helper()
	if _, err := w.api.Delete(w.t.Context(), api.PersistentVolumes, client.Key{Name: name}, client.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

func using(claim string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/data"}}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestDataOfAVolumeGoesOnlyWhenTheAPISaysSo(t *testing.T) {
	inWorld(t, func(w *world) {
		w.volume("data", me)
		dir := filepath.Join(w.dir, "volumes", "data")
		if exists(dir) {
			t.Error("there is data before there is a pod")
		}
		w.pod("a", using("data"))
		w.settle()
		w.wantRunning("a")
		precious := filepath.Join(dir, "precious")
		if err := os.WriteFile(precious, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if v := w.theVolume("data"); !slices.Contains(v.Finalizers, api.FinalizerLocal) {
			t.Fatalf("nobody knows that this machine holds data: %v", v.Finalizers)
		}
		w.delete("a", 0)
		w.settle()
		w.halt()
		w.start()
		w.pod("b", using("data"))
		w.settle()
		w.wantRunning("b")
		if !exists(precious) {
			t.Fatal("the data went with its pod, or with the restart")
		}
		// It is to go, and somebody else holds it still.
		v := w.theVolume("data").DeepCopy()
		v.Finalizers = append(v.Finalizers, api.FinalizerVolume)
		if _, err := w.api.Update(t.Context(), api.PersistentVolumes, v, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		w.deleteVolume("data")
		if !exists(precious) {
			t.Fatal("the data went while the volume was in use")
		}
		v = w.theVolume("data").DeepCopy()
		v.Finalizers = slices.DeleteFunc(v.Finalizers, func(f string) bool { return f == api.FinalizerVolume })
		if _, err := w.api.Update(t.Context(), api.PersistentVolumes, v, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		w.settle()
		if w.theVolume("data") != nil || exists(dir) {
			t.Errorf("volume there: %v, data there: %v", w.theVolume("data") != nil, exists(dir))
		}
		w.node.local.mu.Lock()
		defer w.node.local.mu.Unlock()
		if n := len(w.node.local.followed); n > 0 {
			t.Errorf("%d volumes are followed still", n)
		}
	})
}

func TestDataThatIsRetainedOrUnknownStays(t *testing.T) {
	inWorld(t, func(w *world) {
		w.volume("kept", me)
		w.pod("a", using("kept"))
		w.settle()
		v := w.theVolume("kept").DeepCopy()
		v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		if _, err := w.api.Update(t.Context(), api.PersistentVolumes, v, client.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		kept, unknown := filepath.Join(w.dir, "volumes", "kept"), filepath.Join(w.dir, "volumes", "unknown")
		half := filepath.Join(w.dir, "volumes", "half"+deleted)
		for _, dir := range []string{unknown, half} {
			if err := os.MkdirAll(filepath.Join(dir, "precious"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		w.delete("a", 0)
		w.settle()
		w.deleteVolume("kept")
		w.halt()
		w.start()
		w.pass(time.Minute)
		if w.theVolume("kept") != nil || !exists(kept) || !exists(unknown) || exists(half) {
			t.Errorf("volume there: %v; retained data %v, unknown data %v, half removed data %v", w.theVolume("kept") != nil, exists(kept), exists(unknown), exists(half))
		}
	})
}

func TestAPodDoesNotStartWithoutTheDataItHad(t *testing.T) {
	inWorld(t, func(w *world) {
		w.volume("data", me)
		w.volume("far", "peer-2")
		w.pod("a", using("data"))
		w.settle()
		w.wantRunning("a")
		w.delete("a", 0)
		w.settle()
		if err := os.RemoveAll(filepath.Join(w.dir, "volumes", "data")); err != nil {
			t.Fatal(err)
		}
		w.pod("b", using("data"))
		w.pod("c", using("far"))
		w.settle()
		for _, name := range []string{"b", "c"} {
			if p := w.get(name); p.Status.Phase == corev1.PodRunning || api.IsPodReady(p) {
				t.Errorf("pod %s runs: %s", name, brief(p))
			}
		}
		if exists(filepath.Join(w.dir, "volumes", "data")) {
			t.Error("an empty directory stands for data that was lost")
		}
	})
}

func TestAPodWaitsForItsClaimToBeBound(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pod("a", using("data"))
		w.settle()
		if p := w.get("a"); p.Status.Phase == corev1.PodRunning {
			t.Fatal("it runs without its volume")
		}
		w.volume("data", me)
		w.pass(time.Minute)
		w.wantRunning("a")
	})
}
