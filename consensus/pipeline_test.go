package consensus

import (
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestAPipelineLetsItsSenderGoAtARefusal has a follower that refuses everything, and a reader that leaves at the first
// refusal as Raft's does, while the sender goes on.
func TestAPipelineLetsItsSenderGoAtARefusal(t *testing.T) {
	w := &wires{addr: map[PeerID]string{}}
	open := func(id PeerID) raft.Transport {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w.addr[id] = l.Addr().String()
		cfg := Config{ID: id, Log: slog.New(slog.DiscardHandler)}.withDefaults()
		tr := newTransport(cfg, wire{l, w})
		t.Cleanup(func() { _ = tr.(io.Closer).Close() })
		return tr
	}
	leader, follower := open("a"), open("b")
	go func() {
		for {
			select {
			case rpc := <-follower.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{}, nil)
			case <-t.Context().Done():
				return
			}
		}
	}()
	p, err := leader.AppendEntriesPipeline("b", "b")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	first := make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			if i == 1 {
				<-first
			}
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{}, &raft.AppendEntriesResponse{}); err != nil {
				done <- err
				return
			}
		}
	}()
	if a := <-p.Consumer(); a.Response().Success {
		t.Error("not refused")
	}
	close(first)
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("the sender waits for ever")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
