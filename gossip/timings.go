package gossip

import (
	"cmp"
	"time"
)

// Timings are how fast the protocol is. Zero fields have the default in the comment.
type Timings struct {
	ProbeInterval  time.Duration // 200ms: one random member is probed each time
	ProbeTimeout   time.Duration // 100ms: then others are asked to probe it
	Suspicion      int           // 3: probe intervals that a suspect has to refute, times log10 of the cluster
	GossipInterval time.Duration // 100ms: how often news are passed on
	PushPull       time.Duration // 15s: how often two peers compare all they know; repairs lost news
	HostTimeout    time.Duration // 300ms: for a machine to accept or refuse a connection; no answer is a vote for Gone
	RecheckFirst   time.Duration // 1s: from one try of a silent machine to the next; doubles …
	RecheckLast    time.Duration // 10s: … up to this
	Boot           time.Duration // 5s: before members of before are tried: all may be starting together
	JoinFirst      time.Duration // 200ms: from one try to join to the next; doubles …
	JoinLast       time.Duration // 5s: … up to this
	Stream         time.Duration // 2s: for one exchange over TCP
	Rival          time.Duration // 10s: how long another machine must be seen with our name before we give up; our own
	// earlier life at another address takes a few probes to be noticed
}

func (t Timings) withDefaults() Timings {
	t.ProbeInterval = cmp.Or(t.ProbeInterval, 200*time.Millisecond)
	t.ProbeTimeout = cmp.Or(t.ProbeTimeout, 100*time.Millisecond)
	t.Suspicion = cmp.Or(t.Suspicion, 3)
	t.GossipInterval = cmp.Or(t.GossipInterval, 100*time.Millisecond)
	t.PushPull = cmp.Or(t.PushPull, 15*time.Second)
	t.HostTimeout = cmp.Or(t.HostTimeout, 300*time.Millisecond)
	t.RecheckFirst = cmp.Or(t.RecheckFirst, time.Second)
	t.RecheckLast = cmp.Or(t.RecheckLast, 10*time.Second)
	t.Boot = cmp.Or(t.Boot, 5*time.Second)
	t.JoinFirst = cmp.Or(t.JoinFirst, 200*time.Millisecond)
	t.JoinLast = cmp.Or(t.JoinLast, 5*time.Second)
	t.Stream = cmp.Or(t.Stream, 2*time.Second)
	t.Rival = cmp.Or(t.Rival, 10*time.Second)
	return t
}
