package consensus

import (
	"time"

	"github.com/hashicorp/raft"
)

// carrier is what Raft needs of a transport.
type carrier interface {
	raft.Transport
	raft.WithClose
	raft.WithPreVote
}

// matched calls no entry committed that the same message does not show to be the follower's, too. Raft 1.8 says all that is
// committed by now in a message whose end it chose earlier, before a pause of up to 10 s if the follower was away; and a follower
// takes its own entries behind that end for the Master's. So one that came back with entries which nobody else has applied them, when the
// Master's disk had been slow at the beginning of its term. In Raft's paper the follower looks at the index of the last new entry.
type matched struct {
	carrier
	ended <-chan struct{} // closed when the peer stops
}

// noRoomRest is how long a follower rests that could not write what it got. Raft's own pause doubles each time, and one whose disk was full for a minute
// would hear nothing for another ten seconds and more after there is room.
const noRoomRest = time.Second

// AppendEntries implements raft.Transport.
func (m matched) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := m.carrier.AppendEntries(id, to, limited(req), resp)
	// Raft asks for no pause where logs differ; what else a follower of this term refuses, it could not write.
	if err == nil && !resp.Success && !resp.NoRetryBackoff && resp.Term <= req.Term && len(req.Entries) > 0 {
		select {
		case <-time.After(noRoomRest):
		case <-m.ended:
		}
		resp.NoRetryBackoff = true
	}
	return err
}

// AppendEntriesPipeline implements raft.Transport.
func (m matched) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := m.carrier.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return matchedPipeline{p}, nil
}

type matchedPipeline struct{ raft.AppendPipeline }

// AppendEntries implements raft.AppendPipeline.
func (p matchedPipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	return p.AppendPipeline.AppendEntries(limited(req), resp)
}

// limited is a message of its own, because Raft uses some again.
func limited(req *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	out := *req
	end := out.PrevLogEntry
	if n := len(out.Entries); n > 0 {
		end = out.Entries[n-1].Index
	}
	out.LeaderCommitIndex = min(out.LeaderCommitIndex, end)
	return &out
}
