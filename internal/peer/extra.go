package peer

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/pprof"
	"slices"
	"time"

	"shoal/internal/api"
	masterapi "shoal/master/api"
	"shoal/master/auth"
)

// extra serves the paths below /shoal/: what is about peers and not about objects.
func (p *Peer) extra() http.Handler {
	m := http.NewServeMux()
	m.Handle("DELETE /shoal/v1/peers/{name}", p.admins(p.survivors(p.onTheMaster(func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, p.remove(r.Context(), r.PathValue("name")))
	}))))
	m.HandleFunc("GET /shoal/v1/peers", func(w http.ResponseWriter, _ *http.Request) { answer(w, p.list(), nil) })
	m.Handle("GET /shoal/v1/tokens", p.admins(p.onTheMaster(func(w http.ResponseWriter, _ *http.Request) {
		all, err := p.tokens()
		answer(w, all, err)
	})))
	m.Handle("POST /shoal/v1/tokens", p.admins(p.onTheMaster(func(w http.ResponseWriter, r *http.Request) {
		var req api.TokenRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&req); err != nil {
			fail(w, failf(http.StatusBadRequest, "body: %v", err))
			return
		}
		made, err := p.newToken(r.Context(), req)
		answer(w, made, err)
	})))
	m.Handle("DELETE /shoal/v1/tokens/{id}", p.admins(p.onTheMaster(func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, p.revokeToken(r.Context(), r.PathValue("id")))
	})))
	m.Handle("GET /shoal/v1/rotations/{what}", p.admins(p.onTheMaster(p.serveRotation)))
	m.Handle("POST /shoal/v1/rotations/{what}", p.admins(p.onTheMaster(p.beginRotation)))
	m.Handle("GET /shoal/v1/peers/{name}/images", p.admins(p.onThatPeer(p.withRuntime(p.listImages))))
	m.Handle("POST /shoal/v1/peers/{name}/images", p.admins(p.onThatPeer(p.withRuntime(p.importImage))))
	m.Handle("POST /shoal/v1/peers/{name}/images/pull", p.admins(p.onThatPeer(p.withRuntime(p.pullImage))))
	m.HandleFunc("GET /shoal/v1/history", p.serveHistory)
	m.HandleFunc("GET /shoal/v1/who-can", p.serveWhoCan)
	m.Handle("GET /shoal/v1/backup", p.admins(http.HandlerFunc(p.serveBackup)))
	m.Handle("GET /shoal/v1/rotations/secrets", p.admins(p.onTheMaster(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, p.sealingStatus(), nil)
	})))
	m.Handle("POST /shoal/v1/rotations/secrets", p.admins(p.onTheMaster(func(w http.ResponseWriter, r *http.Request) {
		out, err := p.rotateRing(r.Context())
		answer(w, out, err)
	})))
	m.Handle("POST /shoal/v1/restore", p.admins(p.onTheMaster(p.serveRestore)))
	m.Handle("/shoal/v1/pprof/", p.admins(http.StripPrefix("/shoal/v1/pprof/", http.HandlerFunc(profile))))
	m.HandleFunc("/shoal/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, failf(http.StatusNotFound, "no such path: %s %s", r.Method, r.URL.Path))
	})
	return m
}

// profile serves this peer's profiles by name: heap, goroutine, profile (of the CPU, ?seconds=N) and so on.
func profile(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "profile":
		pprof.Profile(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Handler(r.URL.Path).ServeHTTP(w, r)
	}
}

// admins lets only administrators through.
func (p *Peer) admins(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := masterapi.UserFrom(r.Context())
		if u == nil || !slices.Contains(u.Groups, auth.MastersGroup) {
			fail(w, failf(http.StatusForbidden, "only administrators (group %s) may", auth.MastersGroup))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// onTheMaster runs next on the Master; another peer sends the request there, once.
func (p *Peer) onTheMaster(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		master, err := p.waitMaster(r.Context())
		if err != nil {
			fail(w, err)
			return
		}
		p.onPeer(master, next, w, r)
	})
}

// onThatPeer runs next on the peer that the path names.
func (p *Peer) onThatPeer(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.onPeer(r.PathValue("name"), next, w, r) })
}

func (p *Peer) onPeer(name string, next http.HandlerFunc, w http.ResponseWriter, r *http.Request) {
	switch {
	case name == p.cfg.Name:
		next(w, r)
	case r.Header.Get(auth.ForwardedHeader) != "":
		w.Header().Set("Retry-After", "1")
		fail(w, failf(http.StatusServiceUnavailable, "sent on to %s, which is not %s", p.cfg.Name, name))
	case p.redirected(w, r):
	default:
		p.sendOn(w, r, name)
	}
}

// onHolder has a peer answer that can open Secrets, from one that cannot.
func (p *Peer) onHolder(next http.HandlerFunc, w http.ResponseWriter, r *http.Request) {
	all := peers{p}.Holders()
	if len(all) == 0 {
		fail(w, failf(http.StatusServiceUnavailable, "%v, and none is known", errLocked))
		return
	}
	p.onPeer(all[0], next, w, r)
}

// sendOn passes a request on to another peer with its user asserted, and the answer back.
func (p *Peer) sendOn(w http.ResponseWriter, r *http.Request, name string) {
	out := r.Clone(r.Context())
	assertUser(out, masterapi.UserFrom(r.Context()))
	resp, err := p.transport.RoundTripTo(name, out)
	if err != nil {
		fail(w, failf(http.StatusBadGateway, "%v", err))
		return
	}
	defer resp.Body.Close()
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// withRuntime refuses a request when the container runtime does not come up soon, instead of letting it hang.
func (p *Peer) withRuntime(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-p.machine.runtime.Ready():
			next(w, r)
		case <-time.After(2 * masterWait):
			fail(w, failf(http.StatusServiceUnavailable, "the container runtime of %s is not ready: see shoal describe node %s", p.cfg.Name, p.cfg.Name))
		case <-r.Context().Done():
		}
	}
}
