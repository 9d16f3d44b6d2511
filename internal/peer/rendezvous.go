package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// rendezvous lets machines that were started with identical files, and no first one among them, agree on who founds
// the cluster (DESIGN.md, "entering"): when all expected machines have no data and know of the same set, the lowest name founds and the
// others join it.
type rendezvous struct {
	self   hello // Name, Address and Expect
	secret string
	join   []string // host:port of the others, this machine possibly among them
	log    *slog.Logger

	mu      sync.Mutex
	known   map[string]string // by name, this machine included
	cluster string            // address of a machine that is in a cluster
	caHash  string
	failed  error
	changed chan struct{} // cap 1
	member  chan struct{} // closed when this machine has become a member
}

// verdict is what a rendezvous came to: found a cluster, or join the one behind address.
type verdict struct {
	found   bool
	address string
	caHash  string
}

func newRendezvous(self hello, secret string, join []string, log *slog.Logger) *rendezvous {
	return &rendezvous{
		self: self, secret: secret, join: join, log: log, known: map[string]string{self.Name: self.Address},
		changed: make(chan struct{}, 1), member: make(chan struct{}),
	}
}

// meet greets every address until the verdict is clear.
func (r *rendezvous) meet(ctx context.Context) (verdict, error) {
	ctx, cancel := context.WithCancel(ctx)
	var greeters sync.WaitGroup
	defer greeters.Wait()
	defer cancel()
	for _, addr := range r.join {
		if addr != r.self.Address {
			greeters.Go(func() { r.keepGreeting(ctx, addr) })
		}
	}
	for {
		v, clear, err := r.decide(ctx)
		if clear || err != nil {
			return v, err
		}
		select {
		case <-r.changed:
		case <-time.After(time.Second): // a lost answer must not end the meeting
		case <-ctx.Done():
			return verdict{}, ctx.Err()
		}
	}
}

// decide looks at what is known. It asks the others to confirm before this machine founds a cluster.
func (r *rendezvous) decide(ctx context.Context) (verdict, bool, error) {
	r.mu.Lock()
	known, cluster, caHash, failed := maps.Clone(r.known), r.cluster, r.caHash, r.failed
	r.mu.Unlock()
	switch {
	case failed != nil:
		return verdict{}, false, failed
	case cluster != "":
		return verdict{address: cluster, caHash: caHash}, true, nil
	case len(known) < r.self.Expect:
		return verdict{}, false, nil
	case len(known) > r.self.Expect:
		names := slices.Sorted(maps.Keys(known))
		return verdict{}, false, fmt.Errorf("bootstrap_expect is %d but %d machines without data are here: %v", r.self.Expect, len(known), names)
	}
	lowest := slices.Min(slices.Collect(maps.Keys(known)))
	if lowest != r.self.Name {
		theirs, err := greet(ctx, r.secret, known[lowest], r.mine(true))
		if err == nil && theirs.Member {
			return verdict{address: known[lowest], caHash: theirs.CAHash}, true, nil
		}
		return verdict{}, false, nil
	}
	for name, addr := range known {
		if name == r.self.Name {
			continue
		}
		theirs, err := greet(ctx, r.secret, addr, r.mine(false))
		if err != nil || theirs.Member || !maps.Equal(theirs.Known, known) {
			r.log.Debug("not confirmed yet", "peer", name, "err", err)
			return verdict{}, false, nil
		}
	}
	return verdict{found: true}, true, nil
}

// keepGreeting greets one address until it answers.
func (r *rendezvous) keepGreeting(ctx context.Context, addr string) {
	wait := 100 * time.Millisecond
	for say := (reporter{log: r.log}); ; {
		theirs, err := greet(ctx, r.secret, addr, r.mine(false))
		if err == nil {
			r.learn(theirs)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errWrongSecret) || wait > time.Second {
			say.warn("cannot meet a machine yet, trying on", "at", addr, "err", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// answer is this machine's side of a hello.
func (r *rendezvous) answer(ctx context.Context, theirs hello) hello {
	r.learn(theirs)
	if theirs.Wait {
		select {
		case <-r.member:
		case <-time.After(helloWait):
		case <-ctx.Done():
		}
	}
	return r.mine(false)
}

// becomeMember tells those who wait that this machine is in a cluster now.
func (r *rendezvous) becomeMember(caHash string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.self.Member, r.self.CAHash = true, caHash
	close(r.member)
}

func (r *rendezvous) mine(wait bool) hello {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.self
	h.Wait = wait
	h.Known = maps.Clone(r.known)
	return h
}

// learn takes in what another machine knows.
func (r *rendezvous) learn(theirs hello) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.known)
	switch {
	case theirs.Member:
		r.cluster, r.caHash = theirs.Address, theirs.CAHash
	case theirs.Expect != r.self.Expect:
		r.failed = fmt.Errorf("%s at %s expects %d machines, this one %d: bootstrap_expect must be the same everywhere",
			theirs.Name, theirs.Address, theirs.Expect, r.self.Expect)
	default:
		r.addLocked(theirs.Name, theirs.Address)
		for name, addr := range theirs.Known {
			r.addLocked(name, addr)
		}
	}
	if theirs.Member || r.failed != nil || len(r.known) != before || len(r.known) == r.self.Expect {
		select {
		case r.changed <- struct{}{}:
		default:
		}
	}
}

// addLocked records one machine. Caller holds mu.
func (r *rendezvous) addLocked(name, addr string) {
	if old, ok := r.known[name]; ok && old != addr {
		r.failed = fmt.Errorf("two machines are called %q, at %s and %s: give each a name of its own (--name)", name, old, addr)
		return
	}
	r.known[name] = addr
}
