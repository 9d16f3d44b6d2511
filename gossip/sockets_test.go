package gossip

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func openSockets(t testing.TB, port int) *sockets {
	t.Helper()
	s, err := listen(t.Context(), "127.0.0.1", port, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown() })
	return s
}

func (s *sockets) address() string { return s.tcp.Addr().String() }

func TestPacketsArriveWhole(t *testing.T) {
	a, b := openSockets(t, 0), openSockets(t, 0)
	for _, size := range []int{1, 200, 1400, 60000} {
		sent := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := a.WriteTo(sent, b.address()); err != nil {
			t.Fatal(err)
		}
		p := <-b.PacketCh()
		if !bytes.Equal(p.Buf, sent) || p.From.String() != a.address() {
			t.Errorf("%d bytes from %s came as %d bytes from %s", size, a.address(), len(p.Buf), p.From)
		}
		if cap(p.Buf) > size+size/4+64 {
			t.Errorf("a packet of %d bytes holds %d", size, cap(p.Buf))
		}
	}
}

func TestAnEarlierPacketIsNotWrittenOver(t *testing.T) {
	a, b := openSockets(t, 0), openSockets(t, 0)
	for _, word := range []string{"first", "later"} {
		if _, err := a.WriteTo([]byte(word), b.address()); err != nil {
			t.Fatal(err)
		}
	}
	one, two := <-b.PacketCh(), <-b.PacketCh()
	if string(one.Buf) != "first" || string(two.Buf) != "later" {
		t.Errorf("got %q and %q", one.Buf, two.Buf)
	}
}

func TestAPacketToNobodyStopsNothing(t *testing.T) {
	a, b := openSockets(t, 0), openSockets(t, 0)
	gone := openSockets(t, 0)
	_ = gone.Shutdown()
	for range 3 {
		_, _ = a.WriteTo([]byte("lost"), gone.address()) // the kernel answers by an ICMP error
	}
	if _, err := b.WriteTo([]byte("heard"), a.address()); err != nil {
		t.Fatal(err)
	}
	if p := <-a.PacketCh(); string(p.Buf) != "heard" {
		t.Errorf("got %q", p.Buf)
	}
}

func TestStreamsAreAccepted(t *testing.T) {
	a, b := openSockets(t, 0), openSockets(t, 0)
	conn, err := a.DialTimeout(b.address(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := <-b.StreamCh()
	defer got.Close()
	if got.RemoteAddr().String() != conn.LocalAddr().String() {
		t.Errorf("accepted %s, dialled from %s", got.RemoteAddr(), conn.LocalAddr())
	}
}

func TestDial(t *testing.T) {
	a, b := openSockets(t, 0), openSockets(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 3 {
		conn, err := dial(ctx, b.address())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		_ = (<-b.StreamCh()).Close()
	}
	_ = b.Shutdown()
	if conn, err := dial(ctx, b.address()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v, %v", conn, err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if conn, err := dial(late, a.address()); err == nil || !timedOut(err) {
		t.Errorf("too late: %v, %v", conn, err)
	}
}

// Shutdown must not wait for a reader that waits for memberlist, which has stopped listening by then.
func TestShutdownWhileNobodyListens(t *testing.T) {
	a, b := openSockets(t, 0), openSockets(t, 0)
	if _, err := a.WriteTo([]byte("unread"), b.address()); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", b.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = b.Shutdown()
	_ = b.Shutdown()
}

func TestATakenPortIsNamed(t *testing.T) {
	a := openSockets(t, 0)
	_, port, _ := net.SplitHostPort(a.address())
	n, _ := strconv.Atoi(port)
	if s, err := listen(t.Context(), "127.0.0.1", n, nil); err == nil {
		_ = s.Shutdown()
		t.Error("two listen at one port")
	}
}

func TestAdvertisedAddress(t *testing.T) {
	a := openSockets(t, 0)
	ip, port, err := a.FinalAdvertiseAddr("10.0.0.1", 7946)
	if err != nil || ip.String() != "10.0.0.1" || port != 7946 {
		t.Errorf("got %s %d %v", ip, port, err)
	}
	if _, _, err := a.FinalAdvertiseAddr("", 0); err == nil {
		t.Error("no address is none to advertise")
	}
}
