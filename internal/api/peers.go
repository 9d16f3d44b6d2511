package api

import "time"

// PeerList is the cluster as one peer sees it: the answer of /shoal/v1/peers.
type PeerList struct {
	Peer      string       `json:"peer"` // who answered
	ClusterID string       `json:"clusterID"`
	Master    string       `json:"master"` // empty when none is known
	Term      uint64       `json:"term"`
	Revision  uint64       `json:"revision"` // of the answering peer's replica
	Quorum    bool         `json:"quorum"`   // a Master is known and reachable
	Version   string       `json:"version"`
	Peers     []PeerStatus `json:"peers"`
}

// PeerStatus is one peer as another one sees it.
type PeerStatus struct {
	Name    string    `json:"name"`
	Address string    `json:"address"`
	API     string    `json:"api"`
	Role    string    `json:"role"` // master, voter, replica or client
	State   Liveness  `json:"state"`
	Since   time.Time `json:"since"`
	Version string    `json:"version,omitempty"`
	Zone    string    `json:"zone,omitempty"`
}

// NoVote is part of what a peer answers who would have to ask others for an administrator and would not be believed: whoever
// reads it should ask the Master.
const NoVote = "this peer has no vote"

// Roles of a peer.
const (
	RoleMaster  = "master"
	RoleVoter   = "voter"
	RoleReplica = "replica"
	RoleClient  = "client"
)

// TokenRequest asks for a join token: the body of POST /shoal/v1/tokens.
type TokenRequest struct {
	Uses       int   `json:"uses"`
	TTLSeconds int64 `json:"ttlSeconds"`
}

// Token is a join token. Token itself is only set in the answer to its creation.
type Token struct {
	ID       string    `json:"id"`
	Token    string    `json:"token,omitempty"`
	UsesLeft int       `json:"usesLeft"`
	Expires  time.Time `json:"expires"`
}

// PeerImage is one image that a peer holds: the items of GET /shoal/v1/peers/NAME/images.
type PeerImage struct {
	Name string `json:"name"`
	ID   string `json:"id"`
	Size int64  `json:"size"`
}
