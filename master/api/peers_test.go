package api_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"shoal/internal/client"
	"shoal/master/api"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

// cluster is a Master and a follower, each with a server on its own replica.
type cluster struct {
	log     *registrytest.Log
	replica *registrytest.Replica
	master  *peer
	other   *peer
	dialing chan struct{} // gets one for each request to "gone"

	mu     sync.Mutex
	leader string
}

// peer is one server, seen from outside by its URL.
type peer struct {
	c    *cluster
	name string
	reg  *registry.Registry
	http *httptest.Server
	down bool // for the other peers
	// voteless: nobody takes its word for an administrator.
	voteless bool
	// locked is the resource that this peer has no key to.
	locked string

	changed chan struct{}
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{log: registrytest.NewLog(), leader: "master", dialing: make(chan struct{}, 1)}
	c.replica = registrytest.NewReplica(t, c.log)
	c.master = c.start(t, "master", c.log)
	c.other = c.start(t, "other", c.replica)
	return c
}

func (c *cluster) start(t *testing.T, name string, l registry.Log) *peer {
	t.Helper()
	p := &peer{c: c, name: name, changed: make(chan struct{}), reg: registrytest.Start(t, registrytest.Config(l))}
	srv := api.New(api.Config{Registry: p.reg, Auth: everyone{}, Peers: p, Locked: p.isLocked})
	p.http = httptest.NewServer(srv)
	t.Cleanup(p.http.Close)
	return p
}

func (c *cluster) setLeader(name string) {
	c.mu.Lock()
	c.leader = name
	c.mu.Unlock()
	c.master.wake()
	c.other.wake()
}

// wake tells one peer alone that something changed.
func (p *peer) wake() {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *peer) Self() string { return p.name }

func (p *peer) Master() (string, bool) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.c.leader, p.c.leader != ""
}

// Redirect distrusts a peer without a vote about an administrator.
func (p *peer) Redirect(u *api.User, master string) (string, bool) {
	return master + ":6443", p.voteless && slices.Contains(u.Groups, "system:masters")
}

// Holders are a machine that is off and the Master.
func (p *peer) Holders() []string { return []string{"off", "master"} }

func (p *peer) isLocked(_, resource string) bool {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.locked == resource
}

func (p *peer) lock(resource string) {
	p.c.mu.Lock()
	p.locked = resource
	p.c.mu.Unlock()
	p.wake()
}

func (p *peer) Changed() <-chan struct{} {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.changed
}

func (p *peer) RoundTripTo(name string, r *http.Request) (*http.Response, error) {
	if name == "gone" { // a machine that does not answer at all
		p.c.dialing <- struct{}{}
		<-r.Context().Done()
		return nil, &net.OpError{Op: "dial", Err: r.Context().Err()}
	}
	to := map[string]*peer{"master": p.c.master, "other": p.c.other}[name]
	if to == nil || to.isDown() {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = "http", to.http.Listener.Addr().String()
	return http.DefaultTransport.RoundTrip(out)
}

func (p *peer) isDown() bool {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.down
}

func (p *peer) setDown(down bool) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.down = down
}

func (p *peer) client(t *testing.T) *client.HTTP {
	t.Helper()
	h, err := client.NewHTTP(client.HTTPConfig{BaseURLs: []string{p.http.URL}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// everyone lets everybody do everything, except that "nobody" may do nothing and a request without a name is refused
// when it says so.
type everyone struct{}

func (everyone) Authenticate(r *http.Request) (*api.User, error) {
	switch name := r.Header.Get("Test-User"); name {
	case "":
		if forwarded := r.Header.Get("X-Shoal-User"); forwarded != "" {
			return &api.User{Name: forwarded, Groups: r.Header.Values("X-Shoal-Groups")}, nil
		}
		return &api.User{Name: "admin", Groups: []string{"system:masters"}}, nil
	case "anonymous":
		return nil, apierrors.NewUnauthorized("Unauthorized")
	default:
		return &api.User{Name: name}, nil
	}
}

func (everyone) Rules(context.Context, *api.User, string) ([]rbacv1.PolicyRule, error) {
	return []rbacv1.PolicyRule{
		{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}, {Verbs: []string{"get"}, NonResourceURLs: []string{"*"}},
	}, nil
}

func (everyone) Authorize(_ context.Context, u *api.User, a *api.Attributes) error {
	if u.Name == "nobody" {
		return apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: a.Resource}, a.Name, errors.New("nobody may"))
	}
	return nil
}
