package peer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sync/errgroup"

	"shoal/internal/api"
	"shoal/internal/pki"
	"shoal/node/images"
)

// masterWait is how long a request waits for a Master before it is refused.
const masterWait = 5 * time.Second

// serve answers HTTP on the mux's connections until ctx ends, and then lets requests under way end for a moment.
func (p *Peer) serve(ctx context.Context) error {
	srv := p.httpServer(p.front)
	clients, others := streamsUntilSilent(silence, clientStreams), streamsUntilSilent(silence, peerStreams)
	for _, h2 := range []*http2.Server{clients, others} {
		if err := http2.ConfigureServer(srv, h2); err != nil {
			return err
		}
	}
	srv.TLSNextProto["h2"], srv.TLSNextProto[protoPeer] = gathered(clients), gathered(others)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serveUntil(ctx, srv, p.mux.http) })
	g.Go(func() error { return serveUntil(ctx, p.streamServer(), plain{p.mux.stream}) })
	return g.Wait()
}

// silence is after how long a connection that takes nothing, or does not answer when asked whether it is still there, is given up: its
// watches hold memory, and TCP alone needs a quarter of an hour to tell.
const silence = 30 * time.Second

// How many requests one connection has at once. Each takes a goroutine and some 30 KiB before anything of it is read, and all of a connection
// together 1 MiB of bodies. Clients open another connection when they need more; a peer passes on what many clients send.
const (
	clientStreams = 250
	peerStreams   = 1000
)

// headersMost bounds the head of a request: tokens of an issuer, with all the groups of a user, are the longest there is.
const headersMost = 128 << 10

func streamsUntilSilent(d time.Duration, streams uint32) *http2.Server {
	return &http2.Server{MaxConcurrentStreams: streams, ReadIdleTimeout: d, PingTimeout: d / 2, WriteByteTimeout: d}
}

func (p *Peer) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: headersMost,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

// streamServer speaks HTTP/1.1 on connections of protoStream. net/http closes TLS connections of a protocol that it does
// not know, so it is shown plain ones, and the TLS state goes beside them.
func (p *Peer) streamServer() *http.Server {
	srv := p.httpServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.TLS, _ = r.Context().Value(tlsKey{}).(*tls.ConnectionState)
		p.front.ServeHTTP(w, r)
	}))
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		state := c.(plainConn).Conn.(*tls.Conn).ConnectionState()
		return context.WithValue(ctx, tlsKey{}, &state)
	}
	return srv
}

type tlsKey struct{}

// plain hides from net/http that its connections are TLS.
type plain struct{ net.Listener }

type plainConn struct{ net.Conn }

// Accept implements net.Listener.
func (l plain) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return plainConn{c}, nil
}

// serveUntil serves until ctx ends, or the mux that l is part of does: what ended the mux, it says itself. It may end a moment
// before its siblings hear that ctx has.
func serveUntil(ctx context.Context, srv *http.Server, l net.Listener) error {
	stopped := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close()
		}
	})
	defer stopped()
	if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
		return err
	}
	return nil
}

// routes are the paths that are not the Kubernetes API's. Those below /peer/ are for peers only.
func (p *Peer) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc(helloPath, func(w http.ResponseWriter, r *http.Request) {
		serveHello(w, r, p.cfg.ClusterSecret, p.answerHello)
	})
	m.HandleFunc("POST "+joinPath, p.serveJoin)
	m.Handle("POST /peer/join", p.peerOnly(p.serveJoin))
	m.Handle("POST /peer/certificate", p.peerOnly(p.signFor(p.signPeer)))
	m.Handle("POST /peer/admin", p.peerOnly(p.signFor(p.signAdmin)))
	m.Handle("POST "+bootstrapTokenPath, p.peerOnly(p.serveBootstrapToken))
	m.Handle("POST "+keyringPath, p.peerOnly(p.serveKeyring))
	m.Handle("POST /peer/consensus/{method}", p.peerOnly(p.serveConsensus))
	m.Handle("/peer/pods/", p.peerOnly(p.machine.node.Server().ServeHTTP))
	m.Handle(images.Path, p.peerOnly(p.serveImages()))
	m.Handle("/", p.api)
	return p.onlyTrusted(m)
}

// peerOnly lets only other peers through: the connection must have negotiated a protocol that only peers may.
func (p *Peer) peerOnly(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.TLS.NegotiatedProtocol != protoPeer && r.TLS.NegotiatedProtocol != protoStream || pki.PeerName(*r.TLS) == "" {
			http.Error(w, "for peers only", http.StatusForbidden)
			return
		}
		h(w, r)
	})
}

func (p *Peer) answerHello(context.Context, hello) hello {
	return hello{Name: p.cfg.Name, Address: p.address(), Member: true, CAHash: pki.Hash(p.id.ServerCA())}
}

// serveJoin lets a machine in, or passes its request on to the Master, once.
func (p *Peer) serveJoin(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var req joinRequest
	if err := json.Unmarshal(body, &req); err != nil {
		http.Error(w, "not a join request: "+err.Error(), http.StatusBadRequest)
		return
	}
	if r.URL.Path == joinPath { // else the peer that was asked has looked
		req.Known = ""
		if r.TLS != nil && req.Rejoin && len(req.Secret) == 0 && req.Bearer == "" {
			req.Known = pki.PeerName(*r.TLS)
		}
		if body, err = json.Marshal(req); err != nil {
			fail(w, err)
			return
		}
	}
	p.onMaster(w, r, body, "/peer/join", func(ctx context.Context) (any, error) { return p.admit(ctx, req) })
}

// onMaster runs f if this peer is the Master; else it asks the Master once, at a path for peers.
func (p *Peer) onMaster(w http.ResponseWriter, r *http.Request, body []byte, path string, f func(context.Context) (any, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*masterWait)
	defer cancel()
	master, err := p.waitMaster(ctx)
	if err != nil {
		fail(w, err)
		return
	}
	if master == p.cfg.Name {
		out, err := f(ctx)
		answer(w, out, err)
		return
	}
	if r.URL.Path == path {
		fail(w, failf(http.StatusServiceUnavailable, "%s is not the Master any more", p.cfg.Name))
		return
	}
	b, err := p.transport.post(ctx, master, path, body)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

// waitMaster returns the Master's name; it waits a bounded time for there to be one.
func (p *Peer) waitMaster(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, masterWait)
	defer cancel()
	for {
		changed := p.raft.Changed()
		if id, ok := p.raft.Leader(); ok {
			return string(id), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", failf(http.StatusServiceUnavailable, "no Master is known: is a majority of the voters up?")
		}
	}
}

func (p *Peer) serveConsensus(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := p.raft.Handle(r.Context(), peerID(pki.PeerName(*r.TLS)), r.PathValue("method"), body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write(out)
}

// answer writes a result as JSON, or its error as text.
func answer(w http.ResponseWriter, out any, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	b, err := json.Marshal(out)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

func fail(w http.ResponseWriter, err error) { http.Error(w, err.Error(), codeOf(err)) }

// list is the cluster as this peer sees it.
func (p *Peer) list() api.PeerList {
	st := p.raft.Status()
	out := api.PeerList{
		Peer: p.cfg.Name, ClusterID: p.memory.ClusterID, Term: st.Term, Revision: uint64(p.raft.Store().Rev()), Version: p.version,
	}
	if id, ok := p.raft.Leader(); ok {
		out.Master, out.Quorum = string(id), p.Liveness(string(id)) == api.Alive || string(id) == p.cfg.Name
	}
	for _, m := range p.members() {
		m.Role = p.role(m.Name, out.Master)
		out.Peers = append(out.Peers, m)
	}
	return out
}
