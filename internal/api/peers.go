package api

import (
	"encoding/json"
	"time"
)

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
	// Unsteady is until when the peer is relied on only where it must be, though it is alive: it fell again and again.
	Unsteady *time.Time `json:"unsteady,omitempty"`
	Disk     string     `json:"disk,omitempty"` // what is wrong with it: how long a write takes when that is too long, or why there are none
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

// History is the past of an object, as far as it is kept: the answer of GET /shoal/v1/history.
type History struct {
	Oldest    uint64     `json:"oldest"`    // the revision back to which everything is kept
	Revisions []Revision `json:"revisions"` // the newest first
}

// Revision is an object as one change left it.
type Revision struct {
	Revision uint64          `json:"revision"`
	Created  bool            `json:"created,omitempty"`
	Deleted  bool            `json:"deleted,omitempty"`
	Object   json.RawMessage `json:"object,omitempty"`
}

// Restored says what a restore did, or would do: the answer of POST /shoal/v1/restore. Its counts are of objects and of the addresses
// and ports that Services have.
type Restored struct {
	Created  int      `json:"created"`
	Replaced int      `json:"replaced"`
	Deleted  int      `json:"deleted"`
	Same     int      `json:"same"`
	Taken    []string `json:"taken,omitempty"` // what cannot be given back, for it is another object's now: then nothing is done
	Done     bool     `json:"done"`
}

// Holder is somebody who may do what GET /shoal/v1/who-can asks about: one of its items.
type Holder struct {
	Kind      string `json:"kind"` // User, Group or ServiceAccount
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	Binding   string `json:"binding,omitempty"` // by which it may; empty when that is so in every cluster
}

// PullRequest is the body of POST /shoal/v1/peers/NAME/images/pull, which answers with a PeerImage when the image is there. Without a user the image is
// pulled anonymously.
type PullRequest struct {
	Image    string `json:"image"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

// PeerImage is one image that a peer holds: the items of GET /shoal/v1/peers/NAME/images.
type PeerImage struct {
	Name string `json:"name"`
	ID   string `json:"id"`
	Size int64  `json:"size"`
}
