package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// ErrWrongKey: a peer that was to be joined has other gossip keys. Fetch the keyring and install it.
var ErrWrongKey = errors.New("the peer there cannot decrypt what this one sends: the gossip keys differ")

// errSameName marks the errors of NotifyMerge.
const errSameName = "has this peer's name"

// DuplicateNameError is why Run ends when another living machine has this peer's name.
type DuplicateNameError struct{ Name, Addr string }

func (e *DuplicateNameError) Error() string {
	return fmt.Sprintf("another machine, at %s, already is %q in this cluster; give this one a name of its own", e.Addr, e.Name)
}

// freshComparisons is how often a peer that has just met others compares all it knows with one of them. News of those who
// joined in the same moment reach few members at first, and about one in a hundred would wait for Timings.PushPull.
const freshComparisons = 2

// join keeps trying whenever this peer sees nobody and knows where others might be.
func (g *Gossip) join(ctx context.Context, ml *memberlist.Memberlist) error {
	wait := g.cfg.Timings.JoinFirst
	var rivalSince time.Time
	fresh := freshComparisons
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := g.Changed()
		if g.alone() {
			select {
			case <-timer.C:
			case <-changed: // somebody may have joined us
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			err := g.tryJoin(ctx, ml)
			g.setJoinError(err)
			if err := g.rivalry(err, &rivalSince); err != nil {
				return err
			}
			timer.Reset(wait)
			wait, fresh = min(2*wait, g.cfg.Timings.JoinLast), freshComparisons
			continue
		}
		g.setJoinError(nil)
		if wait = g.cfg.Timings.JoinFirst; fresh > 0 {
			select {
			case <-timer.C:
				g.compare(ml)
				fresh--
				timer.Reset(wait)
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// compare exchanges all that is known with a living member.
func (g *Gossip) compare(ml *memberlist.Memberlist) {
	living := g.living()
	if len(living) == 0 {
		return
	}
	if _, err := ml.Join([]string{living[0].Address()}); err != nil {
		g.log.Debug("compare", "err", err)
	}
}

// alone reports that no other member is up.
func (g *Gossip) alone() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.livingLocked(g.cfg.Name) == 0
}

// setJoinError wakes nobody when the same went wrong again.
func (g *Gossip) setJoinError(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	same := err == nil && g.joinErr == nil || err != nil && g.joinErr != nil && err.Error() == g.joinErr.Error()
	g.joinErr = err
	if same {
		return
	}
	if err != nil {
		g.log.Warn("join, will retry", "err", err)
	}
	g.notifyLocked()
}

// rivalry returns an error once tries to join have failed for long enough because another machine has our name. Our own
// earlier life at another address is soon found dead.
func (g *Gossip) rivalry(joined error, since *time.Time) error {
	var dup *DuplicateNameError
	switch now := time.Now(); {
	case !errors.As(joined, &dup):
		*since = time.Time{}
	case since.IsZero():
		*since = now
	case now.Sub(*since) >= g.cfg.Timings.Rival:
		return dup
	}
	return nil
}

// tryJoin asks every candidate at once. Nil means that one of them answered, or that there is none.
func (g *Gossip) tryJoin(ctx context.Context, ml *memberlist.Memberlist) error {
	var (
		mu     sync.Mutex
		errs   []error
		joined bool
		group  errgroup.Group
	)
	group.SetLimit(8)
	candidates, err := g.candidates(ctx)
	if err != nil {
		errs = append(errs, err)
	}
	for _, addr := range candidates {
		group.Go(func() error {
			_, err := ml.Join([]string{addr})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, g.joinError(addr, err))
			}
			joined = joined || err == nil
			return nil
		})
	}
	_ = group.Wait()
	if joined {
		return nil
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// joinError makes memberlist's words, which are all that is left of an error, into something to act on.
func (g *Gossip) joinError(addr string, err error) error {
	if first := errors.Unwrap(err); first != nil {
		err = first // of a list of one
	}
	text := strings.TrimPrefix(err.Error(), "failed to join "+addr+": ")
	switch {
	case strings.Contains(text, errSameName):
		g.mu.Lock()
		defer g.mu.Unlock()
		return &DuplicateNameError{Name: g.cfg.Name, Addr: g.rival}
	case strings.Contains(text, "could decrypt"), strings.Contains(text, "ncryption is"), strings.Contains(text, "ncrypted"):
		return fmt.Errorf("join %s: %w", addr, ErrWrongKey)
	case strings.HasSuffix(text, io.EOF.Error()), strings.HasSuffix(text, io.ErrClosedPipe.Error()),
		strings.HasSuffix(text, syscall.ECONNRESET.Error()), strings.HasSuffix(text, syscall.EPIPE.Error()):
		return fmt.Errorf("join %s: it closed the connection, as a peer of another cluster does, or one from before a recovery", addr)
	}
	return fmt.Errorf("join %s: %s", addr, text)
}

// candidates are the addresses of everyone who might be there, without this peer's own.
func (g *Gossip) candidates(ctx context.Context) ([]string, error) {
	var (
		list []string
		errs []error
	)
	for _, entry := range append(g.cfg.Seeds.Join(), g.addresses()...) {
		addrs, err := g.resolve(ctx, entry)
		if err != nil {
			errs = append(errs, err)
		}
		list = append(list, addrs...)
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if self, ok := g.Member(g.cfg.Name); ok {
		list = slices.DeleteFunc(list, func(a string) bool { return a == self.HostPort() })
	}
	return list, errors.Join(errs...)
}

// resolve turns a name or an address, with or without a port, into addresses with one.
func (g *Gossip) resolve(ctx context.Context, entry string) ([]string, error) {
	host, port := entry, strconv.Itoa(g.cfg.Port)
	if h, p, err := net.SplitHostPort(entry); err == nil {
		host, port = h, p
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return []string{net.JoinHostPort(ip.String(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timings.Stream)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	var list []string
	for _, ip := range ips {
		list = append(list, net.JoinHostPort(ip.Unmap().String(), port))
	}
	return list, nil
}

// remember hands on the others' addresses after they changed.
func (g *Gossip) remember(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-g.moved:
		}
		if g.cfg.Seeds.Remember == nil {
			continue
		}
		addrs := map[string]string{}
		for _, m := range g.Members() {
			if m.Name != g.cfg.Name {
				addrs[m.Name] = m.HostPort()
			}
		}
		g.cfg.Seeds.Remember(addrs)
	}
}
