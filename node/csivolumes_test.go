package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/node/csi"
	"shoal/node/runtime"
)

// disks are CSI drivers without drivers: directories.
type disks struct {
	dir string

	mu      sync.Mutex
	list    []csi.Driver
	changed chan struct{}
	mounted map[string]csi.Volume // by pod and name
	fail    error
}

func newDisks(dir string) *disks {
	return &disks{dir: dir, changed: make(chan struct{}), mounted: map[string]csi.Volume{}}
}

func (d *disks) set(list ...csi.Driver) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = list
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *disks) List() ([]csi.Driver, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.list, d.changed
}

func (d *disks) Mount(_ context.Context, pod types.UID, v csi.Volume) (string, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return "", false, d.fail
	}
	d.mounted[string(pod)+"/"+v.Name] = v
	at := filepath.Join(d.dir, v.Handle)
	return at, false, os.MkdirAll(at, 0o755)
}

func (d *disks) Mounted(pod types.UID, name string) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, ok := d.mounted[string(pod)+"/"+name]
	return filepath.Join(d.dir, v.Handle), ok
}

func (d *disks) Unmount(_ context.Context, pod types.UID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key := range d.mounted {
		if strings.HasPrefix(key, string(pod)+"/") {
			delete(d.mounted, key)
		}
	}
	return nil
}

// volume returns what is mounted for a pod, when it is one volume.
func (d *disks) volume() (csi.Volume, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range d.mounted {
		return v, len(d.mounted) == 1
	}
	return csi.Volume{}, false
}

// inDriven runs f in a world whose node has drivers.
func inDriven(t *testing.T, f func(w *world, d *disks)) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		d := newDisks(dir)
		w.halt()
		w.config = func(c *Config) { c.CSI = d }
		w.start()
		f(w, d)
	})
}

// disk makes a volume of driver disks.example, bound to claim data, whose secrets lie in namespace default.
func (w *world) disk(change func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	w.t.Helper()
	claim := w.create(api.PersistentVolumeClaims, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: "default", Annotations: map[string]string{volume.AnnBindCompleted: "yes"}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeName: "disk", StorageClassName: new(""),
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: quantity("1Gi")}},
		},
	})
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "disk"},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Capacity: corev1.ResourceList{corev1.ResourceStorage: quantity("1Gi")},
			ClaimRef: &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: "default", Name: "data", UID: claim.GetUID()},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: "disks.example", VolumeHandle: "d1", FSType: "ext4", VolumeAttributes: map[string]string{"speed": "high"},
			}},
		},
	}
	if change != nil {
		change(v)
	}
	return w.create(api.PersistentVolumes, v).(*corev1.PersistentVolume)
}

func claiming(p *corev1.Pod) {
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/data"}}
}

func TestAVolumeOfADriverIsMountedWhenItIsAttached(t *testing.T) {
	inDriven(t, func(w *world, d *disks) {
		w.create(api.Secrets, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "key", Namespace: "default"}, Data: map[string][]byte{"password": []byte("open")}})
		v := w.disk(func(v *corev1.PersistentVolume) {
			v.Spec.CSI.NodeStageSecretRef = &corev1.SecretReference{Namespace: "default", Name: "key"}
			v.Spec.MountOptions = []string{"noatime"}
		})
		w.pod("a", claiming)
		w.settle()
		if p := w.get("a"); p.Status.Phase != corev1.PodPending {
			t.Fatalf("before its volume is attached: %s", brief(p))
		}
		a := w.create(api.VolumeAttachments, &storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: api.AttachmentName(v, me)},
			Spec:       storagev1.VolumeAttachmentSpec{Attacher: "disks.example", NodeName: me, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &v.Name}},
		}).(*storagev1.VolumeAttachment).DeepCopy()
		w.settle()
		a.Status = storagev1.VolumeAttachmentStatus{Attached: true, AttachmentMetadata: map[string]string{"device": "/dev/x"}}
		if _, err := w.api.Update(w.t.Context(), api.VolumeAttachments, a, client.UpdateOptions{Subresource: "status"}); err != nil {
			t.Fatal(err)
		}
		w.settle()
		p := w.wantRunning("a")
		got, ok := d.volume()
		if !ok || got.Handle != "d1" || got.PublishContext["device"] != "/dev/x" || got.StageSecrets["password"] != "open" || got.FSType != "ext4" ||
			got.Attributes["speed"] != "high" || len(got.MountOptions) != 1 || got.ReadOnly || got.Ephemeral {
			t.Errorf("mounted %+v", got)
		}
		if at, err := os.Readlink(w.node.volumes.Dir(p.UID, "v")); err != nil || at != filepath.Join(d.dir, "d1") {
			t.Errorf("the pod's volume is at %q, %v", at, err)
		}
		t.Log("nobody is asked anything of what is mounted: the API and the driver may be away")
		d.fail = errors.New("asked again")
		w.halt()
		w.client = unreachable{w.api}
		w.start()
		w.pass(time.Minute)
		w.runtime.Exit(p.UID, "c", 1)
		w.settle()
		if run := w.held()[0].Containers[0]; run.Attempt != 1 || run.State != runtime.Running {
			t.Errorf("its container was not started again: %+v", run)
		}
		w.halt()
		w.client = nil
		w.start()
		w.delete("a", 0)
		w.settle()
		if _, ok := d.volume(); ok {
			t.Error("it is still mounted")
		}
	})
}

func TestADriverIsToldOfThePod(t *testing.T) {
	inDriven(t, func(w *world, d *disks) {
		class := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "disks.example"}, Spec: storagev1.CSIDriverSpec{
			AttachRequired: new(bool), PodInfoOnMount: new(true), VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent},
		}}
		w.create(api.CSIDrivers, class)
		inline := func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
				Driver: "disks.example", ReadOnly: new(true), VolumeAttributes: map[string]string{"a": "b"},
			}}}}
		}
		w.pod("a", inline)
		w.settle()
		if said := w.events("FailedMount"); !strings.Contains(said, "must have Ephemeral among volumeLifecycleModes") {
			t.Errorf("events %s", said)
		}
		w.delete("a", 0)
		w.settle()
		if _, err := w.api.Delete(w.t.Context(), api.CSIDrivers, client.Key{Name: class.Name}, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		class.Spec.VolumeLifecycleModes = append(class.Spec.VolumeLifecycleModes, storagev1.VolumeLifecycleEphemeral)
		w.create(api.CSIDrivers, class)
		p := w.pod("b", inline)
		w.settle()
		w.wantRunning("b")
		got, _ := d.volume()
		want := map[string]string{"a": "b", csiPodName: "b", csiNamespace: "default", csiUID: string(p.UID), csiEphemeral: "true"}
		for k, v := range want {
			if got.Attributes[k] != v {
				t.Errorf("%s is %q, want %q", k, got.Attributes[k], v)
			}
		}
		if !got.Ephemeral || !got.ReadOnly || !strings.HasPrefix(got.Handle, "csi-") {
			t.Errorf("mounted %+v", got)
		}
	})
}

func TestDriversAreShownToTheAPI(t *testing.T) {
	inDriven(t, func(w *world, d *disks) {
		is := func(want string) {
			t.Helper()
			o, err := w.api.Get(w.t.Context(), api.CSINodes, client.Key{Name: me}, client.GetOptions{})
			if err != nil {
				if want != "" {
					t.Error(err)
				}
				return
			}
			var got []string
			for _, x := range o.(*storagev1.CSINode).Spec.Drivers {
				got = append(got, fmt.Sprint(x.Name, " ", x.NodeID, " ", x.TopologyKeys))
			}
			if strings.Join(got, ", ") != want || o.(*storagev1.CSINode).OwnerReferences[0].UID != w.self().UID {
				t.Errorf("CSINode has %v, want %s", got, want)
			}
		}
		is("")
		d.set(csi.Driver{Name: "b", NodeID: "n"}, csi.Driver{Name: "a", NodeID: "m", Most: 3, Topology: map[string]string{"a/rack": "7"}})
		w.pass(3 * time.Second)
		is("a m [a/rack], b n []")
		if got := w.self().Labels["a/rack"]; got != "7" {
			t.Errorf("the Node's rack is %q", got)
		}
		d.set(csi.Driver{Name: "b", NodeID: "n"})
		w.settle()
		is("b n []")
		d.set()
		w.settle()
		is("")
	})
}

func TestAnEndedPodSaysSoWhenItsVolumesAreUnmounted(t *testing.T) {
	inDriven(t, func(w *world, d *disks) {
		w.create(api.CSIDrivers, &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "disks.example"}, Spec: storagev1.CSIDriverSpec{AttachRequired: new(bool)}})
		w.disk(nil)
		d.fail = errors.New("not yet")
		p := w.pod("a", func(p *corev1.Pod) { claiming(p); p.Spec.RestartPolicy = corev1.RestartPolicyNever })
		w.settle()
		if said := w.events("FailedMount"); !strings.Contains(said, "not yet") {
			t.Errorf("events %s", said)
		}
		d.mu.Lock()
		d.fail = nil
		d.mu.Unlock()
		w.pass(time.Minute)
		w.wantRunning("a")
		w.runtime.Exit(p.UID, "c", 0)
		w.settle()
		if _, mounted := d.volume(); mounted || w.get("a").Status.Phase != corev1.PodSucceeded {
			t.Errorf("mounted %v, %s", mounted, brief(w.get("a")))
		}
	})
}

// TestADriverIsGivenTokens of the pod's account, for the audiences that it asks for.
func TestADriverIsGivenTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &issuer{}
		n := &Node{cfg: Config{Client: from, Now: time.Now}, log: slog.New(slog.DiscardHandler)}
		n.pods = &pods{n: n, workers: map[types.UID]*worker{}}
		n.tokens = newTokens(n)
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u"}, Spec: corev1.PodSpec{ServiceAccountName: "sa"}}
		class := &storagev1.CSIDriver{Spec: storagev1.CSIDriverSpec{TokenRequests: []storagev1.TokenRequest{{Audience: "vault"}, {Audience: "store", ExpirationSeconds: new(int64(7200))}}}}
		var v csi.Volume
		if err := (csiVolumes{n: n}).describe(t.Context(), p, class, false, &v); err != nil {
			t.Fatal(err)
		}
		var got map[string]struct {
			Token   string    `json:"token"`
			Expires time.Time `json:"expirationTimestamp"`
		}
		if err := json.Unmarshal([]byte(v.Attributes["csi.storage.k8s.io/serviceAccount.tokens"]), &got); err != nil {
			t.Fatal(err)
		}
		if got["vault"].Token == "" || got["store"].Token == "" || got["vault"].Token == got["store"].Token || !got["store"].Expires.After(got["vault"].Expires) {
			t.Errorf("%+v", got)
		}
		from.away = true
		other := class.DeepCopy()
		other.Spec.TokenRequests = []storagev1.TokenRequest{{Audience: "new"}}
		if err := (csiVolumes{n: n}).describe(t.Context(), p, other, false, &v); err == nil || !strings.Contains(err.Error(), "token for the CSI driver") {
			t.Errorf("without the API: %v", err)
		}
	})
}
