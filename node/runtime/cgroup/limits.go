package cgroup

import (
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// Limits bounds a cgroup. Zero values set nothing.
type Limits struct {
	CPUShares uint64
	CPUQuota  int64 // µs in each CPUPeriod
	CPUPeriod uint64
	Memory    int64 // bytes
	Pids      int64
}

// Limit sets the limits of a cgroup that exists.
func (t Tree) Limit(path string, l Limits) error {
	for _, s := range t.settings(l) {
		if err := write(filepath.Join(s.mount, path, s.file), s.value); err != nil {
			return fmt.Errorf("set %s: %w", s.file, err)
		}
	}
	return nil
}

// Lift takes away the limits of CPU time and memory of a cgroup that exists.
func (t Tree) Lift(path string) error {
	for _, l := range []struct{ controller, v1, v2 string }{{"cpu", "cpu.cfs_quota_us", "cpu.max"}, {"memory", "memory.limit_in_bytes", "memory.max"}} {
		file, value := "", "-1"
		if t.V2() {
			file, value = filepath.Join(t.unified, path, l.v2), "max"
		} else if m := t.v1[l.controller]; m != "" {
			file = filepath.Join(m, path, l.v1)
		}
		if file == "" {
			continue
		}
		if err := write(file, value); err != nil {
			return fmt.Errorf("lift %s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

type setting struct{ mount, file, value string }

func (t Tree) settings(l Limits) []setting {
	var out []setting
	add := func(controller, v1, v2, value1, value2 string) {
		if t.V2() {
			out = append(out, setting{t.unified, v2, value2})
		} else if m := t.v1[controller]; m != "" {
			out = append(out, setting{m, v1, value1})
		}
	}
	if l.CPUShares > 0 {
		add("cpu", "cpu.shares", "cpu.weight", strconv.FormatUint(l.CPUShares, 10), strconv.FormatUint(Weight(l.CPUShares), 10))
	}
	if l.CPUQuota > 0 {
		period := l.CPUPeriod
		if period == 0 {
			period = 100_000
		}
		p := strconv.FormatUint(period, 10)
		if !t.V2() {
			add("cpu", "cpu.cfs_period_us", "", p, "")
		}
		q := strconv.FormatInt(l.CPUQuota, 10)
		add("cpu", "cpu.cfs_quota_us", "cpu.max", q, q+" "+p)
	}
	if l.Memory > 0 {
		v := strconv.FormatInt(l.Memory, 10)
		add("memory", "memory.limit_in_bytes", "memory.max", v, v)
	}
	if l.Pids > 0 {
		v := strconv.FormatInt(l.Pids, 10)
		add("pids", "pids.max", "pids.max", v, v)
	}
	return out
}

// Weight turns version 1 shares (2 to 262144) into a version 2 weight (1 to 10000).
func Weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + ((shares-2)*9999)/262142
}

// Usage is what a cgroup used.
type Usage struct {
	CPU    time.Duration // since it was made
	Memory uint64        // working set: without file pages that can be dropped at once
	Whole  uint64        // memory with those pages
	PIDs   int           // threads
}

// Usage measures a cgroup. One that is not there used nothing.
func (t Tree) Usage(path string) Usage {
	var u Usage
	if dir := t.Files("pids", path); dir != "" {
		u.PIDs = int(number(filepath.Join(dir, "pids.current")))
	}
	if t.V2() {
		dir := filepath.Join(t.unified, path)
		u.CPU = time.Duration(field(filepath.Join(dir, "cpu.stat"), "usage_usec")) * time.Microsecond
		u.Whole = number(filepath.Join(dir, "memory.current"))
		u.Memory = less(u.Whole, field(filepath.Join(dir, "memory.stat"), "inactive_file"))
		return u
	}
	if m := t.v1["cpuacct"]; m != "" {
		u.CPU = time.Duration(number(filepath.Join(m, path, "cpuacct.usage")))
	}
	if m := t.v1["memory"]; m != "" {
		dir := filepath.Join(m, path)
		u.Whole = number(filepath.Join(dir, "memory.usage_in_bytes"))
		u.Memory = less(u.Whole, field(filepath.Join(dir, "memory.stat"), "total_inactive_file"))
	}
	return u
}

// OOMKills returns how many processes of the cgroup the kernel killed because its memory ran out.
func (t Tree) OOMKills(path string) uint64 {
	if t.V2() {
		return field(filepath.Join(t.unified, path, "memory.events"), "oom_kill")
	}
	return field(filepath.Join(t.v1["memory"], path, "memory.oom_control"), "oom_kill")
}

func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}
