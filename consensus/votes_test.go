package consensus

import (
	"net"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// TestAVoteIsHadThroughOldConnections: a candidate has connections from its last election, and everybody was started anew
// since.
func TestAVoteIsHadThroughOldConnections(t *testing.T) {
	w := &wires{addr: map[PeerID]string{}}
	start := func(id PeerID) raft.Transport {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.addr[id] = l.Addr().String()
		w.mu.Unlock()
		return newTransport(Config{ID: id}.withDefaults(), wire{l, w})
	}
	candidate, voter := start("candidate"), start("voter")
	defer stopTransport(t, candidate)

	// As many connections as are kept, because all answers come after all questions.
	ask := func(n int) (errs []error) {
		var asking sync.WaitGroup
		var mu sync.Mutex
		for range n {
			asking.Go(func() {
				var resp raft.RequestVoteResponse
				err := candidate.RequestVote("voter", "voter", &raft.RequestVoteRequest{Term: 1}, &resp)
				mu.Lock()
				defer mu.Unlock()
				if err != nil || !resp.Granted {
					errs = append(errs, err)
				}
			})
		}
		asked := make([]raft.RPC, 0, n)
		done := make(chan struct{})
		go func() {
			asking.Wait()
			close(done)
		}()
		for {
			select {
			case rpc := <-voter.Consumer():
				if asked = append(asked, rpc); len(asked) == n {
					for _, rpc := range asked {
						rpc.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
					}
				}
			case <-done:
				return errs
			}
		}
	}
	if errs := ask(pool); len(errs) > 0 {
		t.Fatal(errs)
	}
	stopTransport(t, voter)
	voter = start("voter")
	defer func() { stopTransport(t, voter) }()
	if errs := ask(1); len(errs) > 0 {
		t.Errorf("after the voter was started anew: %v", errs)
	}
}

func stopTransport(t *testing.T, trans raft.Transport) {
	t.Helper()
	if err := trans.(raft.WithClose).Close(); err != nil {
		t.Error(err)
	}
}
