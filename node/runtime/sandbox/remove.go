package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
	"shoal/node/runtime/cgroup"
	"shoal/node/runtime/proc"
)

// Remove kills everything that is left in the pod's cgroup, the pause last of all in effect, and removes namespaces,
// mounts, cgroups and the pod's directory. What is not there is no error. It waits for the processes to end.
func (s *Sandboxes) Remove(ctx context.Context, uid types.UID) error {
	if err := valid(uid); err != nil {
		return err
	}
	x, err := s.Load(uid)
	if err != nil {
		// Nothing readable is on file: its cgroup is where it is by default.
		x = Sandbox{UID: uid, Cgroup: filepath.Join("/", s.config.CgroupParent, "pod"+string(uid))}
	}
	return s.undo(ctx, x)
}

func (s *Sandboxes) undo(ctx context.Context, x Sandbox) error {
	if err := s.kill(ctx, x); err != nil {
		return err
	}
	if err := s.unmount(x.UID); err != nil {
		return err
	}
	if x.Cgroup != "" {
		tree, err := cgroup.Mounted()
		if err != nil {
			return err
		}
		if err := tree.Remove(x.Cgroup); err != nil {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return os.RemoveAll(s.Dir(x.UID))
}

// kill ends the pause and every other process of the pod, and returns when they are gone.
func (s *Sandboxes) kill(ctx context.Context, x Sandbox) error {
	if x.Running() {
		if err := x.Pause.Signal(unix.SIGKILL); err != nil {
			return err
		}
	}
	if x.Pause.Pid != 0 {
		if err := x.Pause.Wait(ctx); err != nil {
			return err
		}
	}
	if x.Cgroup == "" {
		return nil
	}
	tree, err := cgroup.Mounted()
	if err != nil {
		return err
	}
	// What is killed may just have forked: look until nothing is there.
	for {
		pids := tree.Processes(x.Cgroup)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := end(ctx, pid, x.Cgroup); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func end(ctx context.Context, pid int, path string) error {
	p, err := proc.Of(pid)
	if err != nil {
		return nil
	}
	held := false
	err = proc.Signal(pid, unix.SIGKILL, func(pid int) bool {
		held = cgroup.Holds(pid, path)
		return held
	})
	if err != nil {
		return err
	}
	if !held && p.Alive() {
		return fmt.Errorf("process %d is listed in cgroup %s but not in it", pid, path)
	}
	return p.Wait(ctx)
}

// unmount drops the pinned namespaces and the shared memory. Mounts in use go when their last user does.
func (s *Sandboxes) unmount(uid types.UID) error {
	paths, _ := filepath.Glob(filepath.Join(s.nsDir(uid), "*"))
	for _, path := range append(paths, filepath.Join(s.Dir(uid), "shm")) {
		for {
			err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
				break // not a mount, or not any more
			}
			if err != nil {
				return fmt.Errorf("unmount %s: %w", path, err)
			}
		}
	}
	return nil
}

// Watch returns when the pause of the pod has ended, or with ctx's error. It is ErrNotFound if there is no sandbox.
func (s *Sandboxes) Watch(ctx context.Context, uid types.UID) error {
	x, err := s.Load(uid)
	if err != nil {
		return err
	}
	if x.Pause.Pid == 0 {
		return fmt.Errorf("pause of pod %s: %w", uid, runtime.ErrNotFound)
	}
	return x.Pause.Wait(ctx)
}
