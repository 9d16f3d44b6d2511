package lab

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hierarchies returns the mount points of every cgroup hierarchy, version 1 and 2.
func hierarchies() ([]string, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 2 && (f[2] == "cgroup" || f[2] == "cgroup2") {
			all = append(all, f[1])
		}
	}
	return all, nil
}

// makeCgroups makes name (a path below the hierarchies' roots) everywhere.
func makeCgroups(name string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		dir := h
		for part := range strings.SplitSeq(name, "/") {
			parent := dir
			dir = filepath.Join(dir, part)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			// A version 1 cpuset takes no process before it has processors and memory.
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				if b, err := os.ReadFile(filepath.Join(parent, file)); err == nil && len(b) > 0 {
					_ = os.WriteFile(filepath.Join(dir, file), b, 0o644)
				}
			}
		}
	}
	return nil
}

// cgroupFiles returns the files that take a process into name, one a hierarchy.
func cgroupFiles(name string) ([]string, error) {
	all, err := hierarchies()
	for i, h := range all {
		all[i] = filepath.Join(h, name, "cgroup.procs")
	}
	return all, err
}

// enterCgroups moves a process into name everywhere.
func enterCgroups(name string, pid int) error {
	files, err := cgroupFiles(name)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// processes returns every process in name and below it, in any hierarchy.
func processes(name string) ([]int, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	var pids []int
	for _, h := range all {
		err := filepath.WalkDir(filepath.Join(h, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return ignoreGone(err)
			}
			b, err := os.ReadFile(path)
			for _, f := range strings.Fields(string(b)) {
				if pid, _ := strconv.Atoi(f); pid > 0 && !seen[pid] {
					seen[pid] = true
					pids = append(pids, pid)
				}
			}
			return ignoreGone(err)
		})
		if err != nil {
			return nil, err
		}
	}
	return pids, nil
}

// removeCgroups removes name and everything below it. Cgroups that still hold processes stay and are an error.
func removeCgroups(name string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range all {
		var dirs []string
		_ = filepath.WalkDir(filepath.Join(h, name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return ignoreGone(err)
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := unix.Rmdir(dirs[i]); err != nil && err != unix.ENOENT {
				errs = append(errs, &os.PathError{Op: "rmdir", Path: dirs[i], Err: err})
			}
		}
	}
	return errors.Join(errs...)
}

// setFrozen stops or continues every process in name and below it.
func setFrozen(name string, frozen bool) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	v1, v2 := "THAWED", "0"
	if frozen {
		v1, v2 = "FROZEN", "1"
	}
	for _, h := range all {
		if path := filepath.Join(h, name, "freezer.state"); exists(path) {
			return os.WriteFile(path, []byte(v1), 0o644)
		}
	}
	for _, h := range all {
		if path := filepath.Join(h, name, "cgroup.freeze"); exists(path) {
			return os.WriteFile(path, []byte(v2), 0o644)
		}
	}
	return errors.New("no cgroup freezer on this machine")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
