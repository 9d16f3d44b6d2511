package dns

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	forwardParallel = 256             // questions under way at once; further ones fail at once
	forwardTry      = 2 * time.Second // a server
	forwardTotal    = 4 * time.Second // below the 5 s after which resolvers ask again
)

// forwarder asks other servers. The same question asked by several callers at once is asked once; that also ends a loop
// through a server that asks us again: the question joins itself and fails when its time is up.
type forwarder struct {
	log      *slog.Logger
	fixed    []netip.AddrPort
	path     string
	flights  singleflight.Group
	inFlight chan struct{} // sized by forwardParallel

	mu      sync.Mutex
	not     map[netip.Addr]bool // ourselves
	own     map[netip.AddrPort]bool
	servers []netip.AddrPort
	read    time.Time // of the file that servers are from
	size    int64
}

func newForwarder(c *Config) *forwarder {
	f := &forwarder{
		log: c.Log, fixed: c.Upstream, path: c.ResolvConf, inFlight: make(chan struct{}, forwardParallel),
		not: map[netip.Addr]bool{}, own: map[netip.AddrPort]bool{},
	}
	for _, a := range c.Not {
		f.not[a] = true
	}
	return f
}

// avoid makes sure that addrs are never asked.
func (f *forwarder) avoid(addrs []netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range addrs {
		f.own[a] = true
	}
}

// upstream returns the servers to ask, in order.
func (f *forwarder) upstream() []netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	candidates := f.fixed
	if candidates == nil {
		candidates = f.fileLocked()
	}
	out := slices.Clone(candidates)
	return slices.DeleteFunc(out, func(a netip.AddrPort) bool { return f.not[a.Addr()] || f.own[a] })
}

// fileLocked reads the nameservers of the file again when it has changed. Caller holds mu.
func (f *forwarder) fileLocked() []netip.AddrPort {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil
	}
	if info.ModTime().Equal(f.read) && info.Size() == f.size {
		return f.servers
	}
	conf, err := dns.ClientConfigFromFile(f.path)
	if err != nil {
		f.log.Warn("nameservers not read", "err", err)
		return f.servers
	}
	f.read, f.size, f.servers = info.ModTime(), info.Size(), nil
	for _, s := range conf.Servers {
		port, err := strconv.ParseUint(conf.Port, 10, 16)
		if addr, aerr := netip.ParseAddr(s); aerr == nil && err == nil {
			f.servers = append(f.servers, netip.AddrPortFrom(addr, uint16(port)))
		}
	}
	return f.servers
}

// ask returns an upstream's answer to q, or SERVFAIL. It blocks for at most forwardTotal.
func (f *forwarder) ask(ctx context.Context, q *dns.Msg) *dns.Msg {
	question := q.Question[0]
	key := question.Name + " " + strconv.Itoa(int(question.Qtype))
	secure := false
	if opt := q.IsEdns0(); opt != nil {
		secure = opt.Do()
	}
	if secure {
		key += " do"
	}
	if q.CheckingDisabled {
		key += " cd"
	}
	answer, err, _ := f.flights.Do(key, func() (any, error) {
		select {
		case f.inFlight <- struct{}{}:
			defer func() { <-f.inFlight }()
		default:
			return nil, errBusy
		}
		ctx, cancel := context.WithTimeout(ctx, forwardTotal)
		defer cancel()
		return f.exchange(ctx, question, secure, q.CheckingDisabled)
	})
	if err != nil {
		f.log.Debug("question not answered by others", "name", question.Name, "err", err)
		return failure(q, dns.RcodeServerFailure)
	}
	m := answer.(*dns.Msg).Copy() // shared with other callers
	m.Id, m.Question = q.Id, q.Question
	m.RecursionDesired, m.RecursionAvailable = q.RecursionDesired, true
	if q.IsEdns0() == nil {
		m.Extra = slices.DeleteFunc(m.Extra, func(r dns.RR) bool { return r.Header().Rrtype == dns.TypeOPT })
	}
	return m
}

// exchange asks one server after the other until one has an answer.
func (f *forwarder) exchange(ctx context.Context, question dns.Question, secure, unchecked bool) (*dns.Msg, error) {
	err := errNoUpstream
	for _, server := range f.upstream() {
		q := &dns.Msg{Question: []dns.Question{question}}
		q.Id, q.RecursionDesired, q.CheckingDisabled = dns.Id(), true, unchecked
		q.SetEdns0(maxUDP, secure)
		m, tryErr := try(ctx, "udp", server, q)
		if tryErr == nil && m.Truncated {
			m, tryErr = try(ctx, "tcp", server, q)
		}
		switch {
		case tryErr != nil:
			err = tryErr
		case m.Rcode == dns.RcodeServerFailure || m.Rcode == dns.RcodeRefused:
			err = &rcodeError{server: server, rcode: m.Rcode}
		default:
			return m, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func try(ctx context.Context, network string, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTry)
	defer cancel()
	c := &dns.Client{Net: network, Timeout: forwardTry, UDPSize: maxUDP}
	m, _, err := c.ExchangeContext(ctx, q, server.String())
	return m, err
}
