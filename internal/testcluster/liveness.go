package testcluster

import (
	"sync"
	"time"

	"shoal/consensus"
	"shoal/internal/api"
)

// view is what one peer's gossip believes of the others, as the cluster or a test sets it.
type view struct {
	self  string
	wrong time.Duration // how far the peer's clock is ahead

	mu      sync.Mutex
	states  map[string]opinion
	changed chan struct{}
}

type opinion struct {
	state api.Liveness
	since time.Time
}

func newView(self string, wrong time.Duration) *view {
	return &view{self: self, wrong: wrong, states: map[string]opinion{}, changed: make(chan struct{})}
}

// set changes the opinions that differ.
func (v *view) set(states map[string]api.Liveness) {
	v.mu.Lock()
	defer v.mu.Unlock()
	news := false
	for name, s := range states {
		if v.states[name].state != s {
			v.states[name] = opinion{s, v.now()}
			news = true
		}
	}
	if news {
		close(v.changed)
		v.changed = make(chan struct{})
	}
}

// now is the time by the peer's clock.
func (v *view) now() time.Time { return time.Now().Add(v.wrong) }

// Liveness implements the roles' interfaces of that name.
func (v *view) Liveness(node string) api.Liveness {
	if node == v.self {
		return api.Alive
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if o, ok := v.states[node]; ok {
		return o.state
	}
	return api.Unknown
}

// Since tells how old an opinion is.
func (v *view) Since(node string) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.states[node].since
}

// Changed returns a channel that the next change of any opinion closes.
func (v *view) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// health is the same for the choice of voters.
func (v *view) health() map[consensus.PeerID]consensus.Health {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[consensus.PeerID]consensus.Health{consensus.PeerID(v.self): {Alive: true}}
	for name, o := range v.states {
		if name != v.self {
			all[consensus.PeerID(name)] = consensus.Health{Alive: o.state == api.Alive || o.state == api.Suspect || o.state == api.Unknown}
		}
	}
	return all
}
