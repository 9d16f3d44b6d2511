// Package cgroup makes, fills, measures and removes control groups, version 1, version 2 and both at once. Paths are
// relative to the hierarchies' roots. It holds no state: everything is in the kernel. It is used by the sandbox, the
// container runtime and the keeper, and imports nothing of Shoal.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Tree is the machine's mounted hierarchies. Its zero value has none. It is read-only after Mounted.
type Tree struct {
	v1      map[string]string // controller, or "name=systemd" → mount point
	unified string            // mount point of version 2, also where it is mounted beside version 1
	all     []string          // every mount point once
}

// Mounted returns the hierarchies that this process sees.
func Mounted() (Tree, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Tree{}, err
	}
	defer f.Close()
	t, err := parse(f)
	if err == nil && len(t.all) == 0 {
		err = errors.New("no cgroup hierarchy is mounted")
	}
	return t, err
}

func parse(r io.Reader) (Tree, error) {
	t := Tree{v1: map[string]string{}}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		before, after, ok := strings.Cut(s.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		at := left[4]
		switch right[0] {
		case "cgroup2":
			if t.unified != "" {
				continue
			}
			t.unified = at
		case "cgroup":
			for o := range strings.SplitSeq(right[2], ",") {
				if _, known := t.v1[o]; !known && o != "rw" && o != "ro" {
					t.v1[o] = at
				}
			}
		default:
			continue
		}
		if !slices.Contains(t.all, at) {
			t.all = append(t.all, at)
		}
	}
	return t, s.Err()
}

// V2 reports whether limits are those of version 2.
func (t Tree) V2() bool { return t.v1["memory"] == "" && t.v1["cpu"] == "" && t.unified != "" }

// Files returns the directory of a cgroup's files for one controller, "" if the controller is not there. On version 2 all
// controllers share one.
func (t Tree) Files(controller, path string) string {
	at := t.v1[controller]
	if t.V2() {
		at = t.unified
	}
	if at == "" {
		return ""
	}
	return filepath.Join(at, path)
}

// homes returns the mount points in which a process of ours is placed. runc makes the others by itself, for containers.
func (t Tree) homes() []string {
	if t.V2() {
		return []string{t.unified}
	}
	var out []string
	for _, c := range []string{"cpu", "cpuacct", "memory", "pids", "freezer", "name=systemd"} {
		if at := t.v1[c]; at != "" && !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	if t.unified != "" {
		out = append(out, t.unified)
	}
	return out
}

// Make makes the cgroup and its parents. On version 2 the controllers that limit are enabled on the way.
func (t Tree) Make(path string) error {
	for _, home := range t.homes() {
		if err := os.MkdirAll(filepath.Join(home, path), 0o755); err != nil {
			return err
		}
	}
	if !t.V2() {
		return nil
	}
	at := t.unified
	for part := range strings.SplitSeq(strings.Trim(filepath.Clean(path), "/"), "/") {
		// A controller that is missing here fails alone; limits that need it fail where they are set.
		for _, c := range []string{"cpu", "memory", "pids", "io", "cpuset"} {
			_ = write(filepath.Join(at, "cgroup.subtree_control"), "+"+c)
		}
		at = filepath.Join(at, part)
	}
	return nil
}

// Enter moves a process into the cgroup, which exists.
func (t Tree) Enter(path string, pid int) error {
	for _, home := range t.homes() {
		if err := write(filepath.Join(home, path, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("move process %d into cgroup: %w", pid, err)
		}
	}
	return nil
}

// Processes returns the processes in the cgroup and below it.
func (t Tree) Processes(path string) []int {
	var pids []int
	for _, home := range t.all {
		for _, dir := range tree(filepath.Join(home, path)) {
			b, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			for f := range strings.FieldsSeq(string(b)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 0 && !slices.Contains(pids, pid) {
					pids = append(pids, pid)
				}
			}
		}
	}
	return pids
}

// Remove removes the cgroup and everything below it, in every hierarchy. A cgroup that holds processes is an error;
// one that is not there is not.
func (t Tree) Remove(path string) error {
	if strings.Trim(filepath.Clean(path), "/.") == "" {
		return fmt.Errorf("will not remove cgroup %q", path)
	}
	var errs []error
	for _, home := range t.all {
		dirs := tree(filepath.Join(home, path))
		for _, dir := range slices.Backward(dirs) {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, &fs.PathError{Op: "rmdir", Path: dir, Err: err})
			}
		}
	}
	return errors.Join(errs...)
}

// Exists reports whether any hierarchy has the cgroup.
func (t Tree) Exists(path string) bool {
	for _, home := range t.all {
		if _, err := os.Stat(filepath.Join(home, path)); err == nil {
			return true
		}
	}
	return false
}

// Holds reports whether the process is in a cgroup whose path contains part.
func Holds(pid int, part string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && strings.Contains(string(b), part)
}

// tree returns dir and every directory below it, parents first. A directory that is not there has none.
func tree(dir string) []string {
	var dirs []string
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	return dirs
}

func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
