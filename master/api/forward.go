package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shoalapi "shoal/internal/api"
	"shoal/master/auth"
	"shoal/master/registry"
)

const (
	// masterWait is how long a write waits for a Master to exist.
	masterWait = 5 * time.Second
	// deposedGrace is how long the answer of a Master that lost its role is still waited for.
	deposedGrace = 500 * time.Millisecond
	// settleWait bounds how long an answer is held back until this peer's replica includes its write.
	settleWait = 5 * time.Second

	// headerNotMaster marks an answer of a peer that was taken for the Master: nothing was done.
	headerNotMaster = "X-Shoal-Not-Master"
)

// withForward is the one place where writes go to the Master. A request that was forwarded is never forwarded again:
// if another peer is the Master, this one says so and the first peer looks again.
func (s *Server) withForward(next handler) handler {
	return func(w http.ResponseWriter, r *request) {
		if !r.forMaster() {
			next(w, r)
			return
		}
		s.toMaster(w, r, next)
	}
}

// toMaster serves r here or at the Master, waiting a bounded time for there to be one. A forwarded request waits too: others
// hear of a new Master a moment before it has taken up its role, and would not hear when it has.
func (s *Server) toMaster(w http.ResponseWriter, r *request, next handler) {
	forwarded := r.Header.Get(auth.ForwardedHeader) != ""
	ctx, cancel := context.WithTimeout(r.Context(), masterWait)
	defer cancel()
	r.mayWait = true
	for {
		changed := s.cfg.Peers.Changed()
		master, ok := s.cfg.Peers.Master()
		switch {
		case ok && master == s.cfg.Peers.Self():
			if next(w, r); !r.again {
				return
			}
			// It lost the role, or has not yet taken it up: nothing was done.
			r.again = false
			w.Header().Del("Warning")
		case ok && forwarded:
			r.mayWait = false
			w.Header().Set(headerNotMaster, "1")
			s.fail(w, r, registry.Unavailable("this peer is not the Master"))
			return
		case ok && s.redirected(w, r, master):
			return
		case ok:
			if s.atMaster(w, r, master) {
				return
			}
		}
		if r.waits(ctx, changed) {
			r.mayWait = false
			if forwarded {
				w.Header().Set(headerNotMaster, "1")
			}
			s.fail(w, r, registry.Unavailable("there is no Master to take this write: is a majority of the voters up?"))
			return
		}
	}
}

// redirected sends the client to the Master itself where that would not believe this peer whose request it is. A token would
// speak for itself.
func (s *Server) redirected(w http.ResponseWriter, r *request, master string) bool {
	if r.user == nil || r.Header.Get("Authorization") != "" {
		return false
	}
	address, ok := s.cfg.Peers.Redirect(r.user, master)
	if ok {
		s.fail(w, r, Redirect(w, r.Request, r.user, address))
	}
	return ok
}

// Redirect sends a client to the Master's API, and returns what to tell one that does not follow.
func Redirect(w http.ResponseWriter, r *http.Request, u *User, address string) *apierrors.StatusError {
	to := url.URL{Scheme: "https", Host: address, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	w.Header().Set("Location", to.String())
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusTemporaryRedirect, Reason: "TemporaryRedirect",
		Message: fmt.Sprintf("%s, and the others do not take its word for %s: ask the Master, at https://%s", shoalapi.NoVote, u.Name, address),
	}}
}

// atMaster has the Master answer r; false means that it certainly did not act on it.
func (s *Server) atMaster(w http.ResponseWriter, r *request, master string) bool {
	body, err := r.body(w)
	if err != nil {
		s.fail(w, r, err)
		return true
	}
	r.turns.seat.Yield()
	resp, err := s.forward(r, master, body)
	if err == nil && resp.Header.Get(headerNotMaster) == "" {
		r.turns.seat.Leave() // there is nothing left to compute
		s.relay(w, r, resp)
		return true
	}
	r.turns.seat.Resume()
	switch {
	case err == nil:
		_ = resp.Body.Close()
		return false
	case unsent(err):
		return false
	}
	s.fail(w, r, apierrors.NewTimeoutError("the Master did not answer: the write may or may not have happened", 0))
	return true
}

// unsent reports whether an error means that the request has not reached the other peer.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// forward sends the raw request to the Master with the user asserted. It gives up when another peer has become Master.
func (s *Server) forward(r *request, master string, body []byte) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	out := r.Clone(ctx)
	out.Body = io.NopCloser(bytes.NewReader(body))
	out.ContentLength = int64(len(body))
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.Header.Del("Accept-Encoding") // the answer is compressed here, if at all
	out.Header.Del("Connection")
	if r.user != nil {
		user := auth.User(*r.user)
		auth.Forward(out.Header, &user)
	}
	done := make(chan struct{})
	defer close(done)
	go s.giveUp(master, &sent, done, cancel)
	resp, err := s.cfg.Peers.RoundTripTo(master, out)
	if err != nil {
		cancel(err)
		return nil, err
	}
	resp.Body = &cancelled{resp.Body, cancel}
	return resp, nil
}

// giveUp ends a forwarded request soon after its Master has been replaced, and at once if there is no connection yet to send
// it on.
func (s *Server) giveUp(master string, sent *atomic.Bool, done <-chan struct{}, cancel context.CancelCauseFunc) {
	for {
		changed := s.cfg.Peers.Changed()
		if now, ok := s.cfg.Peers.Master(); ok && now != master {
			grace := deposedGrace
			if !sent.Load() {
				grace = 0
			}
			t := time.NewTimer(grace)
			defer t.Stop()
			select {
			case <-t.C:
				cancel(errors.New("another peer is the Master"))
			case <-done:
			}
			return
		}
		select {
		case <-changed:
		case <-done:
			return
		}
	}
}

// cancelled frees a request's context with its body.
type cancelled struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (c *cancelled) Close() error {
	err := c.ReadCloser.Close()
	c.cancel(nil)
	return err
}

// relay passes the Master's answer on once this peer's replica includes the write, so that the client's next read
// here sees it.
func (s *Server) relay(w http.ResponseWriter, r *request, resp *http.Response) {
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.fail(w, r, apierrors.NewTimeoutError("the Master's answer broke off: the write may or may not have happened", 0))
		return
	}
	if rev, err := strconv.ParseUint(resp.Header.Get(headerRevision), 10, 64); err == nil {
		ctx, cancel := context.WithTimeout(r.Context(), settleWait)
		_ = s.reg.WaitRevision(ctx, rev) // late is better than never: the write has happened
		cancel()
	}
	maps.Copy(w.Header(), resp.Header)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(body)
}
