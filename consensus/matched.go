package consensus

import "github.com/hashicorp/raft"

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
type matched struct{ carrier }

// AppendEntries implements raft.Transport.
func (m matched) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return m.carrier.AppendEntries(id, to, limited(req), resp)
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
