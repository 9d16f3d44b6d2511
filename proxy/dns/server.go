// Package dns is the cluster's name server on one machine: it answers for Services and pods from the same copy of the
// API that the packet rules are made from, so it needs no Master, and forwards other names. It keeps no state and caches
// nothing. internal/peer runs it on every machine. Its invariant: a name is only denied once the copy is complete.
package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"shoal/internal/client"
	"shoal/proxy/source"
)

// Config is what New needs. Source, Addrs and Domain are required.
type Config struct {
	Source *source.Source
	// Addrs returns the addresses to listen on, UDP and TCP. It may block until they exist.
	Addrs  func(ctx context.Context) ([]netip.AddrPort, error)
	Domain string // such as cluster.local
	// Reverse are the ranges whose addresses nobody else can name: pods and services.
	Reverse []netip.Prefix
	// Upstream are the servers asked for other names. Nil means those of ResolvConf, read again when it changes.
	Upstream   []netip.AddrPort
	ResolvConf string // empty: /etc/resolv.conf
	// Not are addresses never asked, because the question would come back: the DNS Services'.
	Not []netip.Addr
	// Down reports endpoints that are presumed unreachable; nil means none.
	Down func(*source.Endpoint) bool
	Log  *slog.Logger
}

const (
	ttl = 5 // seconds: what a caller may miss when a Service changes

	// maxUDP is the largest answer without fragments on any link that carries IPv6 (1280 less headers).
	maxUDP = 1232
)

// Server answers questions. All methods are safe for concurrent use.
type Server struct {
	c       Config
	zone    string // lower case, with the final dot
	forward *forwarder
	synced  atomic.Bool
	turn    atomic.Uint32 // rotates answers
	ready   chan struct{}
}

// New returns a Server that does nothing until Run.
func New(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	return &Server{c: c, zone: dns.CanonicalName(c.Domain), forward: newForwarder(&c), ready: make(chan struct{})}
}

// Ready is closed once the server listens on every address.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run listens and answers until ctx ends. An address that cannot be listened on is tried again. The Source must be
// running.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.c.Source.WaitSynced(ctx); err != nil {
			return err
		}
		s.synced.Store(true)
		<-ctx.Done()
		return ctx.Err()
	})
	g.Go(func() error {
		addrs, err := s.c.Addrs(ctx)
		if err != nil {
			return fmt.Errorf("addresses for DNS: %w", err)
		}
		s.forward.avoid(addrs)
		return s.listen(ctx, addrs)
	})
	return g.Wait()
}

func (s *Server) listen(ctx context.Context, addrs []netip.AddrPort) error {
	retry := client.NewBackoff(50*time.Millisecond, 10*time.Second)
	for {
		servers, err := s.open(ctx, addrs)
		if err == nil {
			select {
			case <-s.ready:
			default:
				close(s.ready)
				s.c.Log.Info("dns listens", "addrs", addrs)
			}
			retry.Reset()
			err = s.serve(ctx, servers)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.c.Log.Warn("dns does not listen, will retry", "err", err)
		if err := retry.Wait(ctx); err != nil {
			return err
		}
	}
}

// open listens on every address, or on none.
func (s *Server) open(ctx context.Context, addrs []netip.AddrPort) (servers []*dns.Server, err error) {
	defer func() {
		if err != nil {
			for _, srv := range servers {
				shut(srv)
			}
			servers = nil
		}
	}()
	var lc net.ListenConfig
	for _, addr := range addrs {
		handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { s.handle(ctx, w, q) })
		pc, err := lc.ListenPacket(ctx, "udp4", addr.String())
		if err != nil {
			return servers, fmt.Errorf("listen: %w", err)
		}
		// The library's two seconds would only wake an idle server; packets have nobody to give up on.
		servers = append(servers, &dns.Server{PacketConn: pc, Handler: handler, UDPSize: dns.MaxMsgSize, ReadTimeout: 24 * time.Hour})
		// With port 0 (tests) both protocols must get the same one.
		l, err := lc.Listen(ctx, "tcp4", pc.LocalAddr().String())
		if err != nil {
			return servers, fmt.Errorf("listen: %w", err)
		}
		servers = append(servers, &dns.Server{Listener: l, Handler: handler})
	}
	return servers, nil
}

func shut(srv *dns.Server) {
	if srv.PacketConn != nil {
		_ = srv.PacketConn.Close()
	}
	if srv.Listener != nil {
		_ = srv.Listener.Close()
	}
}

// serve runs until one server fails or ctx ends.
func (s *Server) serve(ctx context.Context, servers []*dns.Server) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, srv := range servers {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		g.Go(func() error {
			err := srv.ActivateAndServe()
			if err == nil {
				err = net.ErrClosed
			}
			return err
		})
		g.Go(func() error {
			<-ctx.Done()
			shut(srv) // ends one that has not started yet, too
			select {
			case <-started:
				_ = srv.Shutdown()
			default:
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

func (s *Server) handle(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) {
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	m := s.answer(ctx, q, udp)
	if err := w.WriteMsg(m); err != nil {
		s.c.Log.Debug("answer not sent", "err", err)
	}
}

// answer never returns nil.
func (s *Server) answer(ctx context.Context, q *dns.Msg, udp bool) *dns.Msg {
	if len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET || q.Opcode != dns.OpcodeQuery {
		return failure(q, dns.RcodeNotImplemented)
	}
	question := q.Question[0]
	name := dns.CanonicalName(question.Name)
	var m *dns.Msg
	switch addr, reverse := reversed(name); {
	case question.Qtype == dns.TypeAXFR || question.Qtype == dns.TypeIXFR:
		m = failure(q, dns.RcodeRefused)
	case dns.IsSubDomain(s.zone, name):
		m = s.own(ctx, q, question, name)
	case reverse && s.names(addr):
		m = s.reverse(q, question, addr)
	default:
		m = s.forward.ask(ctx, q)
	}
	fit(m, q, udp)
	return m
}

// own answers for the cluster's domain.
func (s *Server) own(ctx context.Context, q *dns.Msg, question dns.Question, name string) *dns.Msg {
	if !s.synced.Load() {
		return failure(q, dns.RcodeServerFailure)
	}
	rel := strings.TrimSuffix(strings.TrimSuffix(name, s.zone), ".")
	found := s.lookup(rel, question.Name, question.Qtype)
	if found.alias != "" {
		return s.alias(ctx, q, question, found.alias)
	}
	m := reply(q)
	m.Answer, m.Extra = found.answer, found.extra
	s.deny(m, found.exists)
	return m
}

// alias answers with a CNAME and what it leads to.
func (s *Server) alias(ctx context.Context, q *dns.Msg, question dns.Question, target string) *dns.Msg {
	cname := &dns.CNAME{Hdr: header(question.Name, dns.TypeCNAME), Target: target}
	m := reply(q)
	m.Answer = []dns.RR{cname}
	if question.Qtype == dns.TypeCNAME {
		return m
	}
	next := &dns.Msg{}
	next.SetQuestion(target, question.Qtype)
	var rest *dns.Msg
	if lower := dns.CanonicalName(target); dns.IsSubDomain(s.zone, lower) {
		found := s.lookup(strings.TrimSuffix(strings.TrimSuffix(lower, s.zone), "."), target, question.Qtype)
		if found.alias != "" { // external names of external names could go round for ever
			return failure(q, dns.RcodeServerFailure)
		}
		rest = reply(next)
		rest.Answer = found.answer
		s.deny(rest, found.exists)
	} else {
		rest = s.forward.ask(ctx, next)
	}
	m.Rcode = rest.Rcode
	if m.Rcode == dns.RcodeServerFailure {
		return failure(q, m.Rcode)
	}
	m.Answer = append(m.Answer, rest.Answer...)
	m.Ns = rest.Ns
	return m
}

// deny adds what an answer without records needs.
func (s *Server) deny(m *dns.Msg, exists bool) {
	if len(m.Answer) > 0 {
		return
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	m.Ns = []dns.RR{&dns.SOA{
		Hdr: header(s.zone, dns.TypeSOA), Ns: "ns.dns." + s.zone, Mbox: "hostmaster." + s.zone,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}}
}

func reply(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative, m.RecursionAvailable = true, true
	return m
}

func failure(q *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, rcode)
	m.RecursionAvailable = true
	return m
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

// fit makes m small enough for the caller.
func fit(m, q *dns.Msg, udp bool) {
	size := dns.MaxMsgSize
	opt := q.IsEdns0()
	if udp {
		size = dns.MinMsgSize
		if opt != nil {
			size = max(size, min(int(opt.UDPSize()), maxUDP))
		}
	}
	if opt != nil && m.IsEdns0() == nil {
		m.SetEdns0(maxUDP, false)
	}
	m.Compress = true
	m.Truncate(size)
}
