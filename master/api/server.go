// Package api is the HTTP face of a peer: the Kubernetes API on the wire, the same on every peer. Reads and watches are
// answered from this peer's replica, writes by the Master, to which the raw request is forwarded once. It decides nothing
// about objects (master/registry does) and nothing about users (Config.Auth does). internal/peer mounts it.
//
// Its invariant: what is refused is refused with a metav1.Status, and nothing is served before Auth has agreed.
package api

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"golang.org/x/sync/singleflight"

	shoalapi "shoal/internal/api"
	"shoal/master/api/openapi"
	"shoal/master/auth"
	"shoal/master/registry"
)

// Config is complete when passed to New.
type Config struct {
	Registry *registry.Registry
	// Auth decides who may do what.
	Auth Auth
	// Peers finds the Master and carries requests to it. Nil means that this peer is the only one.
	Peers Peers
	// Streams serves the pod subresources that end at the pod's peer. Nil answers them with 503.
	Streams PodStreams
	// Dial connects to pods and other endpoints, for the proxy subresources. Nil: as any process of this machine, within 30 s.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Usage asks the peer of a node what its machine and pods use, which takes about half a second. Nil: nobody can be asked.
	Usage func(ctx context.Context, node string) (*shoalapi.Usage, error)
	// Accounts is about the tokens of service accounts. Nil: there are none.
	Accounts Accounts
	// Extra serves the paths below /shoal/. It is asked after authentication and authorises by itself.
	Extra http.Handler
	// Locked reports whether this peer has no key to the objects of a resource: Peers.Holders answer for it. Nil: it has all.
	Locked func(group, resource string) bool
	// Audit keeps what was asked and decided. Nil: nobody does.
	Audit Auditor
	// Limits are how much one user may have of what is scarce.
	Limits Limits
	// Checks are what /livez and /readyz ask, besides whether this server answers at all.
	Checks []Check
	// Metrics writes more of what /metrics shows; see WriteGauge. Nil means there is no more.
	Metrics func(w io.Writer)
	Version string // of Shoal; /version names it behind Kubernetes'
	Now     func() time.Time
	Logger  *slog.Logger
}

// Auth authenticates and authorises. Implementations are safe for concurrent use.
type Auth interface {
	// Authenticate finds out who sent r. An error is a StatusError, usually 401; who is not let through as somebody else comes with it.
	Authenticate(r *http.Request) (*User, error)
	// Authorize returns nil if u may do a, else a StatusError, usually Forbidden.
	Authorize(ctx context.Context, u *User, a *Attributes) error
	// Rules returns what u may do in a namespace. With an error it is what is known.
	Rules(ctx context.Context, u *User, namespace string) ([]rbacv1.PolicyRule, error)
}

// Accounts issues and checks the tokens of service accounts. Implementations are safe for concurrent use.
type Accounts interface {
	// Issue signs a token. Only the Master can.
	Issue(ctx context.Context, t AccountToken) (token string, err error)
	// Review returns whose token it is and for which of the audiences; none means the cluster's own. An error says what is wrong
	// with the token.
	Review(ctx context.Context, token string, audiences []string) (u *User, of []string, err error)
	Issuer() string
	Audiences() []string
	// Keys is the key set (RFC 7517) that checks the tokens.
	Keys() ([]byte, error)
}

// AccountToken is a token to be issued.
type AccountToken struct {
	Account   *corev1.ServiceAccount
	Bound     shoalapi.Object // the Pod, Secret or Node that it ends with; nil: none
	Node      *corev1.Node    // of a bound pod; nil when it has none
	Audiences []string
	Life      time.Duration
}

// User is who sent a request.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
	By     string // who acts as this user; empty: the user itself
}

// Attributes are what a request wants to do.
type Attributes struct {
	Verb        string // get, list, watch, create, update, patch, delete, deletecollection; the method for other paths
	Group       string
	Version     string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	Path        string // for requests that are not about resources
	IsResource  bool
}

// Peers is what the server knows of the other peers.
type Peers interface {
	Self() string
	// Master returns the name of the Master, if there is one.
	Master() (name string, ok bool)
	// Changed returns a channel that is closed when Master next changes. Get it before asking.
	Changed() <-chan struct{}
	// Redirect returns where the API of the Master is if that would not take u's word from this peer.
	Redirect(u *User, master string) (address string, ok bool)
	// Holders are the peers that may have the key to what is Locked here, those to be asked first first.
	Holders() []string
	// RoundTripTo sends r to a peer. Errors of connecting wrap a *net.OpError with Op "dial".
	RoundTripTo(name string, r *http.Request) (*http.Response, error)
}

// PodStreams reaches pods on whatever peer they run.
type PodStreams interface {
	// ServePod answers a request for sub (log, exec, attach, portforward) of a pod of node. The user is in the context.
	ServePod(w http.ResponseWriter, r *http.Request, node string, pod *corev1.Pod, sub string)
}

// Server is an http.Handler. It is safe for concurrent use.
type Server struct {
	cfg       Config
	log       *slog.Logger
	reg       *registry.Registry
	codecs    *shoalapi.Codecs
	documents atomic.Pointer[discovery]
	openapi   *openapi.OpenAPI
	quorum    quorum
	counts    *instruments
	asking    singleflight.Group // for Usage, by node
	strangers *strangers
	gates     *gates
	handle    handler
}

// handler is an http.HandlerFunc with what the chain has found out so far.
type handler func(w http.ResponseWriter, r *request)

// New returns a server; it does nothing by itself.
func New(c Config) *Server {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Peers == nil {
		c.Peers = alone{}
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: 30 * time.Second}).DialContext // as Kubernetes: the machine may be off
	}
	scheme := shoalapi.NewScheme()
	s := &Server{
		cfg: c, log: c.Logger.With("component", "api"),
		reg: c.Registry, codecs: shoalapi.NewCodecs(scheme), counts: newInstruments(), strangers: newStrangers(), gates: newGates(c.Limits),
	}
	s.openapi = openapi.New(openapi.Config{
		Scheme: scheme,
		Resources: func() ([]openapi.Resource, uint64) {
			t := s.reg.Kinds()
			return described(t), t.Generation()
		},
		Version: kubeVersion,
	})
	// The order in which a request passes; read from the bottom.
	s.handle = s.dispatch
	s.handle = s.withHolders(s.handle)
	s.handle = s.withForward(s.handle)
	s.handle = s.withFairness(s.handle)
	s.handle = s.withAuthorization(s.handle)
	s.handle = s.withAuthentication(s.handle)
	s.handle = s.withAudit(s.handle)
	s.handle = s.withInstruments(s.handle)
	s.handle = s.withRequestInfo(s.handle)
	s.handle = s.withRecovery(s.handle)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.handle(w, &request{Request: r})
}

// withRecovery turns a panic into a 500; http.ErrAbortHandler keeps its meaning.
func (s *Server) withRecovery(next handler) handler {
	return func(w http.ResponseWriter, r *request) {
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.log.Error("request panicked", "path", r.URL.Path, "err", p, "stack", stack())
				s.fail(w, r, internalError("the server made a mistake with this request"))
			}
		}()
		next(w, r)
	}
}

func (s *Server) withAuthentication(next handler) handler {
	return func(w http.ResponseWriter, r *request) {
		u, err := s.cfg.Auth.Authenticate(r.Request)
		r.user = u // for the audit log, with an error too
		if err != nil {
			s.fail(w, r, err)
			return
		}
		next(w, r)
	}
}

func (s *Server) withAuthorization(next handler) handler {
	return func(w http.ResponseWriter, r *request) {
		var err error
		switch {
		case !r.extra():
			err = s.cfg.Auth.Authorize(r.Context(), r.user, r.judged())
		case slices.Contains(r.user.Groups, auth.UnauthenticatedGroup): // it authorises by itself, but no stranger has any business there
			err = strangerRefused()
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.noteBeginning(r)
		next(w, r)
	}
}

type userKey struct{}

// UserFrom returns who sent the request that ctx belongs to; nil in contexts that belong to none.
func UserFrom(ctx context.Context) *User {
	u, _ := ctx.Value(userKey{}).(*User)
	return u
}

type warnKey struct{}

// WarnFrom returns what shows a text to who sent the request that ctx belongs to, with the answer to a write; nil in contexts that belong to none.
func WarnFrom(ctx context.Context) func(text string) {
	f, _ := ctx.Value(warnKey{}).(func(string))
	return f
}

type noteKey struct{}

// NoteFrom returns what adds to what the audit log says of the request that ctx belongs to; nil in contexts that belong to none.
func NoteFrom(ctx context.Context) func(key, text string) {
	f, _ := ctx.Value(noteKey{}).(func(key, text string))
	return f
}

// context returns the request's context with its user, and where warnings and notes go.
func (r *request) context() context.Context {
	ctx := context.WithValue(r.Context(), userKey{}, r.user)
	ctx = context.WithValue(ctx, noteKey{}, func(key, text string) {
		if r.notes == nil {
			r.notes = map[string]string{}
		}
		r.notes[key] = text
	})
	return context.WithValue(ctx, warnKey{}, func(text string) {
		if !slices.Contains(r.warnings, text) { // a write that is computed anew is admitted again
			r.warnings = append(r.warnings, text)
		}
	})
}

// alone is Peers for a cluster of one.
type alone struct{}

func (alone) Self() string                          { return "" }
func (alone) Master() (string, bool)                { return "", true }
func (alone) Changed() <-chan struct{}              { return nil }
func (alone) Holders() []string                     { return nil }
func (alone) Redirect(*User, string) (string, bool) { return "", false }
func (alone) RoundTripTo(string, *http.Request) (*http.Response, error) {
	return nil, http.ErrNotSupported
}
