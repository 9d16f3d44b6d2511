package volume

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// objects are the ConfigMaps and Secrets that there are.
type objects struct {
	maps    map[string]*corev1.ConfigMap
	secrets map[string]*corev1.Secret
	claims  map[string]*corev1.PersistentVolumeClaim
	volumes map[string]*corev1.PersistentVolume
	token   string // empty: there is none
}

func (o *objects) Token(_ context.Context, _ *corev1.Pod, audience string, seconds int64) (string, error) {
	if o.token == "" {
		return "", ErrToken
	}
	return fmt.Sprint(o.token, " for ", audience, " ", seconds), nil
}

func (o *objects) ConfigMap(_, name string) (*corev1.ConfigMap, error) {
	if m := o.maps[name]; m != nil {
		return m, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (o *objects) Secret(_, name string) (*corev1.Secret, error) {
	if s := o.secrets[name]; s != nil {
		return s, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

func (o *objects) Claim(_, name string) (*corev1.PersistentVolumeClaim, error) {
	if c := o.claims[name]; c != nil {
		return c, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "persistentvolumeclaims"}, name)
}

func (o *objects) Volume(name string) (*corev1.PersistentVolume, error) {
	if v := o.volumes[name]; v != nil {
		return v, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "persistentvolumes"}, name)
}

func setup(t *testing.T) (*Volumes, *objects, *corev1.Pod) {
	t.Helper()
	o := &objects{maps: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{}, claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{}}
	v := New(Config{
		Root: t.TempDir(), Objects: o, Tokens: o, Log: slog.New(slog.DiscardHandler),
		Allocatable: func() corev1.ResourceList { return corev1.ResourceList{"cpu": resource.MustParse("4")} },
	})
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u", Labels: map[string]string{"a": "1", "b": "2"}}}
	t.Cleanup(func() { _ = v.Teardown(context.Background(), p.UID) })
	return v, o, p
}

func add(p *corev1.Pod, name string, s corev1.VolumeSource) {
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: s})
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// needsMounts skips a test where nothing may be mounted.
func needsMounts(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skip("may not mount:", err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
}

func TestConfigMapIsFollowedAsAWhole(t *testing.T) {
	v, o, p := setup(t)
	o.maps["m"] = &corev1.ConfigMap{Data: map[string]string{"x": "1", "y": "1"}, BinaryData: map[string][]byte{"z": {0}}}
	add(p, "m", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}}})
	dir := v.Dir("u", "m")
	must(t, v.Setup(t.Context(), p))
	if got := content(t, filepath.Join(dir, "x")); got != "1" {
		t.Fatal(got)
	}
	open, err := os.Open(filepath.Join(dir, current, "y"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	first, err := os.Readlink(filepath.Join(dir, current))
	must(t, err)
	must(t, v.Setup(t.Context(), p))
	if again, _ := os.Readlink(filepath.Join(dir, current)); again != first {
		t.Fatal("what did not change was written anew")
	}
	o.maps["m"] = &corev1.ConfigMap{Data: map[string]string{"x": "2"}}
	must(t, v.Setup(t.Context(), p))
	if got := content(t, filepath.Join(dir, "x")); got != "2" {
		t.Fatal(got)
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 3 {
		t.Fatalf("left over: %v", entries)
	}
	delete(o.maps, "m")
	must(t, v.Setup(t.Context(), p))
	if got := content(t, filepath.Join(dir, "x")); got != "2" {
		t.Fatal("a pod lost its configuration:", got)
	}
}

func TestWhatIsMissingHoldsThePodUnlessOptional(t *testing.T) {
	v, _, p := setup(t)
	yes := true
	add(p, "m", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}}})
	if err := v.Setup(t.Context(), p); err == nil || !strings.Contains(err.Error(), `volume "m"`) {
		t.Fatalf("got %v", err)
	}
	p.Spec.Volumes[0].ConfigMap.Optional = &yes
	must(t, v.Setup(t.Context(), p))
}

func TestProjectionOfEverything(t *testing.T) {
	needsMounts(t)
	v, o, p := setup(t)
	gid, mode := int64(1234), int32(0o400)
	p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &gid}
	p.Spec.Containers = []corev1.Container{{Name: "c"}}
	o.maps["m"] = &corev1.ConfigMap{Data: map[string]string{"k": "map"}}
	o.secrets["s"] = &corev1.Secret{Data: map[string][]byte{"k": []byte("secret")}}
	add(p, "all", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}, Items: []corev1.KeyToPath{{Key: "k", Path: "sub/map"}}}},
		{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Items: []corev1.KeyToPath{{Key: "k", Path: "sub/secret", Mode: &mode}}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
			{Path: "cpu", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "c", Resource: "limits.cpu"}},
		}}},
	}}})
	must(t, v.Setup(t.Context(), p))
	dir := v.Dir("u", "all")
	for name, want := range map[string]string{"sub/map": "map", "sub/secret": "secret", "labels": "a=\"1\"\nb=\"2\"", "cpu": "4"} {
		if got := content(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(dir, "sub/secret"), &st))
	if st.Gid != 1234 || st.Mode&0o777 != 0o440 {
		t.Errorf("secret: group %d, mode %o", st.Gid, st.Mode)
	}
	if is, err := isMountPoint(dir); err != nil || !is {
		t.Error("a secret is on a disk", err)
	}
}

func TestEmptyDirInMemoryIsBoundedAndGone(t *testing.T) {
	needsMounts(t)
	v, _, p := setup(t)
	size := resource.MustParse("1Mi")
	add(p, "e", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &size}})
	must(t, v.Setup(t.Context(), p))
	file := filepath.Join(v.Dir("u", "e"), "f")
	if err := os.WriteFile(file, make([]byte, 2<<20), 0o600); err == nil {
		t.Error("more than its limit fits")
	}
	must(t, os.WriteFile(file, []byte("kept"), 0o600))
	must(t, v.Setup(t.Context(), p))
	if got := content(t, file); got != "kept" {
		t.Error("a second setup emptied it")
	}
	must(t, v.Teardown(t.Context(), "u"))
	if at, err := mounts(v.cfg.Root); err != nil || len(at) > 0 {
		t.Errorf("mounted: %v, %v", at, err)
	}
	if _, err := os.Stat(filepath.Join(v.cfg.Root, "u", "volumes")); !os.IsNotExist(err) {
		t.Error("left over:", err)
	}
}

func TestSubPathsStayInTheVolume(t *testing.T) {
	needsMounts(t)
	v, _, p := setup(t)
	add(p, "e", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	must(t, v.Setup(t.Context(), p))
	dir := v.Dir("u", "e")
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("machine's"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(dir, "out")))
	must(t, os.Symlink("in", filepath.Join(dir, "link")))
	lookup := func(name string) (string, bool) { return "pod-7", name == "NAME" }
	mount := func(sub, expr string) (string, error) {
		c := &corev1.Container{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "e", MountPath: "/x", SubPath: sub, SubPathExpr: expr}}}
		m, err := v.Mounts(p, c, lookup)
		if err != nil {
			return "", err
		}
		return m[0].HostPath, nil
	}
	for _, bad := range []string{"out", "out/secret", "../e", "/etc", "in/../../x"} {
		if at, err := mount(bad, ""); err == nil {
			t.Errorf("%s leads to %s", bad, at)
		}
	}
	if _, err := mount("", "$(NOBODY)/x"); err == nil {
		t.Error("an unknown variable was expanded")
	}
	must(t, os.Mkdir(filepath.Join(dir, "in"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "in", "f"), []byte("mine"), 0o600))
	at, err := mount("link", "")
	must(t, err)
	if got := content(t, filepath.Join(at, "f")); got != "mine" {
		t.Error(got)
	}
	at, err = mount("", "new/$(NAME)")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(at, "f"), []byte("deep"), 0o600))
	if got := content(t, filepath.Join(dir, "new/pod-7/f")); got != "deep" {
		t.Error(got)
	}
	at, err = mount("in/f", "")
	must(t, err)
	if got := content(t, at); got != "mine" {
		t.Error(got)
	}
	must(t, v.Teardown(t.Context(), "u"))
	if got := content(t, filepath.Join(outside, "secret")); got != "machine's" {
		t.Error("teardown reached out of the pod")
	}
}

func TestHostPathMustBeWhatItSays(t *testing.T) {
	v, _, p := setup(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	must(t, os.WriteFile(file, nil, 0o600))
	for _, x := range []struct {
		path string
		kind corev1.HostPathType
		ok   bool
	}{
		{dir, corev1.HostPathDirectory, true},
		{file, corev1.HostPathDirectory, false},
		{file, corev1.HostPathFile, true},
		{dir, corev1.HostPathFile, false},
		{filepath.Join(dir, "none"), corev1.HostPathFile, false},
		{filepath.Join(dir, "new"), corev1.HostPathDirectoryOrCreate, true},
		{filepath.Join(dir, "newfile"), corev1.HostPathFileOrCreate, true},
		{"/dev/null", corev1.HostPathCharDev, true},
		{file, corev1.HostPathSocket, false},
		{dir, corev1.HostPathUnset, true},
	} {
		p.Spec.Volumes = nil
		add(p, "h", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: x.path, Type: &x.kind}})
		if err := v.Setup(t.Context(), p); (err == nil) != x.ok {
			t.Errorf("%s as %q: %v", x.path, x.kind, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
