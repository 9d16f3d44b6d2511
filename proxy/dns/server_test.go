package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/proxy/source"
	"shoal/proxy/source/sourcetest"
)

// start runs a server over objects without sockets; change may alter its Config.
func start(t testing.TB, change func(*Config), objects ...api.Object) *Server {
	t.Helper()
	c := sourcetest.New()
	c.Apply(objects...)
	src := source.New(source.Config{Client: c})
	conf := Config{
		Source: src, Domain: "cluster.local", ResolvConf: "/nowhere",
		Reverse: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16"), netip.MustParsePrefix("10.244.0.0/15")},
		Addrs: func(ctx context.Context) ([]netip.AddrPort, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	if change != nil {
		change(&conf)
	}
	s := New(conf)
	run(t, src.Run)
	run(t, s.Run)
	if err := src.WaitSynced(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.synced.Store(true) // as Run does, a moment later
	return s
}

// run runs f until the test ends and waits for it.
func run(t testing.TB, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func ask(s *Server, name, qtype string) *dns.Msg {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[qtype])
	return s.answer(context.Background(), q, false)
}

// text is an answer in one line: the code, or the records' values.
func text(m *dns.Msg) string {
	if m.Rcode != dns.RcodeSuccess && len(m.Answer) == 0 {
		return dns.RcodeToString[m.Rcode]
	}
	var out []string
	for _, r := range m.Answer {
		out = append(out, strings.TrimPrefix(r.String(), r.Header().String()))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func objects() []api.Object {
	headless := sourcetest.Service("default/db", "None", "sql:5432")
	external := sourcetest.Service("default/far", "")
	external.Spec.Type, external.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.org"
	near := sourcetest.Service("default/near", "")
	near.Spec.Type, near.Spec.ExternalName = corev1.ServiceTypeExternalName, "web.default.svc.cluster.local"
	loop := sourcetest.Service("default/loop", "")
	loop.Spec.Type, loop.Spec.ExternalName = corev1.ServiceTypeExternalName, "loop.default.svc.cluster.local"
	return []api.Object{
		sourcetest.Service("default/web", "10.43.0.20", "http:80", "dns:53/udp"),
		sourcetest.Slice("default/web", []string{"http:8080"}, "10.244.1.9@node-1"),
		headless, external, near, loop,
		sourcetest.Slice("default/db", []string{"sql:5432"},
			"10.244.1.5@node-1=db-0", "10.244.2.5@node-2=db-1", "10.244.2.6@node-2", "10.244.2.7@node-2-=db-3"),
	}
}

func TestAnswers(t *testing.T) {
	s := start(t, nil, objects()...)
	for _, c := range []struct{ name, qtype, want string }{
		{"web.default.svc.cluster.local", "A", "10.43.0.20"},
		{"WEB.Default.svc.Cluster.LOCAL", "A", "10.43.0.20"},
		{"web.default.svc.cluster.local", "AAAA", ""},
		{"web.other.svc.cluster.local", "A", "NXDOMAIN"},
		{"nobody.default.svc.cluster.local", "A", "NXDOMAIN"},
		{"cluster.local", "A", ""},
		{"svc.cluster.local", "A", ""},
		{"default.svc.cluster.local", "A", ""},
		{"other.svc.cluster.local", "A", "NXDOMAIN"},
		{"google.com.default.svc.cluster.local", "A", "NXDOMAIN"},
		{"dns-version.cluster.local", "TXT", `"1.1.0"`},
		{"db.default.svc.cluster.local", "A", "10.244.1.5, 10.244.2.5, 10.244.2.6"},
		{"db-0.db.default.svc.cluster.local", "A", "10.244.1.5"},
		{"10-244-2-6.db.default.svc.cluster.local", "A", "10.244.2.6"},
		{"db-3.db.default.svc.cluster.local", "A", "NXDOMAIN"}, // not ready
		{"db-0.db.default.svc.cluster.local", "AAAA", ""},
		{"10-244-1-77.default.pod.cluster.local", "A", "10.244.1.77"},
		{"nonsense.default.pod.cluster.local", "A", "NXDOMAIN"},
		{"_http._tcp.web.default.svc.cluster.local", "SRV", "0 100 80 web.default.svc.cluster.local."},
		{"_dns._udp.web.default.svc.cluster.local", "SRV", "0 100 53 web.default.svc.cluster.local."},
		{"_http._udp.web.default.svc.cluster.local", "SRV", "NXDOMAIN"},
		{"_http._tcp.web.default.svc.cluster.local", "A", ""},
		{"_tcp.web.default.svc.cluster.local", "A", ""},
		{
			"_sql._tcp.db.default.svc.cluster.local", "SRV",
			"0 33 5432 10-244-2-6.db.default.svc.cluster.local., 0 33 5432 db-0.db.default.svc.cluster.local., " +
				"0 33 5432 db-1.db.default.svc.cluster.local.",
		},
		{"20.0.43.10.in-addr.arpa", "PTR", "web.default.svc.cluster.local."},
		{"5.1.244.10.in-addr.arpa", "PTR", "db-0.db.default.svc.cluster.local."},
		{"9.1.244.10.in-addr.arpa", "PTR", "10-244-1-9.web.default.svc.cluster.local."},
		{"99.1.244.10.in-addr.arpa", "PTR", "NXDOMAIN"},
		{"near.default.svc.cluster.local", "A", "10.43.0.20, web.default.svc.cluster.local."},
		{"far.default.svc.cluster.local", "CNAME", "example.org."},
		{"far.default.svc.cluster.local", "A", "SERVFAIL"}, // nobody to ask
		{"loop.default.svc.cluster.local", "A", "SERVFAIL"},
		{"example.org", "A", "SERVFAIL"},
		{"cluster.local", "AXFR", "REFUSED"},
	} {
		m := ask(s, c.name, c.qtype)
		if d := cmp.Diff(c.want, text(m)); d != "" {
			t.Errorf("%s %s (-want +got):\n%s", c.qtype, c.name, d)
		}
		ours := strings.HasSuffix(strings.ToLower(c.name), "cluster.local") && c.want != "SERVFAIL" && c.want != "REFUSED"
		if ours && (!m.Authoritative || len(m.Answer) == 0 && len(m.Ns) == 0) {
			t.Errorf("%s %s: not authoritative, or denied without SOA: %v", c.qtype, c.name, m)
		}
	}
	m := ask(s, "_sql._tcp.db.default.svc.cluster.local", "SRV")
	if len(m.Extra) != 3 {
		t.Errorf("SRV brings %d addresses, want 3", len(m.Extra))
	}
}

// A pod asks for a short name with each of its search path's ends. None of them leads into another namespace, whatever namespaces and Services are called.
func TestAShortNameStaysInItsNamespace(t *testing.T) {
	others := append(objects(),
		sourcetest.Service("team/own", "10.43.0.30", "http:80"),
		sourcetest.Service("web/web", "10.43.0.31", "http:80"), sourcetest.Service("db/web", "10.43.0.32", "http:80"), sourcetest.Service("svc/web", "10.43.0.33", "http:80"),
		sourcetest.Service("default/team", "10.43.0.34", "http:80"), sourcetest.Service("default/svc", "10.43.0.35", "http:80"), sourcetest.Service("web/cluster", "10.43.0.36", "http:80"))
	s := start(t, nil, others...)
	for name, want := range map[string]string{
		"own": "10.43.0.30", "web": "", "db": "", "far": "", "near": "", "team": "", "svc": "", "default": "", "cluster": "", "local": "", "pod": "", "db-0": "", "10-244-1-5": "",
	} {
		var got []string
		for _, end := range []string{".team.svc.cluster.local", ".svc.cluster.local", ".cluster.local"} { // as node/resolver.go has them
			for _, r := range ask(s, name+end, "A").Answer {
				got = append(got, strings.TrimPrefix(r.String(), r.Header().String()))
			}
		}
		if all := strings.Join(got, ", "); all != want {
			t.Errorf("a pod of team that asks for %s gets %q, want %q", name, all, want)
		}
	}
	// Who says where is answered.
	if got := text(ask(s, "web.db.svc.cluster.local", "A")); got != "10.43.0.32" {
		t.Errorf("web.db: %s", got)
	}
}

func TestNothingIsDeniedBeforeTheCopyIsComplete(t *testing.T) {
	s := New(Config{Source: source.New(source.Config{Client: sourcetest.New()}), Domain: "cluster.local"})
	if got := text(ask(s, "web.default.svc.cluster.local", "A")); got != "SERVFAIL" {
		t.Errorf("got %s", got)
	}
}

func TestHeadlessLeavesOutGoneMachinesButNeverAll(t *testing.T) {
	down := map[string]bool{"node-2": true}
	s := start(t, func(c *Config) { c.Down = func(e *source.Endpoint) bool { return down[e.Node] } }, objects()...)
	if got := text(ask(s, "db.default.svc.cluster.local", "A")); got != "10.244.1.5" {
		t.Errorf("one machine gone: %s", got)
	}
	if got := text(ask(s, "db-1.db.default.svc.cluster.local", "A")); got != "10.244.2.5" {
		t.Errorf("the only one of its name: %s", got)
	}
	down["node-1"] = true
	if got := text(ask(s, "db.default.svc.cluster.local", "A")); got != "10.244.1.5, 10.244.2.5, 10.244.2.6" {
		t.Errorf("all machines gone: %s", got)
	}
}

// upstream is a name server on loopback that answers h for everything.
func upstream(t testing.TB, h dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	pc, l := bothPorts(t)
	for _, srv := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		go func() { _ = srv.ActivateAndServe() }()
	}
	t.Cleanup(func() {
		pc.Close()
		l.Close()
	})
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

// bothPorts listens on a port that is free for UDP and for TCP.
func bothPorts(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	var errs []error
	for range 20 {
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp4", pc.LocalAddr().String())
		if err == nil {
			return pc, l
		}
		errs = append(errs, err, pc.Close()) // a connection of somebody's has it
	}
	t.Fatal(errors.Join(errs...))
	return nil, nil
}

func address(name, value string) *dns.A {
	return &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(value)}
}

func TestOtherNamesAreForwarded(t *testing.T) {
	var udp atomic.Int32
	good := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		switch q.Question[0].Name {
		case "example.org.":
			m.Answer = []dns.RR{address("example.org.", "198.51.100.1")}
		case "big.org.":
			if _, ok := w.RemoteAddr().(*net.UDPAddr); ok {
				udp.Add(1)
				m.Truncated = true
				break
			}
			for i := range 100 {
				m.Answer = append(m.Answer, address("big.org.", fmt.Sprintf("198.51.100.%d", i)))
			}
		default:
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})
	bad := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeServerFailure))
	})
	s := start(t, func(c *Config) { c.Upstream = []netip.AddrPort{bad, good} }, objects()...)
	for name, want := range map[string]string{
		"example.org":                   "198.51.100.1",
		"missing.org":                   "NXDOMAIN",
		"far.default.svc.cluster.local": "198.51.100.1, example.org.",
	} {
		if got := text(ask(s, name, "A")); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if m := ask(s, "big.org", "A"); len(m.Answer) != 100 || udp.Load() == 0 {
		t.Errorf("big answer has %d records", len(m.Answer))
	}
}

func TestNobodyAsksHimself(t *testing.T) {
	self := netip.MustParseAddrPort("127.0.0.1:1053")
	vip := netip.MustParseAddrPort("10.43.0.10:53")
	f := newForwarder(&Config{Upstream: []netip.AddrPort{self, vip}, Not: []netip.Addr{vip.Addr()}})
	f.avoid([]netip.AddrPort{self})
	if got := f.upstream(); len(got) != 0 {
		t.Errorf("would ask %v", got)
	}
}

func TestALoopThroughAnotherServerEnds(t *testing.T) {
	var us atomic.Pointer[Server]
	asked := atomic.Int32{}
	other := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		_ = w.WriteMsg(us.Load().answer(context.Background(), q, true)) // hands the question back to us
	})
	s := start(t, func(c *Config) { c.Upstream = []netip.AddrPort{other} })
	us.Store(s)
	begun := time.Now()
	if got := text(ask(s, "example.org", "A")); got != "SERVFAIL" {
		t.Errorf("got %s", got)
	}
	if took := time.Since(begun); took > forwardTotal+time.Second {
		t.Errorf("took %s", took)
	}
	if n := asked.Load(); n > 2 {
		t.Errorf("asked %d times", n)
	}
}

func TestResolvConfIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	f := newForwarder(&Config{ResolvConf: path})
	for i, content := range []string{"nameserver 192.0.2.1\n", "nameserver 192.0.2.22\nnameserver 192.0.2.3\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := f.upstream(); len(got) != i+1 {
			t.Errorf("after %q: %v", content, got)
		}
	}
}

func TestSocketsAndTruncation(t *testing.T) {
	var eps []string
	for i := range 100 {
		eps = append(eps, fmt.Sprintf("10.244.3.%d@node-3", i+2))
	}
	addr := netip.MustParseAddrPort(fmt.Sprintf("127.%d.%d.53:1053", os.Getpid()>>8&0x7f, os.Getpid()&0xff))
	s := start(t, func(c *Config) {
		c.Addrs = func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{addr}, nil }
	}, append(objects(), sourcetest.Service("default/many", "None", "80"), sourcetest.Slice("default/many", []string{"80"}, eps...))...)
	<-s.Ready()
	for _, c := range []struct {
		network   string
		size      uint16
		truncated bool
		least     int
	}{{"udp", 0, true, 20}, {"udp", 1232, true, 60}, {"udp", 4096, true, 60}, {"tcp", 0, false, 100}} {
		q := new(dns.Msg).SetQuestion("many.default.svc.cluster.local.", dns.TypeA)
		if c.size > 0 {
			q.SetEdns0(c.size, false)
		}
		m, _, err := (&dns.Client{Net: c.network, UDPSize: 4096}).Exchange(q, addr.String())
		if err != nil {
			t.Fatal(err)
		}
		if m.Truncated != c.truncated || len(m.Answer) < c.least {
			t.Errorf("%s %d: %d answers, truncated %v", c.network, c.size, len(m.Answer), m.Truncated)
		}
	}
}

func FuzzQuery(f *testing.F) {
	for _, name := range []string{"web.default.svc.cluster.local.", "_sql._tcp.db.default.svc.cluster.local.", ".", "5.1.244.10.in-addr.arpa."} {
		b, err := new(dns.Msg).SetQuestion(name, dns.TypeSRV).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	s := start(f, func(c *Config) { c.Upstream = []netip.AddrPort{} }, objects()...)
	f.Fuzz(func(t *testing.T, b []byte) {
		q := new(dns.Msg)
		if q.Unpack(b) != nil {
			return
		}
		for _, udp := range []bool{true, false} {
			m := s.answer(t.Context(), q.Copy(), udp)
			out, err := m.Pack()
			if err != nil {
				t.Skip(err) // names that cannot be sent back were never read from a packet
			}
			if udp && len(out) > dns.MaxMsgSize || m.Id != q.Id || !m.Response {
				t.Errorf("bad answer %v to %v", m, q)
			}
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	s := start(b, nil, objects()...)
	for _, name := range []string{"web.default.svc.cluster.local.", "google.com.default.svc.cluster.local.", "db.default.svc.cluster.local."} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			q := new(dns.Msg).SetQuestion(name, dns.TypeA)
			for b.Loop() {
				s.answer(b.Context(), q, true)
			}
		})
	}
}
