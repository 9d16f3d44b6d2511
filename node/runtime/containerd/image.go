package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"

	"shoal/node/images"
	"shoal/node/keylock"
	"shoal/node/runtime"
)

// image is what a container's start needs of its image, so that a start reads nothing of it again.
type image struct {
	runtime.Image
	target ocispec.Descriptor
	with   []string // which credentials it was pulled with; nothing when everyone may have it
	chain  string   // the snapshot that containers are made from
	config ocispec.ImageConfig
	users  *users // read from the root filesystem by the first container
}

// imageCache caches images by name, and lets one call a name look at a time.
type imageCache struct {
	mu      sync.Mutex
	byName  map[string]*image
	busy    keylock.Locks // by name
	changed chan struct{} // closed and replaced when there may be others
}

func newImageCache() imageCache {
	return imageCache{byName: map[string]*image{}, changed: make(chan struct{})}
}

func (c *imageCache) get(name string) *image {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byName[name]
}

func (c *imageCache) put(name string, i *image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byName[name] = i
}

// forget is called when containerd's image of that name changes.
func (c *imageCache) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byName, name)
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *imageCache) whenChanged() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// normalize makes a reference whole: nginx is docker.io/library/nginx:latest.
func normalize(ref string) (string, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", &runtime.Error{Reason: runtime.ReasonInvalidImage, Err: fmt.Errorf("image %q: %w", ref, err)}
	}
	return named.String(), nil
}

// Image implements runtime.Interface.
func (r *Runtime) Image(ctx context.Context, ref string, p runtime.Pull) (runtime.Image, error) {
	name, err := normalize(ref)
	if err != nil {
		return runtime.Image{}, err
	}
	if err := r.enter(ctx); err != nil {
		return runtime.Image{}, err
	}
	if i := r.images.get(name); i != nil && p.Policy != corev1.PullAlways && i.may(name, p) {
		return i.as(ref), nil
	}
	unlock, err := r.images.busy.Lock(ctx, name)
	if err != nil {
		return runtime.Image{}, err
	}
	defer unlock()
	if p.Policy != corev1.PullAlways {
		i, err := r.local(ctx, name)
		switch {
		case err == nil && i.may(name, p):
			return i.as(ref), nil
		case err != nil && !errdefs.IsNotFound(err):
			return runtime.Image{}, &runtime.Error{Reason: runtime.ReasonImageInspect, Err: fmt.Errorf("image %s: %w", ref, err)}
		case p.Policy == corev1.PullNever && err == nil:
			err = fmt.Errorf("image %s was pulled with credentials that the pod does not have, and its pull policy is Never", ref)
			return runtime.Image{}, &runtime.Error{Reason: runtime.ReasonImageNeverPull, Err: err}
		case p.Policy == corev1.PullNever:
			err = fmt.Errorf("image %s is not on this machine and its pull policy is Never", ref)
			return runtime.Image{}, &runtime.Error{Reason: runtime.ReasonImageNeverPull, Err: err}
		}
	}
	i, err := r.pull(ctx, name, p.Credentials)
	if errors.Is(err, images.ErrAway) {
		if have, lerr := r.local(ctx, name); lerr == nil && have.may(name, p) {
			r.config.Log.Info("the registry cannot be asked, the image is taken as it is here", "image", name, "err", err)
			return have.as(ref), nil
		}
	}
	if err != nil {
		return runtime.Image{}, &runtime.Error{Reason: runtime.ReasonImagePull, Err: fmt.Errorf("pull %s: %w", name, err)}
	}
	return i.as(ref), nil
}

// may reports whether an image that is here may be had as p says, without asking the registry.
func (i *image) may(name string, p runtime.Pull) bool {
	if len(i.with) == 0 {
		return true
	}
	var shown []string
	for _, c := range images.For(p.Credentials, name) {
		shown = append(shown, images.ID(c))
	}
	return images.May(i.with, shown)
}

func (i *image) as(ref string) runtime.Image {
	out := i.Image
	out.Name = ref
	return out
}

// local returns an image that containerd has, unpacked. Content that is not all there counts as not found.
func (r *Runtime) local(ctx context.Context, name string) (*image, error) {
	if i := r.images.get(name); i != nil {
		return i, nil
	}
	got, err := r.client.GetImage(ctx, name)
	if err != nil {
		return nil, err
	}
	return r.load(ctx, got)
}

// load reads an image's config, unpacks it if need be, and caches it.
func (r *Runtime) load(ctx context.Context, got client.Image) (*image, error) {
	desc, err := got.Config(ctx)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	b, err := content.ReadBlob(ctx, got.ContentStore(), desc)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	var oci ocispec.Image
	if err := json.Unmarshal(b, &oci); err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	chain := identity.ChainID(oci.RootFS.DiffIDs).String()
	if _, err := r.client.SnapshotService(r.snapshotter).Stat(ctx, chain); err != nil {
		if err := got.Unpack(ctx, r.snapshotter); err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
	}
	size, err := got.Size(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	with := withOf(got.Labels())
	i := &image{target: got.Target(), with: with, chain: chain, config: oci.Config, Image: runtime.Image{
		Imported: len(with) == 0,
		Name:     got.Name(), ID: desc.Digest.String(), Size: size, Digests: digests(got),
		User: oci.Config.User, StopSignal: oci.Config.StopSignal, Entrypoint: oci.Config.Entrypoint, Cmd: oci.Config.Cmd,
	}}
	r.images.put(got.Name(), i)
	return i, nil
}

func digests(got client.Image) []string {
	named, err := reference.ParseNormalizedNamed(got.Name())
	if err != nil {
		return nil
	}
	return []string{named.Name() + "@" + got.Target().Digest.String()}
}

// imageOf finds the image of a container's start: the one that Image returned.
func (r *Runtime) imageOf(ctx context.Context, img runtime.Image) (*image, error) {
	name, err := normalize(img.Name)
	if err != nil {
		return nil, err
	}
	i, err := r.local(ctx, name)
	if err != nil {
		return nil, &runtime.Error{Reason: runtime.ReasonImageInspect, Err: fmt.Errorf("image %s: %w", img.Name, err)}
	}
	return i, nil
}

// Images implements runtime.Interface. Each tag of an image is one of them.
func (r *Runtime) Images(ctx context.Context) ([]runtime.Image, <-chan struct{}, error) {
	if err := r.enter(ctx); err != nil {
		return nil, nil, err
	}
	changed := r.images.whenChanged()
	list, err := r.client.ListImages(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("list images: %w", err)
	}
	var out []runtime.Image
	for _, got := range list {
		i := r.images.get(got.Name())
		if i == nil {
			if i, err = r.load(ctx, got); err != nil {
				// Half pulled or of another platform: a container could not be made from it.
				r.config.Log.Debug("unusable image", "name", got.Name(), "err", err)
				continue
			}
		}
		out = append(out, i.Image)
	}
	slices.SortFunc(out, func(a, b runtime.Image) int { return strings.Compare(a.Name, b.Name) })
	return out, changed, nil
}

// RemoveImage implements runtime.Interface.
func (r *Runtime) RemoveImage(ctx context.Context, name string) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	unlock, err := r.images.busy.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	err = r.client.ImageService().Delete(ctx, name, cimages.SynchronousDelete())
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove image %s: %w", name, err)
	}
	r.images.forget(name)
	return nil
}

// Import implements runtime.Interface. Names without a registry become docker.io's, as they do when a pod asks.
func (r *Runtime) Import(ctx context.Context, archive io.Reader) ([]string, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	// An OCI layout may name an image by its tag alone; without a repository it has no name that a pod could use.
	whole := func(ref string) string {
		if !strings.ContainsAny(ref, "/:") {
			return ""
		}
		name, err := normalize(ref)
		if err != nil {
			return ""
		}
		return name
	}
	made, err := r.client.Import(ctx, archive, client.WithImageRefTranslator(whole))
	if err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	var names []string
	for _, m := range made {
		name, err := normalize(m.Name)
		if err != nil {
			return names, err
		}
		if name != m.Name {
			if err := r.rename(ctx, m, name); err != nil {
				return names, err
			}
		}
		r.images.forget(name)
		if _, err := r.local(ctx, name); err != nil {
			return names, fmt.Errorf("image %s: %w", name, err)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the archive names no image")
	}
	return names, nil
}
