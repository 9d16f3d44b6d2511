package containerd

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/containerd/containerd/v2/client"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"

	"shoal/node/runtime"
)

// pull fetches and unpacks an image. Content that is there already is not fetched again.
func (r *Runtime) pull(ctx context.Context, name string) (*image, error) {
	// The library logs what it also returns, by a global logger of its own.
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	ctx = log.WithLogger(ctx, logrus.NewEntry(silent))
	resolver := docker.NewResolver(docker.ResolverOptions{
		Hosts: docker.ConfigureDefaultRegistries(
			docker.WithAuthorizer(docker.NewDockerAuthorizer()),
			docker.WithPlainHTTP(func(host string) (bool, error) { return r.plain(host), nil }),
		),
	})
	got, err := r.client.Pull(ctx, name,
		client.WithResolver(resolver),
		client.WithPullUnpack,
		client.WithPullSnapshotter(r.snapshotter),
	)
	if err != nil {
		return nil, &runtime.Error{Reason: runtime.ReasonImagePull, Err: fmt.Errorf("pull %s: %w", name, err)}
	}
	r.images.forget(name)
	i, err := r.load(ctx, got)
	if err != nil {
		return nil, &runtime.Error{Reason: runtime.ReasonImagePull, Err: fmt.Errorf("pull %s: %w", name, err)}
	}
	return i, nil
}

// plain reports whether a registry is spoken to without TLS.
func (r *Runtime) plain(host string) bool {
	bare, _, err := net.SplitHostPort(host)
	if err != nil {
		bare = host
	}
	if slices.Contains(r.config.PlainHTTP, host) || slices.Contains(r.config.PlainHTTP, bare) || bare == "localhost" {
		return true
	}
	ip := net.ParseIP(bare)
	return ip != nil && ip.IsLoopback()
}

// rename gives an image its whole name instead of the one it was imported under.
func (r *Runtime) rename(ctx context.Context, m cimages.Image, name string) error {
	store := r.client.ImageService()
	old := m.Name
	m.Name = name
	if _, err := store.Update(ctx, m, "target", "labels"); errdefs.IsNotFound(err) {
		if _, err := store.Create(ctx, m); err != nil {
			return fmt.Errorf("name image %s: %w", name, err)
		}
	} else if err != nil {
		return fmt.Errorf("name image %s: %w", name, err)
	}
	return store.Delete(ctx, old)
}
