package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// meeting is a machine that waits for others, on loopback.
type meeting struct {
	*rendezvous
	listener net.Listener
}

// convene starts machines that know one another's addresses. Their secrets and expectations are given by name.
func convene(t *testing.T, names []string, secret func(string) string, expect func(string) int) map[string]*meeting {
	t.Helper()
	all := map[string]*meeting{}
	var addrs []string
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		all[name] = &meeting{listener: l}
		addrs = append(addrs, l.Addr().String())
	}
	for _, name := range names {
		m := all[name]
		self := hello{Name: name, Address: m.listener.Addr().String(), Expect: expect(name)}
		m.rendezvous = newRendezvous(self, secret(name), addrs, slog.New(slog.DiscardHandler))
		cfg, err := temporaryTLS(self, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			serveHello(w, r, secret(name), m.answer)
		})}
		go func() { _ = srv.Serve(tls.NewListener(m.listener, cfg)) }()
		t.Cleanup(func() { _ = srv.Close() })
	}
	return all
}

func same[T any](v T) func(string) T { return func(string) T { return v } }

type met struct {
	name string
	v    verdict
	err  error
}

func meetAll(ctx context.Context, all map[string]*meeting) <-chan met {
	out := make(chan met, len(all))
	for name, m := range all {
		go func() {
			v, err := m.meet(ctx)
			if v.found {
				m.becomeMember("the-hash")
			}
			out <- met{name, v, err}
		}()
	}
	return out
}

func TestLowestNameFoundsAndTheOthersJoinIt(t *testing.T) {
	names := []string{"charlie", "alpha", "bravo"}
	all := convene(t, names, same("a shared secret"), same(3))
	answers := meetAll(t.Context(), all)
	for range names {
		m := <-answers
		want := verdict{address: all["alpha"].self.Address, caHash: "the-hash"}
		if m.name == "alpha" {
			want = verdict{found: true}
		}
		if m.err != nil || m.v != want {
			t.Errorf("%s: %+v, %v; want %+v", m.name, m.v, m.err, want)
		}
	}
}

func TestNobodyFoundsBeforeAllAreThere(t *testing.T) {
	all := convene(t, []string{"alpha", "bravo"}, same("a shared secret"), same(3))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	answers := meetAll(ctx, all)
	for range all {
		if m := <-answers; !errors.Is(m.err, context.DeadlineExceeded) {
			t.Errorf("%s: %+v, %v", m.name, m.v, m.err)
		}
	}
}

func TestAMemberIsJoinedWhateverIsExpected(t *testing.T) {
	all := convene(t, []string{"alpha", "zulu"}, same("a shared secret"), same(3))
	all["zulu"].becomeMember("old-hash")
	v, err := all["alpha"].meet(t.Context())
	if want := (verdict{address: all["zulu"].self.Address, caHash: "old-hash"}); err != nil || v != want {
		t.Errorf("%+v, %v; want %+v", v, err, want)
	}
}

func TestMachinesThatDisagreeSaySo(t *testing.T) {
	expect := func(name string) int { return map[string]int{"alpha": 2, "bravo": 3}[name] }
	all := convene(t, []string{"alpha", "bravo"}, same("a shared secret"), expect)
	if _, err := all["alpha"].meet(t.Context()); err == nil || !strings.Contains(err.Error(), "bootstrap_expect must be the same") {
		t.Errorf("another bootstrap_expect: %v", err)
	}
	secrets := func(name string) string { return "the secret of " + name }
	all = convene(t, []string{"alpha", "bravo"}, secrets, same(2))
	_, err := greet(t.Context(), secrets("alpha"), all["bravo"].self.Address, all["alpha"].mine(false))
	if !errors.Is(err, errWrongSecret) {
		t.Errorf("another secret: %v", err)
	}
}

func TestTwoMachinesOfOneName(t *testing.T) {
	r := newRendezvous(hello{Name: "alpha", Address: "10.0.0.1:6443", Expect: 3}, "s", nil, slog.New(slog.DiscardHandler))
	r.learn(hello{Name: "bravo", Address: "10.0.0.2:6443", Expect: 3})
	r.learn(hello{Name: "bravo", Address: "10.0.0.3:6443", Expect: 3})
	if _, _, err := r.decide(t.Context()); err == nil || !strings.Contains(err.Error(), `"bravo"`) {
		t.Errorf("two machines called bravo: %v", err)
	}
}

func TestMoreMachinesThanExpected(t *testing.T) {
	r := newRendezvous(hello{Name: "alpha", Address: "10.0.0.1:6443", Expect: 2}, "s", nil, slog.New(slog.DiscardHandler))
	for i, name := range []string{"bravo", "charlie"} {
		r.learn(hello{Name: name, Address: fmt.Sprintf("10.0.0.%d:6443", i+2), Expect: 2})
	}
	if _, _, err := r.decide(t.Context()); err == nil || !strings.Contains(err.Error(), "3 machines") {
		t.Errorf("three machines where two are expected: %v", err)
	}
}
