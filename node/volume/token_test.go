package volume

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func tokenVolume(audience string, seconds *int64) corev1.VolumeSource {
	return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
		ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience, ExpirationSeconds: seconds, Path: "token"},
	}}}}
}

func TestATokenIsRenewedAndKeptWhenThereIsNoNewOne(t *testing.T) {
	v, o, p := setup(t)
	add(p, "t", tokenVolume("vault", new(int64)))
	path := filepath.Join(v.Dir(p.UID, "t"), "token")
	if err := v.Setup(t.Context(), p); err == nil {
		t.Error("a volume without its token counts as made")
	}
	for _, step := range []struct{ token, want string }{
		{"first", "first for vault 0"}, {"second", "second for vault 0"}, {"", "second for vault 0"}, {"third", "third for vault 0"},
	} {
		o.token = step.token
		if err := v.Setup(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if got := content(t, path); got != step.want {
			t.Errorf("with %q the token is %q, want %q", step.token, got, step.want)
		}
	}
}

func TestATokenIsForItsUsersOnly(t *testing.T) {
	user, other, team := int64(1000), int64(1001), int64(2000)
	as := func(u *int64) corev1.Container {
		return corev1.Container{SecurityContext: &corev1.SecurityContext{RunAsUser: u}}
	}
	for _, c := range []struct {
		name     string
		spec     corev1.PodSpec
		mode     os.FileMode
		uid, gid uint32
	}{
		{"anybody", corev1.PodSpec{Containers: []corev1.Container{{}}}, 0o644, 0, 0},
		{"one user", corev1.PodSpec{Containers: []corev1.Container{as(&user), as(&user)}}, 0o600, 1000, 0},
		{"the pod's user", corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{RunAsUser: &user}, Containers: []corev1.Container{{}}}, 0o600, 1000, 0},
		{"two users", corev1.PodSpec{Containers: []corev1.Container{as(&user), as(&other)}}, 0o644, 0, 0},
		{"a user and an unknown one", corev1.PodSpec{InitContainers: []corev1.Container{{}}, Containers: []corev1.Container{as(&user)}}, 0o644, 0, 0},
		{
			"a group",
			corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{FSGroup: &team}, Containers: []corev1.Container{as(&user), as(&other)}},
			0o640, 0, 2000,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, o, p := setup(t)
			o.token, p.Spec = "t", c.spec
			add(p, "t", tokenVolume("", nil))
			if err := v.Setup(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(filepath.Join(v.Dir(p.UID, "t"), "token"))
			if err != nil {
				t.Fatal(err)
			}
			s := info.Sys().(*syscall.Stat_t)
			if info.Mode() != c.mode || s.Uid != c.uid || s.Gid != c.gid {
				t.Errorf("the token is %v of %d:%d, want %v of %d:%d", info.Mode(), s.Uid, s.Gid, c.mode, c.uid, c.gid)
			}
			if got := content(t, filepath.Join(v.Dir(p.UID, "t"), "token")); got != "t for  3600" {
				t.Errorf("the token is %q, asked for without a life of its own", got)
			}
		})
	}
}
