package api

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"shoal/internal/audit"
	"shoal/master/auth"
)

// Auditor keeps what was asked and decided. It may block for a moment. Safe for concurrent use.
type Auditor interface {
	Write(r audit.Record)
}

// strangers bounds how many refused requests of who is nobody are noted: they must not push the rest out of the log.
type strangers struct {
	limit *rate.Limiter

	mu     sync.Mutex
	missed int
}

const (
	strangersASecond = 20
	strangersAtOnce  = 200
)

func newStrangers() *strangers {
	return &strangers{limit: rate.NewLimiter(strangersASecond, strangersAtOnce)}
}

// note reports whether one more may be noted, and how many were not before it.
func (s *strangers) note(now time.Time) (ok bool, missed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.limit.AllowN(now, 1) {
		s.missed++
		return false, 0
	}
	missed, s.missed = s.missed, 0
	return true, missed
}

// withAudit notes what is asked: every write, every conversation with a pod or a proxy, who reads Secrets, and whatever is refused. Not what machines do
// all the time: events, leases, and what nodes say of themselves and their pods. A write is noted where it comes in and, if that is another peer, by the
// Master too: a peer that somebody has taken over does not pass unseen.
func (s *Server) withAudit(next handler) handler {
	if s.cfg.Audit == nil {
		return next
	}
	return func(w http.ResponseWriter, r *request) {
		next(w, r)
		code := r.answer.code
		switch {
		case code == http.StatusUnauthorized || code == http.StatusForbidden:
			s.noteRefusal(r, code)
		case r.noted && r.lasts():
		case r.noteworthy():
			s.note(r, audit.Record{Decision: audit.Allow, Code: code, Revision: w.Header().Get(headerRevision), Name: w.Header().Get(headerName)})
		}
	}
}

// noteBeginning notes what lasts as long as the client wants when it begins.
func (s *Server) noteBeginning(r *request) {
	if s.cfg.Audit != nil && r.lasts() && r.noteworthy() {
		r.noted = true
		s.note(r, audit.Record{Decision: audit.Allow})
	}
}

func (s *Server) noteRefusal(r *request, code int) {
	record := audit.Record{Decision: audit.Forbid, Code: code}
	if r.user == nil || slices.Contains(r.user.Groups, auth.UnauthenticatedGroup) {
		ok, missed := s.strangers.note(s.cfg.Now())
		if !ok {
			return
		}
		if missed > 0 {
			record.Note = fmt.Sprintf("before it %d refused requests of strangers were not noted", missed)
		}
	}
	s.note(r, record)
}

// note writes a record of what a request is about.
func (s *Server) note(r *request, n audit.Record) {
	n.Annotations = r.notes
	n.Time, n.From, n.Agent, n.Verb = s.cfg.Now(), r.RemoteAddr, r.UserAgent(), r.Verb
	if u := r.user; u != nil {
		n.User, n.Groups, n.By = u.Name, u.Groups, u.By
	}
	if r.IsResource {
		n.Group, n.Resource, n.Subresource, n.Namespace, n.Name = r.Group, r.Resource, r.Subresource, r.Namespace, cmp.Or(r.Name, n.Name)
	} else {
		n.Path = r.URL.Path
	}
	if r.Header.Get(auth.ForwardedHeader) != "" && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		n.Via = strings.TrimPrefix(r.TLS.PeerCertificates[0].Subject.CommonName, auth.NodePrefix)
	}
	s.cfg.Audit.Write(n)
}

// lasts reports whether a request may last as long as the client wants.
func (r *request) lasts() bool {
	return r.Verb == "watch" || streams(r.Resource, r.Subresource) || proxied(r.Resource, r.Subresource)
}

// noteworthy reports whether a request that is let through is noted.
func (r *request) noteworthy() bool {
	switch {
	case r.user == nil: // nobody knows yet whether it is let through
		return false
	case r.extra():
		return r.Method != http.MethodGet && r.Method != http.MethodHead
	case !r.IsResource, isQuestion(r.Group), r.Resource == "events", r.Resource == "leases":
		return false
	case r.Resource == "secrets":
		return true
	case streams(r.Resource, r.Subresource):
		return r.Subresource != "log"
	case proxied(r.Resource, r.Subresource):
		return true
	}
	routine := r.Subresource == "status" && slices.Contains(r.user.Groups, auth.NodesGroup)
	return r.isWrite() && !routine
}
