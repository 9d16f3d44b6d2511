package proxy

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func hostPort(ip, to string) HostPort {
	h := HostPort{Name: "default/a", Port: 80, To: netip.MustParseAddrPort(to)}
	if ip != "" {
		h.IP = netip.MustParseAddr(ip)
	}
	return h
}

func hostPortFacts(all ...HostPort) *Facts {
	f := factsOf(nil)
	f.HostPorts, f.HostPortsKnown = all, true
	return f
}

func program(t *testing.T, f *Fake, want *Rules) {
	t.Helper()
	for _, input := range diff(nil, want.chains) {
		if err := f.Restore(t.Context(), input); err != nil {
			t.Fatalf("%v in\n%s", err, input)
		}
	}
	for _, j := range jumps {
		if err := f.Link(t.Context(), j.table, j.from, j.to); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHostPorts(t *testing.T) {
	f := NewFake(netip.MustParseAddr(here), netip.MustParseAddr(gateway))
	program(t, f, Render(hostPortFacts(hostPort("", localA+":8080"))))
	packets{
		{outside, here + ":80"}: {localA + ":8080"},             // sees who called
		{localB, here + ":80"}:  {localA + ":8080"},             // another pod of this machine
		{here, here + ":80"}:    {localA + ":8080 masqueraded"}, // a process of this machine
		{localA, here + ":80"}:  {localA + ":8080 masqueraded"}, // the pod itself
		{outside, here + ":81"}: {here + ":81"},
	}.check(t, f)
}

func TestAHostPortOfOneAddress(t *testing.T) {
	f := NewFake(netip.MustParseAddr(here), netip.MustParseAddr(gateway))
	program(t, f, Render(hostPortFacts(hostPort(gateway, localA+":8080"))))
	packets{
		{localB, gateway + ":80"}: {localA + ":8080"},
		{outside, here + ":80"}:   {here + ":80"},
	}.check(t, f)
}

// A process that was just started does not know its pods yet: what the one before it made goes on, until it does.
func TestHostPortsOutliveTheProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := testMachine()
		leads := func(when, want string) {
			t.Helper()
			synctest.Wait()
			got := fake.Ways(Packet{Proto: "tcp", From: netip.MustParseAddr(outside), To: netip.MustParseAddrPort(here + ":80")})
			if d := cmp.Diff([]string{want}, got); d != "" {
				t.Errorf("%s (-want +got):\n%s", when, d)
			}
		}
		r := newRig(t, fake)
		leads("at first", here+":80")
		r.SetHostPorts([]HostPort{hostPort("", localA+":8080")})
		leads("with a pod", localA+":8080")
		r.stop()
		next := newRig(t, fake)
		defer next.stop()
		leads("after a restart", localA+":8080")
		next.cluster.Apply(web(localB + "@node-1")...)
		leads("and a change of something else", localA+":8080")
		next.SetHostPorts(nil)
		leads("once it is known that there is none", here+":80")
	})
}

func TestConnectionsToWhatAHostPortLedToAreForgotten(t *testing.T) {
	a, b := hostPort("", localA+":8080"), hostPort("", localB+":8080")
	u := b
	u.UDP = true
	got := staleHostPorts([]HostPort{a, b}, []HostPort{b, u})
	want := []Flow{
		{Proto: unix.IPPROTO_TCP, Port: 80, Endpoint: a.To},
		{Proto: unix.IPPROTO_UDP, Port: 80, Except: []netip.AddrPort{u.To}},
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
}
