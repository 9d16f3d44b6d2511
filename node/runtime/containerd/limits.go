package containerd

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/pkg/cap"
)

// limits is what this machine lets a container have. It is read once, at the start.
type limits struct {
	capabilities []string // those that we hold: nobody can give more
	ownScore     int      // our oom_score_adj; without CAP_SYS_RESOURCE no lower one can be given
	resource     bool     // CAP_SYS_RESOURCE
	swap         bool     // swap can be limited
}

func hostLimits() (limits, error) {
	var l limits
	var err error
	if l.capabilities, err = cap.Current(); err != nil {
		return l, fmt.Errorf("read capabilities: %w", err)
	}
	l.resource = slices.Contains(l.capabilities, "CAP_SYS_RESOURCE")
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return l, err
	}
	l.ownScore, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	for _, f := range []string{"/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "/sys/fs/cgroup/cgroup.controllers"} {
		if _, err := os.Stat(f); err == nil {
			l.swap = true
		}
	}
	return l, nil
}

// oomScoreAdj returns the closest score that can be set. Zero asks for nothing but may still have to be raised.
func (l limits) oomScoreAdj(want int) *int {
	if !l.resource {
		want = max(want, l.ownScore)
	}
	return &want
}
