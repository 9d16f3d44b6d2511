package containerd

import (
	"context"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"shoal/node/images"
)

// What other machines may fetch from this one: images.Store.

// Named implements images.Store.
func (r *Runtime) Named(ctx context.Context, name string) (ocispec.Descriptor, []string, error) {
	if err := r.enter(ctx); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	i, err := r.local(ctx, name)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return i.target, i.with, nil
}

// Open implements images.Store. Who knows a layer's digest has read the manifest that names it; manifests themselves are for those who may have an image
// that they are part of.
func (r *Runtime) Open(ctx context.Context, d digest.Digest) (images.Content, []string, error) {
	if err := r.enter(ctx); err != nil {
		return nil, nil, err
	}
	info, err := r.client.ContentStore().Info(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	var with []string
	if describes(info) {
		if with, err = r.withOfContent(ctx, d); err != nil {
			return nil, nil, err
		}
	}
	ra, err := r.client.ContentStore().ReaderAt(ctx, ocispec.Descriptor{Digest: d, Size: info.Size})
	if err != nil {
		return nil, nil, err
	}
	return ra, with, nil
}

// refLabel is how containerd keeps what a manifest or an index names.
const refLabel = "containerd.io/gc.ref.content"

// describes reports whether content names other content, as manifests and indexes do.
func describes(info content.Info) bool {
	for k := range info.Labels {
		if strings.HasPrefix(k, refLabel) {
			return true
		}
	}
	return false
}

// withOfContent returns what the images that a manifest is part of may be had with, nothing when one of them is for everyone.
func (r *Runtime) withOfContent(ctx context.Context, d digest.Digest) ([]string, error) {
	list, err := r.client.ImageService().List(ctx)
	if err != nil {
		return nil, err
	}
	var with []string
	found := false
	for _, i := range list {
		if i.Target.Digest != d {
			info, err := r.client.ContentStore().Info(ctx, i.Target.Digest)
			if err != nil || !slices.ContainsFunc(refs(info), func(other string) bool { return other == d.String() }) {
				continue
			}
		}
		one := withOf(i.Labels)
		if len(one) == 0 {
			return nil, nil
		}
		found = true
		with = append(with, one...)
	}
	if !found { // it is being fetched, or on its way out
		return nil, errdefs.ErrNotFound
	}
	return with, nil
}

func refs(info content.Info) []string {
	var out []string
	for k, v := range info.Labels {
		if strings.HasPrefix(k, refLabel) {
			out = append(out, v)
		}
	}
	return out
}
