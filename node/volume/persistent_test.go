package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
)

// kept is where local volumes are.
type kept string

func (k kept) Open(_ context.Context, v *corev1.PersistentVolume) (string, error) {
	if api.LocalVolumeNode(v) != "here" {
		return "", errors.New("elsewhere")
	}
	return string(k), nil
}

// withClaim gives p a claim that is bound to a volume.
func withClaim(v *Volumes, o *objects, p *corev1.Pod, source corev1.PersistentVolumeSource) (dir string) {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{UID: "claim", Annotations: map[string]string{"pv.kubernetes.io/bind-completed": "yes"}}}
	claim.Spec.VolumeName = "pv"
	o.claims["data"] = claim
	o.volumes["pv"] = &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
		ClaimRef: &corev1.ObjectReference{UID: "claim"}, PersistentVolumeSource: source,
	}}
	add(p, "v", corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}})
	return v.Dir(p.UID, "v")
}

func madeHere(node string) corev1.PersistentVolumeSource {
	return corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
		Driver: api.LocalProvisioner, VolumeHandle: "pv", VolumeAttributes: map[string]string{"shoal.io/node": node},
	}}
}

func TestAPersistentVolumeOutlivesItsPods(t *testing.T) {
	v, o, p := setup(t)
	data := t.TempDir()
	v.cfg.Local = kept(data)
	withClaim(v, o, p, madeHere("here"))
	c := &corev1.Container{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/data"}, {Name: "v", MountPath: "/sub", SubPath: "below"}}}
	must(t, v.Setup(t.Context(), p))
	must(t, os.WriteFile(filepath.Join(data, "precious"), []byte("x"), 0o600))
	mounts, err := v.Mounts(p, c, nil)
	must(t, err)
	if mounts[0].HostPath != data || mounts[0].ReadOnly {
		t.Errorf("mount %+v", mounts[0])
	}
	if _, err := os.Stat(filepath.Join(data, "below")); err != nil {
		t.Error("a subPath that is not there is made:", err)
	}
	must(t, v.Teardown(t.Context(), p.UID))
	if got := content(t, filepath.Join(data, "precious")); got != "x" {
		t.Errorf("it holds %q", got)
	}
	// While nobody knows the claim, what is there will do; but not for a pod that begins.
	must(t, v.Setup(t.Context(), p))
	delete(o.claims, "data")
	must(t, v.Setup(t.Context(), p))
	must(t, v.Teardown(t.Context(), p.UID))
	if err := v.Setup(t.Context(), p); err == nil {
		t.Error("it was made without its claim")
	}
}

func TestWhatAClaimsVolumeMustBe(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		source corev1.PersistentVolumeSource
		change func(*objects)
		want   string // empty: it will do
	}{
		"local":              {source: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: dir}}},
		"hostPath":           {source: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}}},
		"local, missing":     {source: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: dir + "/none"}}, want: "there is no directory " + dir + "/none"},
		"of another machine": {source: madeHere("there"), want: "elsewhere"},
		"of another driver":  {source: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disks.example.org"}}, want: `CSI driver "disks.example.org" is not on this machine`},
		"of another kind":    {source: corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{}}, want: "of a type that is not supported"},
		"not bound":          {source: madeHere("here"), change: func(o *objects) { o.claims["data"].Annotations = nil }, want: "is not bound to a volume yet"},
		"made for another pod": {source: madeHere("here"), change: func(o *objects) {
			o.claims["p-v"] = o.claims["data"]
		}, want: "was not made for this pod"},
		"of another claim": {source: madeHere("here"), change: func(o *objects) { o.volumes["pv"].Spec.ClaimRef.UID = "x" }, want: "does not belong to"},
		"a device": {source: madeHere("here"), change: func(o *objects) {
			o.volumes["pv"].Spec.VolumeMode = new(corev1.PersistentVolumeBlock)
		}, want: "block device"},
	} {
		t.Run(name, func(t *testing.T) {
			v, o, p := setup(t)
			v.cfg.Local = kept(dir)
			withClaim(v, o, p, c.source)
			if c.change != nil {
				c.change(o)
			}
			if name == "made for another pod" {
				p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}
			}
			err := v.Setup(t.Context(), p)
			if c.want == "" {
				must(t, err)
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestAVolumeBelongsToThePodsGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("gives files away")
	}
	v, o, p := setup(t)
	data, outside := t.TempDir(), t.TempDir()
	v.cfg.Local = kept(data)
	withClaim(v, o, p, madeHere("here"))
	must(t, os.Mkdir(filepath.Join(data, "dir"), 0o700))
	must(t, os.WriteFile(filepath.Join(data, "dir", "file"), nil, 0o400))
	must(t, os.WriteFile(filepath.Join(outside, "file"), nil, 0o600))
	must(t, os.Symlink(filepath.Join(outside, "file"), filepath.Join(data, "link")))
	is := func(path string) (int, os.FileMode) {
		info, err := os.Stat(path)
		must(t, err)
		return int(info.Sys().(*syscall.Stat_t).Gid), info.Mode()
	}
	p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: new(int64(4711)), FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch)}
	must(t, v.Setup(t.Context(), p))
	if gid, mode := is(filepath.Join(data, "dir")); gid != 4711 || mode&os.ModeSetgid == 0 || mode&0o070 != 0o070 {
		t.Errorf("a directory: group %d, %v", gid, mode)
	}
	if gid, mode := is(filepath.Join(data, "dir", "file")); gid != 4711 || mode.Perm() != 0o660 {
		t.Errorf("a file: group %d, %v", gid, mode)
	}
	if gid, mode := is(filepath.Join(outside, "file")); gid == 4711 || mode.Perm() != 0o600 {
		t.Errorf("a file outside, by a link: group %d, %v", gid, mode)
	}
	// On a mismatch of the root only.
	must(t, os.Chown(filepath.Join(data, "dir", "file"), 0, 0))
	must(t, v.Teardown(t.Context(), p.UID))
	must(t, v.Setup(t.Context(), p))
	if gid, _ := is(filepath.Join(data, "dir", "file")); gid != 0 {
		t.Error("all was looked at again")
	}
	p.Spec.SecurityContext.FSGroupChangePolicy = nil
	must(t, v.Setup(t.Context(), p))
	if gid, _ := is(filepath.Join(data, "dir", "file")); gid != 0 {
		t.Error("the files of a pod that runs were gone through")
	}
	must(t, v.Teardown(t.Context(), p.UID))
	must(t, v.Setup(t.Context(), p))
	if gid, _ := is(filepath.Join(data, "dir", "file")); gid != 4711 {
		t.Error("a file was forgotten")
	}
}
