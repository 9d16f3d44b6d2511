package containerd

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/client"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"shoal/node/runtime"
)

// labelWith says which credentials an image was pulled with, by their IDs and separated by commas. An image without it was imported.
const labelWith = "shoal.io/pulled-with"

// withMost is how many an image remembers, the newest: a label of containerd's is at most 4096 characters long, and passwords that change by the hour would fill it.
const withMost = 32

func withOf(labels map[string]string) []string {
	if l := labels[labelWith]; l != "" {
		return strings.Split(l, ",")
	}
	return nil
}

// pull has an image fetched and unpacked. Content that is there already is not fetched again.
func (r *Runtime) pull(ctx context.Context, name string, creds []runtime.Credential) (*image, error) {
	// The library logs what it also returns, by a global logger of its own.
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	ctx = log.WithLogger(ctx, logrus.NewEntry(silent))
	found, err := r.config.Sources.Find(ctx, name, creds)
	if err != nil {
		return nil, err
	}
	with, err := r.alsoWith(ctx, name, found.Target.Digest, found.With)
	if err != nil {
		return nil, err
	}
	if with == nil { // as it is here
		return r.local(ctx, name)
	}
	var got client.Image
	err = found.Fetch(ctx, func(from remotes.Resolver) (err error) {
		got, err = r.client.Pull(ctx, name,
			client.WithResolver(from),
			client.WithPullUnpack,
			client.WithPullSnapshotter(r.snapshotter),
			client.WithPullLabel(labelWith, strings.Join(with, ",")),
		)
		return err
	})
	if err != nil {
		return nil, err
	}
	r.images.forget(name)
	return r.load(ctx, got)
}

// alsoWith returns what an image may be had with once it has been had with one more credential; nil when it is here and that is known. Credentials
// that another content was had with say nothing of this one.
func (r *Runtime) alsoWith(ctx context.Context, name string, target digest.Digest, with string) ([]string, error) {
	have, err := r.local(ctx, name)
	if errdefs.IsNotFound(err) || err == nil && have.target.Digest != target {
		return []string{with}, nil
	}
	if err != nil {
		return nil, err
	}
	if len(have.with) == 0 || slices.Contains(have.with, with) {
		return nil, nil
	}
	all := append(slices.Clone(have.with), with)
	return all[max(0, len(all)-withMost):], nil
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
