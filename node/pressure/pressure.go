// Package pressure decides when a machine has too little of something, and which of its pods has to go for it. It is pure: node measures and acts. The
// order of its decisions is Kubernetes' ("Node-pressure Eviction").
package pressure

import (
	"cmp"
	"math"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Resource is what a machine may have too little of.
type Resource string

// The resources, as the message of an eviction names them.
const (
	Memory Resource = "memory"
	Disk   Resource = "ephemeral-storage"
	Inodes Resource = "inodes"
	PIDs   Resource = "pids"
)

// All are the resources in the order in which they are acted for: memory first, because it is gone the fastest.
func All() []Resource { return []Resource{Memory, Disk, Inodes, PIDs} }

// Level is how much there is of something: bytes, or how many. Nothing is known of one whose capacity is 0.
type Level struct{ Available, Capacity int64 }

// Threshold is below what a machine has too little: so many, or a share of what there is.
type Threshold struct {
	Amount int64
	Share  float64 // 0 to 1; counts when Amount is 0
}

// Thresholds has one for each resource that is watched.
type Thresholds map[Resource]Threshold

// Of returns the threshold for a capacity.
func (t Threshold) Of(capacity int64) int64 {
	if t.Amount > 0 {
		return t.Amount
	}
	return int64(t.Share * float64(capacity))
}

// Low returns what there is too little of, in the order of All.
func Low(levels map[Resource]Level, t Thresholds) []Resource {
	var out []Resource
	for _, r := range All() {
		if l, ok := levels[r]; ok && l.Capacity > 0 && l.Available < t[r].Of(l.Capacity) {
			out = append(out, r)
		}
	}
	return out
}

// Pod is what counts of a pod.
type Pod struct {
	UID       types.UID
	Priority  int32
	Critical  bool // never goes
	Used      map[Resource]int64
	Requested map[Resource]int64
}

// over reports whether a pod uses more than it asked for. Nobody asks for inodes or process numbers.
func (p *Pod) over(r Resource) bool {
	return (r == Memory || r == Disk) && p.Used[r] > p.Requested[r]
}

// Victim returns which pod goes first when there is too little of r; nil when none may. Pods that use more than they asked for go before those that do not,
// then those of lower priority, then those that use most beyond what they asked for.
func Victim(r Resource, pods []Pod) *Pod {
	may := slices.DeleteFunc(slices.Clone(pods), func(p Pod) bool { return p.Critical || p.Used[r] <= 0 })
	if len(may) == 0 {
		return nil
	}
	rank := func(p *Pod) int {
		if p.over(r) {
			return 0
		}
		return 1
	}
	first := slices.MinFunc(may, func(a, b Pod) int {
		return cmp.Or(
			cmp.Compare(rank(&a), rank(&b)),
			cmp.Compare(a.Priority, b.Priority),
			cmp.Compare(sub(b.Used[r], b.Requested[r]), sub(a.Used[r], a.Requested[r])),
			cmp.Compare(a.UID, b.UID),
		)
	})
	return &first
}

// sub is a difference that does not run over.
func sub(a, b int64) int64 {
	if b < 0 && a > math.MaxInt64+b {
		return math.MaxInt64
	}
	if b > 0 && a < math.MinInt64+b {
		return math.MinInt64
	}
	return a - b
}
