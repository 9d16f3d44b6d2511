package pressure

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// usual are the defaults of the configuration.
var usual = Thresholds{Memory: {Amount: 100 << 20}, Disk: {Share: 0.10}, Inodes: {Share: 0.05}, PIDs: {Share: 0.05}}

func TestLow(t *testing.T) {
	const gib = 1 << 30
	for _, row := range []struct {
		name   string
		levels map[Resource]Level
		want   []Resource
	}{
		{"plenty", map[Resource]Level{Memory: {gib, 4 * gib}, Disk: {20 * gib, 100 * gib}, Inodes: {50, 100}, PIDs: {90, 100}}, nil},
		{"memory", map[Resource]Level{Memory: {100<<20 - 1, 4 * gib}, Disk: {10 * gib, 100 * gib}}, []Resource{Memory}},
		{"everything", map[Resource]Level{PIDs: {4, 100}, Inodes: {4, 100}, Disk: {9 * gib, 100 * gib}, Memory: {0, gib}}, []Resource{Memory, Disk, Inodes, PIDs}},
		{"a filesystem that counts no inodes", map[Resource]Level{Inodes: {0, 0}}, nil},
		{"nothing known", nil, nil},
	} {
		if got := Low(row.levels, usual); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
	if got := Low(map[Resource]Level{Disk: {0, 100}}, Thresholds{Disk: {}}); got != nil {
		t.Errorf("a threshold of nothing is reached: %v", got)
	}
}

// The order is that of "Pod selection for kubelet eviction" in Kubernetes' documentation.
func TestVictim(t *testing.T) {
	pod := func(uid string, priority int32, used, requested int64) Pod {
		return Pod{UID: types.UID(uid), Priority: priority, Used: map[Resource]int64{Memory: used}, Requested: map[Resource]int64{Memory: requested}}
	}
	critical := pod("critical", 2e9, 1000, 0)
	critical.Critical = true
	pods := []Pod{
		critical,
		pod("guaranteed, little", 0, 50, 100),
		pod("guaranteed, of low priority", -10, 100, 100),
		pod("burstable, within", 0, 90, 100),
		pod("beyond, of high priority", 100, 900, 100),
		pod("beyond, by little", 0, 110, 100),
		pod("beyond, by much", 0, 500, 100),
		pod("asked for nothing", 0, 300, 0),
		pod("uses nothing", -100, 0, 0),
	}
	var got []string
	for {
		v := Victim(Memory, pods)
		if v == nil {
			break
		}
		got = append(got, string(v.UID))
		pods = slices.DeleteFunc(pods, func(p Pod) bool { return p.UID == v.UID })
	}
	want := []string{
		"beyond, by much", "asked for nothing", "beyond, by little", "beyond, of high priority",
		"guaranteed, of low priority", "burstable, within", "guaranteed, little",
	}
	if !slices.Equal(got, want) {
		t.Errorf("they go in the order\n%q, want\n%q", got, want)
	}
}

func TestInodesAndProcessesGoByPriorityAndNumber(t *testing.T) {
	pods := []Pod{
		{UID: "many", Priority: 5, Used: map[Resource]int64{PIDs: 900}},
		{UID: "some", Used: map[Resource]int64{PIDs: 50}},
		{UID: "few", Used: map[Resource]int64{PIDs: 5}},
	}
	if v := Victim(PIDs, pods); v.UID != "some" {
		t.Errorf("%s goes first", v.UID)
	}
}
