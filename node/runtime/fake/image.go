package fake

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"shoal/node/runtime"
)

// Image implements runtime.Interface. Only images given to AddImage, Publish or Import exist.
func (r *Runtime) Image(ctx context.Context, ref string, p runtime.Pull) (runtime.Image, error) {
	if err := r.enter(ctx, ImageOf); err != nil {
		return runtime.Image{}, err
	}
	if ref == "" || strings.ToLower(ref) != ref || strings.ContainsAny(ref, " \t\n") {
		return runtime.Image{}, &runtime.Error{
			Reason: runtime.ReasonInvalidImage,
			Err:    fmt.Errorf("image %q: invalid reference", ref),
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	img, present := r.images[ref]
	if present && p.Policy != corev1.PullAlways {
		return img, nil
	}
	if p.Policy == corev1.PullNever {
		return runtime.Image{}, &runtime.Error{
			Reason: runtime.ReasonImageNeverPull,
			Err:    fmt.Errorf("image %s is not present and the pull policy is Never", ref),
		}
	}
	img, ok := r.remote[ref]
	if want, guarded := r.passwords[ref]; guarded && !slices.ContainsFunc(p.Credentials, func(c runtime.Credential) bool { return c.Password == want }) {
		return runtime.Image{}, &runtime.Error{
			Reason: runtime.ReasonImagePull,
			Err:    fmt.Errorf("pull %s: %w", ref, errors.New("authorization failed")),
		}
	}
	if !ok {
		return runtime.Image{}, &runtime.Error{
			Reason: runtime.ReasonImagePull,
			Err:    fmt.Errorf("pull %s: %w", ref, errors.New("not found")),
		}
	}
	r.keepLocked(img)
	return img, nil
}

// Images implements runtime.Interface.
func (r *Runtime) Images(ctx context.Context) ([]runtime.Image, <-chan struct{}, error) {
	if err := r.enter(ctx, Images); err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]runtime.Image, 0, len(r.images))
	for _, img := range r.images {
		out = append(out, img)
	}
	slices.SortFunc(out, func(a, b runtime.Image) int { return strings.Compare(a.Name, b.Name) })
	return out, r.imagesChanged, nil
}

// RemoveImage implements runtime.Interface.
func (r *Runtime) RemoveImage(ctx context.Context, name string) error {
	if err := r.enter(ctx, RemoveImage); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.images, name)
	close(r.imagesChanged)
	r.imagesChanged = make(chan struct{})
	return nil
}

// Import implements runtime.Interface. The archive is a list of names, one a line.
func (r *Runtime) Import(ctx context.Context, archive io.Reader) ([]string, error) {
	if err := r.enter(ctx, Import); err != nil {
		return nil, err
	}
	var names []string
	for s := bufio.NewScanner(archive); s.Scan(); {
		if name := strings.TrimSpace(s.Text()); name != "" {
			names = append(names, name)
			r.AddImage(runtime.Image{Name: name})
		}
	}
	return names, nil
}

// AddImage makes an image present. An empty ID is derived from the name.
func (r *Runtime) AddImage(img runtime.Image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keepLocked(complete(img))
}

// MountImage implements runtime.Interface: it puts a file named after the image into dir.
func (r *Runtime) MountImage(ctx context.Context, key, ref string, p runtime.Pull, dir string) error {
	if _, err := r.Image(ctx, ref, p); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mounted[key] = true
	return os.WriteFile(filepath.Join(dir, strings.ReplaceAll(ref, "/", "_")), nil, 0o600)
}

// ReleaseImage implements runtime.Interface.
func (r *Runtime) ReleaseImage(_ context.Context, key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mounted, key)
	return nil
}

// Mounted returns how many images are mounted.
func (r *Runtime) Mounted() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mounted)
}

// keepLocked makes an image present. Caller holds mu.
func (r *Runtime) keepLocked(img runtime.Image) {
	r.images[img.Name] = img
	close(r.imagesChanged)
	r.imagesChanged = make(chan struct{})
}

// Publish puts an image into the registry, from where it can be pulled.
func (r *Runtime) Publish(img runtime.Image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remote[img.Name] = complete(img)
}

// Guard lets an image be pulled only with a password.
func (r *Runtime) Guard(name, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passwords[name] = password
}

func complete(img runtime.Image) runtime.Image {
	if img.ID == "" {
		img.ID = "sha256:" + img.Name
	}
	return img
}
