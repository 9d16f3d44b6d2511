package peer

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pretended is a connection that is not secured.
type pretended struct{ net.Conn }

func (pretended) ConnectionState() tls.ConnectionState { return tls.ConnectionState{} }

// gated notes each write, and lets it through when there is a token.
type gated struct {
	pretended
	gate chan struct{}

	mu     sync.Mutex
	writes []string
}

func (g *gated) Write(p []byte) (int, error) {
	<-g.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writes = append(g.writes, string(p))
	return len(p), nil
}

func (g *gated) SetWriteDeadline(time.Time) error { return nil }
func (g *gated) Close() error                     { return nil }

func TestWritesGoOutTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &gated{gate: make(chan struct{})}
		g := newGather(inner, time.Second)
		write := func(s string) {
			t.Helper()
			if n, err := g.Write([]byte(s)); n != len(s) || err != nil {
				t.Fatal(n, err)
			}
		}
		write("a")
		synctest.Wait()
		for _, s := range []string{"b", "cd", "e"} {
			write(s)
		}
		close(inner.gate)
		synctest.Wait()
		write("f")
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if want := []string{"a", "bcde", "f"}; !slices.Equal(inner.writes, want) {
			t.Errorf("sent %q, want %q", inner.writes, want)
		}
		if _, err := g.Write([]byte("g")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write after the end: %v", err)
		}
	})
}

func TestWhatWasWrittenArrivesInOrder(t *testing.T) {
	a, b := net.Pipe()
	g := newGather(pretended{a}, time.Minute)
	want := make([]byte, 3*gatherMost)
	for i := range want {
		want[i] = byte(i / 1000)
	}
	go func() {
		for rest := want; len(rest) > 0; rest = rest[min(len(rest), 5000):] {
			if _, err := g.Write(rest[:min(len(rest), 5000)]); err != nil {
				t.Error(err)
			}
		}
		_ = g.Close()
	}()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes arrived, or others: %v", len(got), len(want), err)
	}
}

func TestWhoTakesNothingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		g := newGather(pretended{a}, time.Minute)
		begun := time.Now()
		var err error
		for written := 0; err == nil; written += 1000 {
			if _, err = g.Write(make([]byte, 1000)); written > 2*gatherMost {
				t.Fatal("everything is kept")
			}
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection is still open: %v", err)
		}
		_ = g.Close()
	})
}

func TestAnIdleConnectionCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		g := newGather(pretended{a}, time.Minute)
		if _, err := g.Write(make([]byte, 10)); err != nil { // nobody reads it
			t.Fatal(err)
		}
		begun := time.Now()
		_ = g.Close()
		if took := time.Since(begun); took != gatherClose {
			t.Errorf("closed after %v", took)
		}
		_ = b.Close()
	})
}
