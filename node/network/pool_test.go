package network

import (
	"fmt"
	"math/rand"
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func testPool(prefix string) *pool {
	p := newPool()
	p.prefix = netip.MustParsePrefix(prefix)
	return p
}

func TestAddressIsUsedAgainAsLateAsPossible(t *testing.T) {
	p := testPool("10.244.1.0/24")
	seen := map[netip.Addr]bool{}
	for i := range 253 {
		uid := types.UID(fmt.Sprint(i))
		addr, err := p.take(uid, netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		if seen[addr] {
			t.Fatalf("%s again after %d pods", addr, i)
		}
		seen[addr] = true
		p.release(uid)
	}
	for _, never := range []string{"10.244.1.0", "10.244.1.1", "10.244.1.255"} {
		if seen[netip.MustParseAddr(never)] {
			t.Errorf("%s was handed out", never)
		}
	}
}

func TestPoolNeverGivesAnAddressTwice(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	p := testPool("10.244.1.0/28")
	have := map[types.UID]netip.Addr{}
	for i := range 5000 {
		uid := types.UID(fmt.Sprint(r.Intn(20)))
		if r.Intn(2) == 0 {
			p.release(uid)
			delete(have, uid)
			continue
		}
		addr, err := p.take(uid, netip.AddrFrom4([4]byte{10, 244, 1, byte(r.Intn(20))}))
		if err != nil {
			if len(have) != 13 {
				t.Fatalf("step %d: %v with %d pods", i, err, len(have))
			}
			continue
		}
		if was, ok := have[uid]; ok && was != addr {
			t.Fatalf("step %d: %s had %s, got %s", i, uid, was, addr)
		}
		have[uid] = addr
		for other, a := range have {
			if other != uid && a == addr {
				t.Fatalf("step %d: %s belongs to %s and %s", i, addr, uid, other)
			}
		}
	}
}

func TestReservedAddressesSurviveARestart(t *testing.T) {
	p := newPool() // before the pod CIDR is known
	a, b := netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("10.244.1.9")
	if !p.reserve("a", a) || !p.reserve("b", b) || p.reserve("thief", a) {
		t.Fatal("reservations are wrong")
	}
	p.prefix = netip.MustParsePrefix("10.244.1.0/24")
	if got, _ := p.take("a", netip.Addr{}); got != a {
		t.Errorf("a has %s", got)
	}
	if got, _ := p.take("new", a); got.String() != "10.244.1.10" {
		t.Errorf("a newcomer that wants a's address got %s", got)
	}
}
