package peer

import (
	"context"
	"crypto/x509"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/pki"
)

const caRotationKey = rotationPrefix + api.RotateCA

// Phases of a rotation of the CA: what every member has to do. In the one of overlap, nothing: clients have time to get what is new.
const (
	phaseTrust   = "trust" // trust the new CA beside the old one
	phaseSign    = "sign"  // have a certificate of the new CA to call with, and one of the old to be called
	phaseOverlap = api.RotationOverlap
	phaseServe   = "serve"  // show the one of the new CA to those who call, too
	phaseForget  = "forget" // trust the old CA no more
)

// caRotation is the last rotation of the cluster's CA.
type caRotation struct {
	rotation
	Old     []byte        `json:"old"`           // certificate, PEM
	New     []byte        `json:"new,omitempty"` // none yet: the Master has still to make it
	Overlap time.Duration `json:"overlap"`
	Until   *time.Time    `json:"until,omitempty"` // when the overlap ends
	Finish  bool          `json:"finish,omitempty"`
}

// trustSaid is what a member says of its certificates, by the CAs' fingerprints.
type trustSaid struct {
	client, server string // who signed what it shows when it calls, and when it is called
	trusted        []string
}

func fingerprint(ca *x509.Certificate) string { return pki.Hash(ca)[:8] }

func (s trustSaid) String() string {
	return s.client + " " + s.server + " " + strings.Join(s.trusted, ",")
}

func parseTrust(s string) (out trustSaid) {
	if f := strings.Fields(s); len(f) == 3 {
		out = trustSaid{f[0], f[1], strings.Split(f[2], ",")}
	}
	return out
}

// saysTrust is what this peer says of its certificates.
func (p *Peer) saysTrust() trustSaid {
	s := trustSaid{client: fingerprint(p.id.CA()), server: fingerprint(p.id.ServerCA())}
	for _, ca := range p.id.CAs() {
		s.trusted = append(s.trusted, fingerprint(ca))
	}
	return s
}

// obeyed reports whether a member has done what the phase asks of it; fresh is the new CA's fingerprint.
func (r *caRotation) obeyed(says trustSaid, fresh string) bool {
	switch r.Phase {
	case phaseTrust:
		return slices.Contains(says.trusted, fresh)
	case phaseSign:
		return says.client == fresh
	case phaseServe:
		return says.client == fresh && says.server == fresh
	case phaseForget:
		return says.client == fresh && slices.Equal(says.trusted, []string{fresh})
	}
	return true
}

// step returns the phase that is due, given what the members say.
func (r *caRotation) step(says map[string]trustSaid, fresh string, now time.Time) string {
	if r.Phase == phaseOverlap && !r.Finish && r.Until != nil && now.Before(*r.Until) {
		return r.Phase
	}
	for name, s := range says {
		if !slices.Contains(r.Without, name) && !r.obeyed(s, fresh) {
			return r.Phase
		}
	}
	return map[string]string{
		phaseTrust: phaseSign, phaseSign: phaseOverlap, phaseOverlap: phaseServe, phaseServe: phaseForget, phaseForget: api.RotationDone,
	}[r.Phase]
}

// signsBoth reports whether the new CA signs, and the old one only what the members show to those who call them.
func (r *caRotation) signsBoth() bool { return r.Phase == phaseSign || r.Phase == phaseOverlap }

// cas are the certificates of the old CA and the new.
func (r *caRotation) cas() (old, fresh *x509.Certificate, err error) {
	if old, err = pki.ParseCert(r.Old); err != nil {
		return nil, nil, err
	}
	fresh, err = pki.ParseCert(r.New)
	return old, fresh, err
}

// beginCARotation makes the record of a new rotation, or changes the one that is under way. False means that the record was changed
// meanwhile.
func (p *Peer) beginCARotation(ctx context.Context, req api.RotationRequest) (bool, error) {
	r, rev, ok, err := read[caRotation](p.raft, caRotationKey)
	if err != nil {
		return false, err
	}
	underWay := ok && r.Phase != api.RotationDone
	if req.OverlapSeconds < 0 {
		return false, failf(http.StatusBadRequest, "overlapSeconds must not be negative")
	}
	overlap := time.Duration(req.OverlapSeconds) * time.Second
	switch {
	case req.Finish && !ok:
		return false, failf(http.StatusConflict, "no rotation of the CA is under way: begin one with: shoal rotate ca")
	case req.Finish && !underWay:
		return true, nil // it has ended by itself
	case underWay:
		r.Without, r.Finish = and(r.Without, req.Without), r.Finish || req.Finish
		if overlap > 0 && r.Until != nil {
			until := r.Until.Add(overlap - r.Overlap)
			r.Until = &until
		}
		if overlap > 0 {
			r.Overlap = overlap
		}
		return p.save(ctx, caRotationKey, rev, r)
	}
	if overlap == 0 {
		overlap = p.cfg.Master.AdminCertificates
	}
	r = caRotation{
		rotation: rotation{ID: randomID(), Phase: phaseTrust, Without: and(nil, req.Without), Started: p.now().UTC()}, Overlap: overlap,
	}
	return p.save(ctx, caRotationKey, rev, r)
}

// stepCARotation does what is due. It is called by the one who also gives voters the CAs' keys, so that neither overtakes the other.
func (p *Peer) stepCARotation(ctx context.Context) (time.Duration, error) {
	r, rev, ok, err := read[caRotation](p.raft, caRotationKey)
	if err != nil || !ok || r.Phase == api.RotationDone {
		return 0, err
	}
	if r.New == nil {
		return 0, p.makeCA(ctx, r, rev)
	}
	_, fresh, err := r.cas()
	if err != nil {
		return 0, err
	}
	members, err := p.memberRecords()
	if err != nil {
		return 0, err
	}
	says := map[string]trustSaid{}
	for name := range members {
		s, _ := p.said(name, metaCA)
		says[name] = parseTrust(s)
	}
	now := p.now()
	next := r.step(says, fingerprint(fresh), now)
	if next == r.Phase {
		if r.Phase == phaseOverlap && r.Until != nil {
			return min(r.Until.Sub(now), maxSleep), nil
		}
		return 0, nil
	}
	r.Phase = next
	t := rotationTxn{key: caRotationKey, rev: rev}
	switch next {
	case phaseSign: // from the same moment on for every Master
		err = p.reseal(&t, r.New, r.Old)
	case phaseOverlap:
		until := now.Add(r.Overlap).UTC()
		r.Until = &until
	case phaseForget:
		err = p.reseal(&t, r.New)
	case api.RotationDone:
		end := now.UTC()
		r.Finished = &end
	}
	if err != nil {
		return 0, err
	}
	p.log.Info("the cluster gets a new CA", "rotation", r.ID, "phase", next)
	_, err = t.propose(ctx, p.raft, r)
	return 0, err
}

// maxSleep bounds a timer, as the clock may be set.
const maxSleep = 12 * time.Hour

// makeCA makes the new CA, when its rotation has begun.
func (p *Peer) makeCA(ctx context.Context, r caRotation, rev store.Rev) error {
	p.waitCA(ctx)
	old, err := openCA(p.raft, p.id)
	if err != nil {
		return err
	}
	fresh, err := pki.NewCA(p.memory.ClusterID, p.now())
	if err != nil {
		return err
	}
	key, err := fresh.KeyPEM()
	if err != nil {
		return err
	}
	r.Old, r.New = old.CertPEM(), fresh.CertPEM()
	t := rotationTxn{key: caRotationKey, rev: rev, keys: key}
	if err := p.reseal(&t, r.Old, r.New); err != nil {
		return err
	}
	p.log.Info("the cluster gets a new CA", "rotation", r.ID, "phase", r.Phase)
	_, err = t.propose(ctx, p.raft, r)
	return err
}

func (p *Peer) caRotationStatus() (api.Rotation, error) {
	r, _, ok, err := read[caRotation](p.raft, caRotationKey)
	if err != nil {
		return api.Rotation{}, err
	}
	members, err := p.memberRecords()
	if err != nil {
		return api.Rotation{}, err
	}
	fresh := ""
	if ok && r.New != nil {
		_, cert, err := r.cas()
		if err != nil {
			return api.Rotation{}, err
		}
		fresh = fingerprint(cert)
	}
	out := r.status(api.RotateCA, slices.Sorted(maps.Keys(members)), func(name string) string {
		if s, _ := p.said(name, metaCA); !r.obeyed(parseTrust(s), fresh) {
			return p.lateness(name, metaCA)
		}
		return ""
	})
	out.Until = r.Until
	return out, nil
}
