package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/node/runtime"
)

// Summary is the part of kubelets' /stats/summary that says what is used: the answer of /stats/summary.
type Summary struct {
	Node NodeStats  `json:"node"`
	Pods []PodStats `json:"pods"`
}

// NodeStats is a machine's use.
type NodeStats struct {
	NodeName string       `json:"nodeName"`
	CPU      *CPUStats    `json:"cpu,omitempty"`
	Memory   *MemoryStats `json:"memory,omitempty"`
	Fs       *FsStats     `json:"fs,omitempty"`
}

// PodStats is one pod's use.
type PodStats struct {
	PodRef     PodRef           `json:"podRef"`
	Containers []ContainerStats `json:"containers"`
	CPU        *CPUStats        `json:"cpu,omitempty"`
	Memory     *MemoryStats     `json:"memory,omitempty"`
	Network    *NetworkStats    `json:"network,omitempty"`
}

// PodRef names a pod.
type PodRef struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
}

// ContainerStats is one container's use.
type ContainerStats struct {
	Name   string       `json:"name"`
	CPU    *CPUStats    `json:"cpu,omitempty"`
	Memory *MemoryStats `json:"memory,omitempty"`
}

// CPUStats is a use of CPU: how much now, and how much since the start.
type CPUStats struct {
	Time                 metav1.Time `json:"time"`
	UsageNanoCores       *uint64     `json:"usageNanoCores,omitempty"`
	UsageCoreNanoSeconds *uint64     `json:"usageCoreNanoSeconds,omitempty"`
}

// MemoryStats is a use of memory.
type MemoryStats struct {
	Time            metav1.Time `json:"time"`
	AvailableBytes  *uint64     `json:"availableBytes,omitempty"`
	UsageBytes      *uint64     `json:"usageBytes,omitempty"`
	WorkingSetBytes *uint64     `json:"workingSetBytes,omitempty"`
}

// FsStats is a use of a filesystem.
type FsStats struct {
	Time           metav1.Time `json:"time"`
	AvailableBytes uint64      `json:"availableBytes"`
	CapacityBytes  uint64      `json:"capacityBytes"`
	UsedBytes      uint64      `json:"usedBytes"`
	InodesFree     uint64      `json:"inodesFree"`
	Inodes         uint64      `json:"inodes"`
	InodesUsed     uint64      `json:"inodesUsed"`
}

// NetworkStats is what went through a pod's link.
type NetworkStats struct {
	Time     metav1.Time `json:"time"`
	Name     string      `json:"name"`
	RxBytes  uint64      `json:"rxBytes"`
	RxErrors uint64      `json:"rxErrors"`
	TxBytes  uint64      `json:"txBytes"`
	TxErrors uint64      `json:"txErrors"`
}

// Apart is how long the two looks are apart from which the present use of CPU is worked out.
const Apart = 500 * time.Millisecond

func (s *server) stats(w http.ResponseWriter, r *http.Request) {
	if err := s.authorise(r, "", "", "stats"); err != nil {
		answer(w, err)
		return
	}
	pods := s.cfg.Pods.List()
	begun, before := s.sample(r.Context(), pods)
	t := time.NewTimer(Apart)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
		return
	}
	ended, after := s.sample(r.Context(), pods)
	out := Summary{Node: NodeStats{NodeName: s.cfg.Node}, Pods: []PodStats{}}
	now := metav1.NewTime(s.cfg.Now())
	out.Node.CPU = cpu(now, ended.cpu, ended.cpu-begun.cpu, ended.at.Sub(begun.at))
	out.Node.Memory = memory(now, ended.memory, 0)
	out.Node.Memory.AvailableBytes, out.Node.Fs = &ended.available, filesystem(now, s.cfg.Dir)
	for _, p := range pods {
		a, ok := after[string(p.UID)]
		b, had := before[string(p.UID)]
		if !ok || !had {
			continue
		}
		span := a.Time.Sub(b.Time)
		ps := PodStats{
			PodRef: PodRef{p.Name, p.Namespace, string(p.UID)}, Containers: []ContainerStats{},
			CPU: cpu(now, a.CPU, a.CPU-b.CPU, span), Memory: memory(now, a.Memory, a.Usage),
		}
		if n := a.Network; n != nil {
			ps.Network = &NetworkStats{now, "eth0", n.RxBytes, n.RxErrors, n.TxBytes, n.TxErrors}
		}
		for i := range p.Spec.Containers {
			name := p.Spec.Containers[i].Name
			if c, ok := a.Containers[name]; ok {
				ps.Containers = append(ps.Containers, ContainerStats{name, cpu(now, c.CPU, c.CPU-b.Containers[name].CPU, span), memory(now, c.Memory, c.Usage)})
			}
		}
		out.Pods = append(out.Pods, ps)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

func cpu(now metav1.Time, total, used, span time.Duration) *CPUStats {
	sum := uint64(max(0, total))
	c := &CPUStats{Time: now, UsageCoreNanoSeconds: &sum}
	if span > 0 && used >= 0 {
		rate := uint64(float64(used) / span.Seconds())
		c.UsageNanoCores = &rate
	}
	return c
}

func memory(now metav1.Time, bytes, whole uint64) *MemoryStats {
	m := &MemoryStats{Time: now, WorkingSetBytes: &bytes}
	if whole > 0 {
		m.UsageBytes = &whole
	}
	return m
}

// filesystem measures the disk that pods use; nil when it cannot.
func filesystem(now metav1.Time, dir string) *FsStats {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil {
		return nil
	}
	block := uint64(fs.Bsize)
	return &FsStats{
		Time: now, AvailableBytes: fs.Bavail * block, CapacityBytes: fs.Blocks * block, UsedBytes: (fs.Blocks - fs.Bfree) * block,
		InodesFree: fs.Ffree, Inodes: fs.Files, InodesUsed: fs.Files - fs.Ffree,
	}
}

type machineSample struct {
	at        time.Time
	cpu       time.Duration
	memory    uint64 // not to be had
	available uint64
}

func (s *server) sample(ctx context.Context, pods []*corev1.Pod) (machineSample, map[string]runtime.Stats) {
	m := machineSample{at: s.cfg.Now(), cpu: machineCPU()}
	total, available := MachineMemory()
	m.memory, m.available = uint64(total-available), uint64(available)
	out := map[string]runtime.Stats{}
	for _, p := range pods {
		st, err := s.cfg.Runtime.Stats(ctx, p.UID)
		if err != nil {
			if !errors.Is(err, runtime.ErrNotFound) {
				s.log.Debug("no statistics of pod", "pod", p.Name, "ns", p.Namespace, "err", err)
			}
			continue
		}
		out[string(p.UID)] = st
	}
	return m, out
}

// tick is the kernel's unit in /proc/stat.
const tick = 10 * time.Millisecond

// machineCPU is the CPU time the machine was busy.
func machineCPU() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var busy time.Duration
	for i, f := range strings.Fields(line) {
		n, err := strconv.ParseInt(f, 10, 64)
		// user nice system idle iowait irq softirq steal; guests are counted in user
		if err != nil || i == 4 || i == 5 || i > 8 {
			continue
		}
		busy += time.Duration(n) * tick
	}
	return busy
}

// MachineMemory is the machine's memory in bytes: all of it, and what can be had. Both are 0 when the kernel does not say.
func MachineMemory() (total, available int64) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		}
	}
	return total, min(total, available)
}
