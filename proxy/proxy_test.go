package proxy

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shoal/internal/api"
	"shoal/proxy/source"
	"shoal/proxy/source/sourcetest"
)

// rig is a proxy of node-1 over a fake kernel.
type rig struct {
	*Proxy
	cluster *sourcetest.Cluster
	live    *sourcetest.Liveness
	fake    *Fake
	dead    sync.Map // addresses that refuse connections
	stop    func()
}

// newRig must be called inside a synctest bubble.
func newRig(t *testing.T, fake *Fake, objects ...api.Object) *rig {
	t.Helper()
	r := &rig{cluster: sourcetest.New(), live: sourcetest.NewLiveness(), fake: fake}
	r.cluster.Apply(objects...)
	src := source.New(source.Config{Client: r.cluster})
	r.Proxy = New(Config{
		Node: "node-1", Source: src, Programmer: r.fake, Liveness: r.live,
		PodCIDR: netip.MustParsePrefix("10.244.0.0/15"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
		Dial: func(_ context.Context, a netip.AddrPort) error {
			if _, dead := r.dead.Load(a.Addr().String()); dead {
				return errors.New("refused")
			}
			return nil
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = src.Run(ctx) })
	wg.Go(func() { _ = r.Run(ctx) })
	r.stop = func() {
		cancel()
		wg.Wait()
	}
	synctest.Wait()
	return r
}

func testMachine() *Fake {
	return NewFake(netip.MustParseAddr(here), netip.MustParseAddr(gateway))
}

func web(endpoints ...string) []api.Object {
	return []api.Object{
		sourcetest.Service("default/web", vip, "80"), sourcetest.Slice("default/web", []string{"8080"}, endpoints...),
	}
}

// ways returns the addresses that calls to the VIP of web end at.
func (r *rig) ways() string {
	got := r.fake.Ways(Packet{Proto: "tcp", From: netip.MustParseAddr(localB), To: netip.MustParseAddrPort(vip + ":80")})
	return strings.ReplaceAll(strings.Join(got, " "), ":8080", "")
}

func (r *rig) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	if d := cmp.Diff(strings.Join(want, " "), r.ways()); d != "" {
		t.Errorf("%s (-want +got):\n%s", when, d)
	}
}

func TestChangesAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, testMachine(), web(localA+"@node-1")...)
		defer r.stop()
		r.expect(t, "at start", localA)
		before := r.fake.Restores()
		r.cluster.Apply(sourcetest.Slice("default/web", []string{"8080"}, localA+"@node-1", remote+"@node-2"))
		r.expect(t, "one more", localA, remote)
		if n := r.fake.Restores() - before; n != 1 {
			t.Errorf("one change took %d restores", n)
		}
		if n := r.Applied().Bytes; n > 500 {
			t.Errorf("one change sent %d bytes", n)
		}
		r.cluster.Remove(sourcetest.Service("default/web", vip))
		r.expect(t, "no Service", "reject")
	})
}

func TestAGoneMachinesEndpointsAreWithdrawnAndComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, testMachine(), web(localA+"@node-1", remote+"@node-2")...)
		defer r.stop()
		for _, s := range []struct {
			state api.Liveness
			want  []string
		}{
			{api.Suspect, []string{localA, remote}},
			{api.Gone, []string{localA}},
			{api.Alive, []string{localA, remote}},
			{api.Left, []string{localA, remote}},
		} {
			r.live.Set("node-2", s.state)
			r.expect(t, string(s.state), s.want...)
		}
		r.live.Set("node-1", api.Gone) // what others say of this machine does not matter here
		r.live.Set("node-2", api.Gone)
		r.expect(t, "both", localA)
	})
}

func TestASilentMachinesEndpointsAreTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, testMachine(), web(localA+"@node-1", remote+"@node-2", "10.244.2.6@node-2")...)
		defer r.stop()
		r.live.Set("node-2", api.Silent)
		r.expect(t, "all accept", localA, "10.244.2.5", "10.244.2.6")
		r.dead.Store(remote, true)
		<-time.After(checkEvery + time.Second)
		r.expect(t, "one refuses", localA, "10.244.2.6")
		r.dead.Delete(remote)
		<-time.After(checkEvery + time.Second)
		r.expect(t, "it is back", localA, "10.244.2.5", "10.244.2.6")
		r.dead.Store(remote, true)
		r.live.Set("node-2", api.Alive)
		<-time.After(time.Minute)
		r.expect(t, "not silent any more", localA, "10.244.2.5", "10.244.2.6")
	})
}

func TestFailuresAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := testMachine()
		failing := map[string]int{"save": 1, "restore": 3, "link": 2, "forget": 1}
		var mu sync.Mutex
		fake.Fail = func(operation string) error {
			mu.Lock()
			defer mu.Unlock()
			if failing[operation]--; failing[operation] >= 0 {
				return errors.New("no")
			}
			return nil
		}
		r := newRig(t, fake, web(localA+"@node-1")...)
		defer r.stop()
		<-r.Ready()
		r.expect(t, "after failures", localA)
	})
}

func TestTheAuditRepairsWhatOthersChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, testMachine(), web(localA+"@node-1")...)
		defer r.stop()
		r.expect(t, "at start", localA)
		if err := r.fake.Tamper(t.Context(), tableNAT, chainVIPs, ""); err != nil {
			t.Fatal(err)
		}
		if err := r.fake.Unlink(t.Context(), tableFilter, "FORWARD", chainForward); err != nil {
			t.Fatal(err)
		}
		r.expect(t, "emptied", vip+":80")
		<-time.After(auditEvery + time.Second)
		r.expect(t, "audited", localA)
		before := r.fake.Restores()
		<-time.After(10 * auditEvery)
		synctest.Wait()
		if n := r.fake.Restores() - before; n != 0 {
			t.Errorf("idle audits restored %d times", n)
		}
	})
}

func TestARestartTouchesNothingThatIsRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := testMachine()
		r := newRig(t, fake, web(localA+"@node-1", remote+"@node-2")...)
		r.stop()
		r.expect(t, "not running", localA, remote)
		before := fake.Restores()
		r = newRig(t, fake, web(localA+"@node-1", remote+"@node-2")...)
		if n := fake.Restores() - before; n != 0 {
			t.Errorf("restart restored %d times", n)
		}
		r.stop()
		r = newRig(t, fake, web(remote+"@node-2")...)
		r.expect(t, "changed while away", remote)
		r.stop()
		if err := Clean(t.Context(), fake); err != nil {
			t.Fatal(err)
		}
		if !fake.Empty() {
			t.Error("something is left")
		}
	})
}

func TestUDPLeavesWithdrawnEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := sourcetest.Service("default/dns", vip, "53/udp")
		slice := func(e ...string) api.Object { return sourcetest.Slice("default/dns", []string{"53/udp"}, e...) }
		r := newRig(t, testMachine(), svc, slice(remote+"@node-2"))
		defer r.stop()
		send := func(from string) string {
			return r.fake.Send(Packet{
				Proto: "udp", From: netip.MustParseAddr(from), FromPort: 999, To: netip.MustParseAddrPort(vip + ":53"),
			}, nil).String()
		}
		if got := send(localB); got != remote+":53" {
			t.Fatalf("first packet: %s", got)
		}
		r.cluster.Apply(slice("10.244.2.4@node-2", remote+"@node-2"))
		synctest.Wait()
		if got := send(localB); got != remote+":53" {
			t.Errorf("a flow to an endpoint that stays was moved to %s", got)
		}
		r.cluster.Apply(slice("10.244.2.4@node-2"))
		synctest.Wait()
		if got := send(localB); got != "10.244.2.4:53" {
			t.Errorf("after its endpoint went: %s", got)
		}
	})
}

func TestStaleConnections(t *testing.T) {
	udp := func(p port) port { p.proto, p.hash = "udp", "U"; return p }
	eps := func(s ...string) (out []netip.AddrPort) {
		for _, a := range s {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	p := func(all, known []netip.AddrPort) port {
		return port{hash: "T", proto: "tcp", vip: netip.MustParseAddr(vip), number: 80, nodePort: 30080, all: all, known: known}
	}
	a, b, ab := eps("10.0.0.1:8"), eps("10.0.0.2:8"), eps("10.0.0.1:8", "10.0.0.2:8")
	for name, c := range map[string]struct {
		old, now []port
		want     int
		tcp      bool
	}{
		"nothing changes":                        {[]port{p(ab, ab)}, []port{p(ab, ab)}, 0, true},
		"tcp to a terminating endpoint goes on":  {[]port{p(ab, ab)}, []port{p(b, ab)}, 0, true},
		"tcp to one that is gone does not":       {[]port{p(ab, ab)}, []port{p(b, b)}, 2, true},
		"tcp to one that is kept for want of up": {[]port{p(a, a)}, []port{p(a, nil)}, 0, true},
		"tcp to the same one when it goes later": {[]port{p(a, nil)}, []port{p(nil, nil)}, 2, true},
		"tcp to the same one when it is there":   {[]port{p(a, nil)}, []port{p(nil, a)}, 0, true},
		"tcp of a deleted Service goes on":       {[]port{p(ab, ab)}, nil, 0, true},
		"udp to a terminating one is moved":      {[]port{udp(p(ab, ab))}, []port{udp(p(b, ab))}, 2, false},
		"udp of a deleted Service ends":          {[]port{udp(p(a, a))}, nil, 2, false},
		"udp that began before its Service":      {nil, []port{udp(p(a, a))}, 2, false},
		"udp that began before its endpoints":    {[]port{udp(p(nil, nil))}, []port{udp(p(a, a))}, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := stale(c.old, c.now)
			if len(got) != c.want {
				t.Errorf("%d flows, want %d: %+v", len(got), c.want, got)
			}
			if slices.ContainsFunc(got, func(f Flow) bool { return (f.Proto == 6) != c.tcp }) {
				t.Errorf("wrong protocol: %+v", got)
			}
		})
	}
}

func TestEveryInputOfALongLoadIsConsistent(t *testing.T) {
	f := testMachine()
	want := Render(crowd(6000, 2))
	inputs := diff(nil, want.chains)
	if len(inputs) < 3 {
		t.Fatalf("%d inputs", len(inputs))
	}
	for _, in := range inputs { // the fake refuses jumps to what is not there yet
		if err := f.Restore(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	for _, in := range diff(want.chains, nil) {
		if err := f.Restore(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	if !f.Empty() {
		t.Error("something is left")
	}
}
