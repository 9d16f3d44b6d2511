package peer

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/pki"
	"shoal/node/images"
	"shoal/node/runtime"
)

// newImages wires where this machine's images come from.
func (p *Peer) newImages(c client.Interface) *images.Sources {
	return images.New(images.Config{
		PlainHTTP: p.cfg.Runtime.InsecureRegistries, Mirrors: p.cfg.Runtime.Mirrors, Peers: imagePeers{p}, Log: p.log,
		Holders: func(ctx context.Context, image string) []string { return holders(ctx, c, image) },
	})
}

// holders returns the Nodes that say they hold an image, by its name or its digest. A replica's answer is good enough: who has it not, says so.
func holders(ctx context.Context, c client.Interface, image string) []string {
	list, err := c.List(ctx, api.Nodes, client.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil
	}
	var out []string
	for _, o := range list.Items {
		node, ok := o.(*corev1.Node)
		if ok && slices.ContainsFunc(node.Status.Images, func(i corev1.ContainerImage) bool {
			return slices.ContainsFunc(i.Names, func(name string) bool { return name == image || strings.HasSuffix(name, "@"+image) })
		}) {
			out = append(out, node.Name)
		}
	}
	return out
}

// imagePeers are the other machines, for images.
type imagePeers struct{ p *Peer }

// Self implements images.Peers.
func (i imagePeers) Self() string { return i.p.cfg.Name }

// Members implements images.Peers. Machines agree on who is gone; for a moment, they may not on who answers.
func (i imagePeers) Members() []string { return i.in(api.Alive, api.Suspect, api.Silent) }

// Alive implements images.Peers.
func (i imagePeers) Alive() []string { return i.in(api.Alive) }

func (i imagePeers) in(states ...api.Liveness) (names []string) {
	for _, m := range i.p.members() {
		if slices.Contains(states, m.State) {
			names = append(names, m.Name)
		}
	}
	return names
}

// RoundTrip implements http.RoundTripper. Content goes on connections of its own: on the one that requests share, these would wait behind it.
func (i imagePeers) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.Path, images.Path+"v2/") {
		return i.p.transport.h1.RoundTrip(r)
	}
	return i.p.transport.h2.RoundTrip(r)
}

// serveImages lets other machines fetch what this one holds.
func (p *Peer) serveImages() http.HandlerFunc {
	h := p.machine.images.Handler(p.machine.runtime, func(r *http.Request) string { return pki.PeerName(*r.TLS) })
	return h.ServeHTTP
}

func (p *Peer) listImages(w http.ResponseWriter, r *http.Request) {
	held, _, err := p.machine.runtime.Images(r.Context())
	all := make([]api.PeerImage, 0, len(held))
	for _, i := range held {
		all = append(all, api.PeerImage{Name: i.Name, ID: i.ID, Size: i.Size})
	}
	answer(w, all, err)
}

func (p *Peer) importImage(w http.ResponseWriter, r *http.Request) {
	names, err := p.machine.runtime.Import(r.Context(), r.Body)
	if err != nil {
		err = failf(http.StatusBadRequest, "import: %v", err)
	}
	answer(w, names, err)
}

// pullImage has this machine pull an image before a pod needs it.
func (p *Peer) pullImage(w http.ResponseWriter, r *http.Request) {
	var req api.PullRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&req); err != nil {
		fail(w, failf(http.StatusBadRequest, "body: %v", err))
		return
	}
	pull := runtime.Pull{Policy: corev1.PullAlways}
	if req.Username != "" || req.Password != "" {
		c, err := images.Login(req.Image, req.Username, req.Password)
		if err != nil {
			fail(w, failf(http.StatusBadRequest, "%v", err))
			return
		}
		pull.Credentials = append(pull.Credentials, c)
	}
	got, err := p.machine.runtime.Image(r.Context(), req.Image, pull)
	if err != nil {
		fail(w, failf(http.StatusBadGateway, "%v", err))
		return
	}
	answer(w, api.PeerImage{Name: got.Name, ID: got.ID, Size: got.Size}, nil)
}
