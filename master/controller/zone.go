package controller

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A zone is in trouble when more than half of it is gone: then it may be the way there that is, and all may be back in a moment. The pods of
// its Nodes are moved one Node after the other, so that the rest of the cluster has to take only those that are really gone, and not
// all in one moment. The share is kube-controller-manager's --unhealthy-zone-threshold; its rate, a Node in ten seconds, is for
// controllers that cannot tell what gossip can.
const (
	zoneTroubled = 55 // percent of a zone's Nodes
	zoneSmall    = 10 // so many may be moved in one moment anyhow
	zonePace     = 50 * time.Millisecond
)

// zones remembers whose turn it is until gossip changes. Safe for concurrent use.
type zones struct {
	mu    sync.Mutex
	turns map[string]time.Duration // nil until it is known
}

func (z *zones) set(turns map[string]time.Duration) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.turns = turns
}

// turn is how long a Node has to wait for others of its zone.
func (z *zones) turn(node string, look func() map[string]time.Duration) time.Duration {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.turns == nil {
		z.turns = look()
	}
	return z.turns[node]
}

// turns are how long Nodes have to wait. They follow from what is gone, so that every Master says the same.
func turns(nodes []*corev1.Node, gone func(*corev1.Node) bool) map[string]time.Duration {
	all, lost := map[string]int{}, map[string][]string{}
	for _, n := range nodes {
		all[zoneOf(n)]++
		if gone(n) {
			lost[zoneOf(n)] = append(lost[zoneOf(n)], n.Name)
		}
	}
	out := map[string]time.Duration{}
	for zone, names := range lost {
		if len(names) <= zoneSmall || 100*len(names) < zoneTroubled*all[zone] {
			continue
		}
		slices.Sort(names)
		for i, name := range names {
			out[name] = time.Duration(i) * zonePace
		}
	}
	return out
}
