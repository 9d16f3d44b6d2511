package containerd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

func TestAnImageIsMounted(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	never := runtime.Pull{Policy: corev1.PullNever}
	if err := m.MountImage(t.Context(), "v", "nobody.local/has:this", never, dir); runtime.Reason(err) != runtime.ReasonImageNeverPull {
		t.Errorf("an image that is not there: %v", err)
	}
	ref := m.containerConfig("a", "app").Image.Name
	if err := m.MountImage(t.Context(), "v", ref, never, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatalf("the image has %v, %v", entries, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a file was written into an image: %v", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Flags&unix.ST_NOEXEC == 0 || fs.Flags&unix.ST_RDONLY == 0 {
		t.Errorf("flags of the mount: %#x, %v", fs.Flags, err)
	}
	t.Log("the next peer sweeps what nobody uses, and the machine's restart unmounts")
	m.stop()
	m.boot()
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := m.MountImage(t.Context(), "v", ref, never, dir); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadDir(dir); err != nil || len(again) != len(entries) {
		t.Errorf("the image has %v, %v", again, err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.ReleaseImage(t.Context(), "v"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.client.SnapshotService(m.snapshotter).Stat(t.Context(), "v"); err == nil {
		t.Error("its snapshot is left")
	}
}
