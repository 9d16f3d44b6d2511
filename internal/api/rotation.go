package api

import "time"

// What can be rotated.
const (
	RotateGossip = "gossip"
	RotateCA     = "ca"
)

// RotationOverlap is the phase of a CA's rotation that ends by itself when Until is over.
const RotationOverlap = "overlap"

// RotationDone is the phase in which nothing is left to do.
const RotationDone = "done"

// RotationRequest begins a rotation, or changes the one under way: the body of POST /shoal/v1/rotations/WHAT.
type RotationRequest struct {
	// Without are peers that are not waited for any more.
	Without []string `json:"without,omitempty"`
	// OverlapSeconds is for how long what the old CA signed stays good; zero means the life of a client's certificate. Of a CA only.
	OverlapSeconds int64 `json:"overlapSeconds,omitempty"`
	// Finish ends the overlap now, and begins nothing. Of a CA only.
	Finish bool `json:"finish,omitempty"`
}

// Rotation is how far the last rotation of something is: the answer of GET and POST /shoal/v1/rotations/WHAT. A GET with ?not=VERSION is
// answered when there is another version, or after a while.
type Rotation struct {
	What     string         `json:"what"`
	ID       string         `json:"id,omitempty"`    // empty when there never was one
	Phase    string         `json:"phase,omitempty"` // what every peer has to do now
	Peers    int            `json:"peers"`           // how many have to
	Waiting  []RotationWait `json:"waiting,omitempty"`
	Without  []string       `json:"without,omitempty"`
	Started  *time.Time     `json:"started,omitempty"`
	Until    *time.Time     `json:"until,omitempty"` // when the overlap ends
	Finished *time.Time     `json:"finished,omitempty"`
	Version  string         `json:"version"`
}

// RotationWait is a peer that has not done yet what the phase asks of it.
type RotationWait struct {
	Peer string `json:"peer"`
	Why  string `json:"why"`
}
