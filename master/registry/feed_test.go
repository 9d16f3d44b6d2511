package registry

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
)

// TestAFeedKeepsNoMoreHistoryThanItsWindow gives a feed a thousand changes of one object, of every size.
func TestAFeedKeepsNoMoreHistoryThanItsWindow(t *testing.T) {
	for _, c := range []struct {
		what      string
		size      int
		max, keep int // changes kept: at most, and at least
	}{
		{"small objects", 10, 150, 100},
		{"large objects", 1000, 15, 10},
		{"objects larger than the window", 20_000, 1, 1},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := newFeed(api.ConfigMaps, window{changes: 100, bytes: 10_000})
			key := client.Key{Namespace: "ns", Name: "cm"}
			for rev := store.Rev(1); rev <= 1000; rev++ {
				e := newEntry(api.ConfigMaps, key, &corev1.ConfigMap{}, rev)
				e.size = c.size
				f.advance([]step{{rev: rev, key: key, now: e}})
				h := f.history
				if n := len(h.changes); n > c.max || rev > 200 && n < c.keep || h.bytes != n*c.size {
					t.Fatalf("after %d changes it keeps %d, %d bytes", rev, n, h.bytes)
				}
				if _, all := h.since(h.changes[0].rev - 1); !all {
					t.Fatal("what it keeps is not to be had")
				}
				if _, all := h.since(h.after - 1); all && h.after > 0 {
					t.Fatal("what it forgot passes for complete")
				}
			}
		})
	}
}
