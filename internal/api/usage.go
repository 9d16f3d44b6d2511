package api

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Usage is what a machine uses, and each of its pods, as its peer has just measured it.
type Usage struct {
	At      time.Time
	Window  time.Duration // over which the use of CPU was measured
	Machine Used
	Pods    map[types.UID]map[string]Used // of each container
}

// Used is what somebody uses.
type Used struct {
	NanoCores  uint64 // billionths of a core
	WorkingSet uint64 // bytes
}
