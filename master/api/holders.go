package api

import (
	"context"
	"io"
	"maps"
	"net/http"

	"shoal/master/auth"
	"shoal/master/registry"
)

// headerLocked marks an answer of a peer that was asked for what it has no key to.
const headerLocked = "X-Shoal-Locked"

// withHolders sends reads of what this peer has no key to (Secrets, on peers without a vote) to one that has. Writes go to the Master anyway.
func (s *Server) withHolders(next handler) handler {
	return func(w http.ResponseWriter, r *request) {
		if !r.IsResource || s.cfg.Locked == nil || r.isWrite() || !s.cfg.Locked(r.Group, r.Resource) {
			next(w, r)
			return
		}
		s.toHolder(w, r, next)
	}
}

// toHolder has the first holder that can answer a read. A peer that is given the key meanwhile answers itself.
func (s *Server) toHolder(w http.ResponseWriter, r *request, next handler) {
	ctx, cancel := context.WithTimeout(r.Context(), masterWait)
	defer cancel()
	for s.cfg.Locked(r.Group, r.Resource) {
		changed := s.cfg.Peers.Changed()
		if r.Header.Get(auth.ForwardedHeader) != "" {
			w.Header().Set(headerLocked, "1")
			s.fail(w, r, registry.Unavailable("this peer has no key to these objects"))
			return
		}
		for _, holder := range s.cfg.Peers.Holders() {
			if s.redirected(w, r, holder) || s.atHolder(w, r, holder) {
				return
			}
		}
		if r.waits(ctx, changed) {
			s.fail(w, r, registry.Unavailable("only voters have the key to these objects, and none of them answers"))
			return
		}
	}
	next(w, r)
}

// atHolder passes a read and its answer on, as it comes; false when the other peer could not be asked.
func (s *Server) atHolder(w http.ResponseWriter, r *request, holder string) bool {
	out := r.Clone(r.Context())
	if r.user != nil {
		user := auth.User(*r.user)
		auth.Forward(out.Header, &user)
	}
	r.turns.seat.Yield()
	resp, err := s.cfg.Peers.RoundTripTo(holder, out)
	if err != nil {
		r.turns.seat.Resume()
		return r.Context().Err() != nil // a read may be asked again
	}
	defer resp.Body.Close()
	if resp.Header.Get(headerLocked) != "" {
		r.turns.seat.Resume()
		return false
	}
	r.turns.leave() // there is nothing left to compute, and a watch lasts
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	answer := http.NewResponseController(w)
	buf := make([]byte, 16<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil || answer.Flush() != nil {
				return true
			}
		}
		if err == io.EOF {
			return true
		}
		if err != nil {
			panic(http.ErrAbortHandler) // so that the client does not take it for whole
		}
	}
}
