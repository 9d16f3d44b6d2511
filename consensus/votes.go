package consensus

import (
	"errors"
	"net"

	"github.com/hashicorp/raft"
)

// What elections need is asked only once by Raft, over a connection that may have been kept since the last one: the peer
// at its other end may have been started anew since, or the cable was out. Then nobody would answer, and the candidate
// would wait for its whole patience. So it is asked again over other connections, and a fresh one in the end. All three
// requests may arrive twice.

// RequestVote implements raft.Transport.
func (t transport) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return ask(func() error { return t.NetworkTransport.RequestVote(id, to, req, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (t transport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return ask(func() error { return t.NetworkTransport.RequestPreVote(id, to, req, resp) })
}

// TimeoutNow implements raft.Transport.
func (t transport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return ask(func() error { return t.NetworkTransport.TimeoutNow(id, to, req, resp) })
}

// ask repeats a request whose connection broke until it must have been a fresh one.
func ask(request func() error) error {
	for range pool {
		err := request()
		var dial dialError
		var slow net.Error
		if err == nil || errors.As(err, &dial) || errors.As(err, &slow) && slow.Timeout() {
			return err
		}
	}
	return request()
}
