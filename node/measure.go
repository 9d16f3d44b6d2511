package node

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/node/pressure"
	"shoal/node/runtime"
	"shoal/node/server"
)

// levels is how much the machine has left of everything; dir is on the disk that pods use.
func levels(dir string) map[pressure.Resource]pressure.Level {
	out := map[pressure.Resource]pressure.Level{}
	if total, available := server.MachineMemory(); total > 0 {
		out[pressure.Memory] = pressure.Level{Available: available, Capacity: total}
	}
	var disk unix.Statfs_t
	if unix.Statfs(dir, &disk) == nil {
		// As df does, without what is kept for root: of a disk that pods cannot have nothing is missing.
		blocks := disk.Blocks - disk.Bfree + disk.Bavail
		out[pressure.Disk] = pressure.Level{Available: int64(disk.Bavail) * disk.Bsize, Capacity: int64(blocks) * disk.Bsize}
		out[pressure.Inodes] = pressure.Level{Available: int64(disk.Ffree), Capacity: int64(disk.Files)}
	}
	if most, used := mostProcesses(), processes(); most > 0 && used > 0 {
		out[pressure.PIDs] = pressure.Level{Available: max(0, most-used), Capacity: most}
	}
	return out
}

// mostProcesses is how many threads the kernel lets there be.
func mostProcesses() int64 {
	most := int64(0)
	for _, file := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		if n, err := strconv.ParseInt(firstLine(file), 10, 64); err == nil && (most == 0 || n < most) {
			most = n
		}
	}
	return most
}

// processes is how many threads there are: the second half of /proc/loadavg's fourth field.
func processes() int64 {
	f := strings.Fields(firstLine("/proc/loadavg"))
	if len(f) < 4 {
		return 0
	}
	_, all, _ := strings.Cut(f[3], "/")
	n, err := strconv.ParseInt(all, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// takes is what a pod takes of its machine's disk.
type takes struct {
	volumes    map[string]runtime.Disk // emptyDirs
	containers map[string]runtime.Disk // what they have written, and their logs
	sum        runtime.Disk
}

// measure walks through everything that a pod has written.
func (n *Node) measure(ctx context.Context, p *corev1.Pod) (takes, error) {
	t := takes{volumes: map[string]runtime.Disk{}}
	var err error
	if t.containers, err = n.cfg.Runtime.Layers(ctx, p.UID); err != nil {
		return t, err
	}
	w := &worker{n: n, uid: p.UID}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers, api.EphemeralContainers(p)} {
		for i := range list {
			t.containers[list[i].Name] = plus(t.containers[list[i].Name], diskUsage(w.logDir(list[i].Name)))
		}
	}
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.EmptyDir != nil {
			t.volumes[v.Name] = diskUsage(n.volumes.Dir(p.UID, v.Name))
			if v.EmptyDir.Medium == corev1.StorageMediumDefault {
				t.sum = plus(t.sum, t.volumes[v.Name])
			}
		}
	}
	for _, d := range t.containers {
		t.sum = plus(t.sum, d)
	}
	return t, nil
}

func plus(a, b runtime.Disk) runtime.Disk {
	return runtime.Disk{Bytes: a.Bytes + b.Bytes, Inodes: a.Inodes + b.Inodes}
}

// diskUsage is what lies below dir on its filesystem. What goes while it looks is not counted.
func diskUsage(dir string) runtime.Disk {
	var sum runtime.Disk
	var device uint64
	linked := map[uint64]bool{}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := os.Lstat(path)
		if err != nil {
			return nil
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		switch {
		case path == dir:
			device = s.Dev
		case s.Dev != device && d.IsDir():
			return fs.SkipDir
		case s.Nlink > 1 && !d.IsDir():
			if linked[s.Ino] {
				return nil
			}
			linked[s.Ino] = true
		}
		sum.Bytes += s.Blocks * 512
		sum.Inodes++
		return nil
	})
	return sum
}

// weigh is what counts of each pod of this machine when there is too little of r.
func (n *Node) weigh(ctx context.Context, r pressure.Resource) (out []pressure.Pod) {
	for _, p := range n.pods.List() {
		if api.IsPodTerminal(p) || p.DeletionTimestamp != nil {
			continue
		}
		one := pressure.Pod{UID: p.UID, Critical: isCritical(p), Used: map[pressure.Resource]int64{}, Requested: map[pressure.Resource]int64{}}
		if p.Spec.Priority != nil {
			one.Priority = *p.Spec.Priority
		}
		requests := api.PodRequests(p)
		switch r {
		case pressure.Memory, pressure.PIDs:
			s, err := n.cfg.Runtime.Stats(ctx, p.UID)
			if err != nil {
				continue
			}
			one.Used[pressure.Memory], one.Used[pressure.PIDs] = int64(s.Memory), int64(s.PIDs)
			one.Requested[pressure.Memory] = requests.Memory().Value()
		case pressure.Disk, pressure.Inodes:
			t, err := n.measure(ctx, p)
			if err != nil {
				continue
			}
			one.Used[pressure.Disk], one.Used[pressure.Inodes] = t.sum.Bytes, t.sum.Inodes
			one.Requested[pressure.Disk] = requests.StorageEphemeral().Value()
		}
		out = append(out, one)
	}
	return out
}

// lowestCritical is the priority from which on a pod is never ended for want of something: that of system-cluster-critical.
const lowestCritical = 2_000_000_000

func isCritical(p *corev1.Pod) bool {
	return p.Spec.Priority != nil && *p.Spec.Priority >= lowestCritical
}
