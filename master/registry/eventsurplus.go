package registry

import (
	"cmp"
	"slices"

	"shoal/consensus/store"
	"shoal/internal/api"
)

// surplusEvents deletes the Events over EventsMax, and some more, so that it need not look each time: of the namespaces that have the most, those that
// changed longest ago. Who floods one namespace pushes out what is in it, and nothing of the others'. Nowhere are they older than an hour: the Master deletes them then.
func (r *Registry) surplusEvents(written []store.Op) []store.Op {
	f := r.serving.Load().feeds[api.Events]
	if f == nil {
		return nil
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.tree.Len() <= r.cfg.EventsMax {
		return nil
	}
	n := f.tree.Len() - r.cfg.EventsMax + r.cfg.EventsMax/20
	return oldest(f, min(n, 2*eventsAtOnce), written)
}

// oldest returns what deletes n entries of a feed, those of the largest namespaces that changed longest ago, but none that is written just now. It looks at all
// there are, 10,000 in a few milliseconds, once for every five hundred that are written.
func oldest(f *feed, n int, written []store.Op) []store.Op {
	var parts [][]*Entry // by namespace
	f.tree.Ascend(func(e *Entry) bool {
		last := len(parts) - 1
		if last < 0 || parts[last][0].Key.Namespace != e.Key.Namespace {
			parts = append(parts, nil)
			last++
		}
		parts[last] = append(parts[last], e)
		return true
	})
	kept := map[store.Key]bool{}
	for _, op := range written {
		kept[op.Key] = true
	}
	slices.SortStableFunc(parts, func(a, b []*Entry) int { return cmp.Compare(len(b), len(a)) })
	sizes := make([]int, len(parts))
	for i := range parts {
		sizes[i] = len(parts[i])
	}
	var ops []store.Op
	for i, n := range levelled(sizes, n) {
		slices.SortFunc(parts[i], func(a, b *Entry) int { return cmp.Compare(a.Rev, b.Rev) })
		for _, e := range parts[i] {
			if n == 0 {
				break
			}
			if key := keyOf(f.kind, e.Key); !kept[key] {
				ops = append(ops, store.Op{Key: key, Delete: true})
				n--
			}
		}
	}
	return ops
}

// levelled returns how many to take off each of some heaps, the largest first, so that n are taken and the largest that is left is as small as can be. Heaps that
// nothing is taken off are left out.
func levelled(sizes []int, n int) []int {
	for i := range sizes {
		next := 0
		if i+1 < len(sizes) {
			next = sizes[i+1]
		}
		// The first i+1 heaps have the size of the last of them by now, and would go down to the next one's.
		if down := (sizes[i] - next) * (i + 1); down < n {
			n -= down
			continue
		}
		level := sizes[i] - n/(i+1)
		out := make([]int, i+1)
		for j := range out {
			out[j] = sizes[j] - level
			if j < n%(i+1) {
				out[j]++
			}
		}
		return out
	}
	return slices.Clone(sizes) // n is more than there are
}
