package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	packetMax     = 1 << 16 // what a UDP datagram can hold
	receiveBuffer = 2 << 20 // bytes the kernel keeps for us, as memberlist's own transport asks for
)

// sockets is memberlist's way to the network: one UDP and one TCP socket. memberlist's own takes 64 KiB of fresh memory for every
// packet, which with probes of 200 bytes is most of what an idle peer allocates; this one reads into one buffer and keeps what came.
type sockets struct {
	udp     *net.UDPConn
	tcp     *net.TCPListener
	packets chan *memberlist.Packet
	streams chan net.Conn
	ctx     context.Context // ends with them: memberlist has none for who dials
	closed  <-chan struct{}
	close   func()
	readers sync.WaitGroup
	log     *slog.Logger
}

var _ memberlist.NodeAwareTransport = (*sockets)(nil)

// listen opens both sockets at one port of addr. Nothing can be dialled or received after ctx has ended.
func listen(ctx context.Context, addr string, port int, log *slog.Logger) (*sockets, error) {
	at := net.JoinHostPort(addr, strconv.Itoa(port))
	tcp, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	s := &sockets{
		udp: udp.(*net.UDPConn), tcp: tcp.(*net.TCPListener),
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), log: log,
	}
	var end context.CancelFunc
	s.ctx, end = context.WithCancel(ctx)
	s.closed = s.ctx.Done()
	s.close = sync.OnceFunc(func() {
		end()
		_ = s.tcp.Close()
		_ = s.udp.Close()
	})
	for size := receiveBuffer; s.udp.SetReadBuffer(size) != nil; size /= 2 {
		if size == 0 {
			return nil, errors.Join(fmt.Errorf("set the receive buffer of udp %s", at), s.Shutdown())
		}
	}
	s.readers.Go(s.readPackets)
	s.readers.Go(s.acceptStreams)
	return s, nil
}

func (s *sockets) readPackets() {
	buf := make([]byte, packetMax)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		now := time.Now()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil || n == 0:
			continue // an ICMP error about a packet we sent; the probe that sent it finds out by itself
		}
		p := &memberlist.Packet{Buf: append(make([]byte, 0, n), buf[:n]...), From: net.UDPAddrFromAddrPort(unmap(from)), Timestamp: now}
		select {
		case s.packets <- p:
		case <-s.closed:
			return
		}
	}
}

// unmap makes an IPv4 address that came in through an IPv6 socket look like one.
func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func (s *sockets) acceptStreams() {
	for delay := time.Duration(0); ; {
		conn, err := s.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // most likely out of file descriptors
			delay = min(max(5*time.Millisecond, 2*delay), time.Second)
			s.log.Warn("cannot accept a gossip connection", "err", err, "again", delay)
			select {
			case <-time.After(delay):
				continue
			case <-s.closed:
				return
			}
		}
		delay = 0
		select {
		case s.streams <- conn:
		case <-s.closed:
			_ = conn.Close()
			return
		}
	}
}

// FinalAdvertiseAddr implements memberlist.Transport. We always know our address.
func (s *sockets) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, 0, fmt.Errorf("advertise %q: %w", ip, err)
	}
	if port == 0 {
		port = s.tcp.Addr().(*net.TCPAddr).Port
	}
	return addr.Unmap().AsSlice(), port, nil
}

// WriteTo implements memberlist.Transport.
func (s *sockets) WriteTo(b []byte, addr string) (time.Time, error) {
	return s.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport. Members' addresses are always numbers.
func (s *sockets) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	to, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = s.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

// PacketCh implements memberlist.Transport.
func (s *sockets) PacketCh() <-chan *memberlist.Packet { return s.packets }

// DialTimeout implements memberlist.Transport.
func (s *sockets) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	return dial(ctx, addr)
}

// A kernel repeats the first packet of a connection only after a second (RFC 6298), which is longer than anybody here waits. So tries
// are made side by side.
const (
	dialTries = 4
	dialAgain = 50 * time.Millisecond
)

// dial connects, or returns the first error that is not one of time.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, dialTries)
	for i := range dialTries {
		go func() {
			select {
			case <-time.After(time.Duration(i) * dialAgain):
			case <-ctx.Done():
			}
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			results <- result{conn, err}
		}()
	}
	for left := dialTries - 1; ; left-- {
		r := <-results
		if r.err != nil && timedOut(r.err) && left > 0 {
			continue
		}
		go func() { // the other tries end as ctx does
			for range left {
				if late := <-results; late.conn != nil {
					_ = late.conn.Close()
				}
			}
		}()
		return r.conn, r.err
	}
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (s *sockets) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return s.DialTimeout(a.Addr, timeout)
}

// StreamCh implements memberlist.Transport.
func (s *sockets) StreamCh() <-chan net.Conn { return s.streams }

// Shutdown implements memberlist.Transport. It returns when both sockets are closed and nothing reads them.
func (s *sockets) Shutdown() error {
	s.close()
	s.readers.Wait()
	return nil
}
