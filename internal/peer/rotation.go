package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"shoal/consensus/store"
	"shoal/internal/api"
)

// rotationPrefix is below what the records of rotations are. They stay when a rotation is done, for machines that come back.
const rotationPrefix store.Key = "/shoal/rotation/"

// rotation is what the record of any rotation says. Its phases follow one another when all members have done what the present one asks of
// them, and say so by gossip. The record is all there is: a new Master goes on where it says.
type rotation struct {
	ID       string     `json:"id"`
	Phase    string     `json:"phase"`
	Without  []string   `json:"without,omitempty"` // members that are not waited for
	Started  time.Time  `json:"started"`
	Finished *time.Time `json:"finished,omitempty"`
}

// status is a rotation in the API's words. does says, of a member, why it is still waited for, or nothing.
func (r *rotation) status(what string, members []string, does func(name string) string) api.Rotation {
	out := api.Rotation{What: what, ID: r.ID, Phase: r.Phase, Without: r.Without, Finished: r.Finished}
	if r.ID == "" {
		return out
	}
	out.Started = &r.Started
	for _, name := range members {
		if slices.Contains(r.Without, name) {
			continue
		}
		out.Peers++
		if why := does(name); why != "" {
			out.Waiting = append(out.Waiting, api.RotationWait{Peer: name, Why: why})
		}
	}
	return out
}

// memberRecords are the machines that have been let in, by name.
func (p *Peer) memberRecords() (map[string]peerRecord, error) {
	all, err := readAll[peerRecord](p.raft, peerPrefix)
	if err != nil {
		return nil, err
	}
	out := map[string]peerRecord{}
	for _, r := range all {
		out[r.Name] = r
	}
	return out, nil
}

// said is what a member says of itself by gossip. What it said last counts also when it is away: it does first and says so then.
func (p *Peer) said(name, meta string) (string, bool) {
	m, _ := p.gossip.Member(name)
	s, ok := m.Meta[meta]
	return s, ok
}

// lateness says why a member has not done yet what is asked of it: it is away, or cannot.
func (p *Peer) lateness(name, meta string) string {
	if s := p.Liveness(name); s != api.Alive {
		return fmt.Sprintf("it is away (%s)", s)
	}
	if _, ok := p.said(name, meta); !ok {
		m, _ := p.gossip.Member(name)
		return fmt.Sprintf("its version %s cannot: upgrade it", m.Meta[metaVersion])
	}
	return "it is at it"
}

// save replaces the record of a rotation that has the revision rev. False means that somebody else changed it meanwhile.
func (p *Peer) save(ctx context.Context, key store.Key, rev store.Rev, record any) (bool, error) {
	return (&rotationTxn{key: key, rev: rev}).propose(ctx, p.raft, record)
}

// rotationStatus is how far the rotation of something is.
func (p *Peer) rotationStatus(what string) (out api.Rotation, err error) {
	switch what {
	case api.RotateGossip:
		out, err = p.gossipRotationStatus()
	case api.RotateCA:
		out, err = p.caRotationStatus()
	default:
		err = failf(http.StatusNotFound, "nothing called %q can be rotated", what)
	}
	if err != nil {
		return out, err
	}
	b, err := json.Marshal(out)
	if err != nil {
		return out, err
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b)
	out.Version = fmt.Sprintf("%x", sum.Sum64())
	return out, nil
}

// rotationNews bounds how long a question for another version of a rotation's status is held.
const rotationNews = 20 * time.Second

// serveRotation answers how far a rotation is.
func (p *Peer) serveRotation(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), rotationNews)
	var watch errgroup.Group
	defer func() { _ = watch.Wait() }()
	defer cancel()
	wrote := make(chan struct{}, 1)
	watch.Go(func() error { return tellWrites(ctx, p.raft.Store(), rotationPrefix, wrote) })
	for {
		changed := p.gossip.Changed()
		out, err := p.rotationStatus(r.PathValue("what"))
		if err != nil || out.Version != r.URL.Query().Get("not") || ctx.Err() != nil {
			answer(w, out, err)
			return
		}
		select {
		case <-wrote:
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// beginRotation begins a rotation, or changes the one that is under way, and answers how far it is.
func (p *Peer) beginRotation(w http.ResponseWriter, r *http.Request) {
	var req api.RotationRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&req); err != nil {
		fail(w, failf(http.StatusBadRequest, "body: %v", err))
		return
	}
	out, err := p.rotate(r.Context(), r.PathValue("what"), req)
	answer(w, out, err)
}

func (p *Peer) rotate(ctx context.Context, what string, req api.RotationRequest) (api.Rotation, error) {
	members, err := p.memberRecords()
	if err != nil {
		return api.Rotation{}, err
	}
	for _, name := range req.Without {
		if _, ok := members[name]; !ok {
			return api.Rotation{}, failf(http.StatusBadRequest, "no peer %q is in the cluster", name)
		}
		if name == p.cfg.Name {
			return api.Rotation{}, failf(http.StatusBadRequest, "%s is the Master: not without it", name)
		}
	}
	var saved bool
	for !saved && err == nil {
		switch what {
		case api.RotateGossip:
			saved, err = p.beginGossipRotation(ctx, req)
		case api.RotateCA:
			saved, err = p.beginCARotation(ctx, req)
		default:
			err = failf(http.StatusNotFound, "nothing called %q can be rotated", what)
		}
	}
	if err != nil {
		return api.Rotation{}, err
	}
	return p.rotationStatus(what)
}

// and returns both lists as one, sorted.
func and(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
