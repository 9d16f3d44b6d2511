// Package volume makes a pod's volumes on its machine and says where containers find them: emptyDir, configMap, secret,
// downwardAPI, projected, hostPath, image, persistent ones that are directories of this machine, and those of CSI drivers. Its invariant: everything
// it made lies below one directory a pod, and Teardown leaves nothing of it, and touches nothing else. Of persistent volumes that is a link.
package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/runtime"
)

// Objects gives what volumes are made of. What is not there is an apierrors NotFound.
type Objects interface {
	ConfigMap(namespace, name string) (*corev1.ConfigMap, error)
	Secret(namespace, name string) (*corev1.Secret, error)
	Claim(namespace, name string) (*corev1.PersistentVolumeClaim, error)
	Volume(name string) (*corev1.PersistentVolume, error)
}

// Tokens gives tokens of pods' service accounts, the newest there are; it may block for an answer of the API. ErrToken
// is part of its errors.
type Tokens interface {
	Token(ctx context.Context, p *corev1.Pod, audience string, seconds int64) (string, error)
}

// ErrToken says that no token could be had.
var ErrToken = errors.New("no token of the service account")

// Config is complete when passed to New.
type Config struct {
	Root        string // a pod's files are in Root/UID
	Objects     Objects
	Tokens      Tokens
	Local       Local
	Images      Images
	CSI         CSI // nil: there are no drivers
	Allocatable func() corev1.ResourceList
	Log         *slog.Logger
}

// Volumes makes volumes. Safe for concurrent use, for different pods.
type Volumes struct{ cfg Config }

// New returns a Volumes; it does nothing yet.
func New(c Config) *Volumes { return &Volumes{cfg: c} }

// Dir is where a pod's volume of that name is.
func (v *Volumes) Dir(uid types.UID, name string) string {
	return filepath.Join(v.cfg.Root, string(uid), "volumes", name)
}

// Setup makes every volume of p, or brings it up to date. What is there and cannot be made anew stays as it is: a pod
// that runs does not lose its configuration because that was deleted, or because nobody answers.
func (v *Volumes) Setup(ctx context.Context, p *corev1.Pod) error {
	var errs []error
	for i := range p.Spec.Volumes {
		vol := &p.Spec.Volumes[i]
		if err := v.setup(ctx, p, vol); err != nil {
			errs = append(errs, fmt.Errorf("volume %q: %w", vol.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (v *Volumes) setup(ctx context.Context, p *corev1.Pod, vol *corev1.Volume) error {
	dir := v.Dir(p.UID, vol.Name)
	switch {
	case vol.HostPath != nil:
		return checkHostPath(vol.HostPath)
	case vol.EmptyDir != nil:
		return emptyDir(dir, vol.EmptyDir, Group(p))
	case claimName(p, vol) != "":
		return v.persistent(ctx, p, vol, dir)
	case vol.CSI != nil:
		return v.inline(ctx, p, vol, dir)
	case vol.Image != nil:
		return v.image(ctx, p, vol)
	case isPayload(vol):
		files, err := v.payload(ctx, p, vol)
		if err != nil {
			if populated(dir) && (apierrors.IsNotFound(err) || errors.Is(err, ErrToken)) {
				v.cfg.Log.Debug("volume left as it is", "pod", p.Name, "ns", p.Namespace, "err", err)
				return nil
			}
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if vol.ConfigMap == nil {
			if err := ensureTmpfs(dir, 0, 0o755); err != nil {
				return err // secrets do not belong on a disk
			}
		}
		return writePayload(dir, files, Group(p))
	}
	return errors.New("this type of volume is not supported")
}

// isPayload reports whether a volume's content is written by us and by nobody else.
func isPayload(vol *corev1.Volume) bool {
	return vol.ConfigMap != nil || vol.Secret != nil || vol.DownwardAPI != nil || vol.Projected != nil
}

// Group is the group that volumes belong to; nil for root's.
func Group(p *corev1.Pod) *int64 {
	if p.Spec.SecurityContext == nil {
		return nil
	}
	return p.Spec.SecurityContext.FSGroup
}

// onlyUser is the user that all containers of a pod run as; nil if they differ, or do not say.
func onlyUser(p *corev1.Pod) *int64 {
	var whole, only *int64
	if p.Spec.SecurityContext != nil {
		whole = p.Spec.SecurityContext.RunAsUser
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			user := whole
			if s := list[i].SecurityContext; s != nil && s.RunAsUser != nil {
				user = s.RunAsUser
			}
			if user == nil || only != nil && *only != *user {
				return nil
			}
			only = user
		}
	}
	return only
}

// emptyDir makes a directory for everybody, in memory if asked to.
func emptyDir(dir string, e *corev1.EmptyDirVolumeSource, gid *int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	switch e.Medium {
	case corev1.StorageMediumDefault:
	case corev1.StorageMediumMemory:
		var size int64
		if e.SizeLimit != nil {
			size = e.SizeLimit.Value()
		}
		if err := ensureTmpfs(dir, size, 0o777); err != nil {
			return err
		}
	default:
		return fmt.Errorf("medium %q is not supported", e.Medium)
	}
	mode := os.FileMode(0o777)
	if gid != nil {
		if err := os.Chown(dir, -1, int(*gid)); err != nil {
			return err
		}
		mode |= os.ModeSetgid
	}
	return os.Chmod(dir, mode)
}

// Mounts returns where a container finds its volumes. lookup expands subPathExpr. Setup must have succeeded.
func (v *Volumes) Mounts(p *corev1.Pod, c *corev1.Container, lookup func(string) (string, bool)) ([]runtime.Mount, error) {
	out := make([]runtime.Mount, 0, len(c.VolumeMounts))
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		vol := find(p, m.Name)
		if vol == nil {
			return nil, fmt.Errorf("no volume %q", m.Name)
		}
		host := v.Dir(p.UID, m.Name)
		if vol.HostPath != nil {
			host = vol.HostPath.Path
		}
		if vol.Image != nil {
			host = filepath.Join(v.imagesDir(p.UID), m.Name)
		}
		if claimName(p, vol) != "" || vol.CSI != nil {
			var err error
			if host, err = leads(host); err != nil {
				return nil, fmt.Errorf("volume %q: %w", m.Name, err)
			}
		}
		sub := m.SubPath
		if m.SubPathExpr != "" {
			var err error
			if sub, err = expandAll(m.SubPathExpr, lookup); err != nil {
				return nil, err
			}
		}
		if sub != "" {
			at := filepath.Join(v.cfg.Root, string(p.UID), "subpaths", m.Name, c.Name, fmt.Sprint(i))
			if err := bindSubPath(host, sub, at); err != nil {
				return nil, fmt.Errorf("subPath %q of volume %q: %w", sub, m.Name, err)
			}
			host = at
		}
		mount := runtime.Mount{HostPath: host, ContainerPath: m.MountPath, ReadOnly: m.ReadOnly || isPayload(vol) || isReadOnly(vol) || vol.Image != nil, Inert: vol.Image != nil}
		mount.Recursive = m.RecursiveReadOnly != nil && *m.RecursiveReadOnly != corev1.RecursiveReadOnlyDisabled
		if m.MountPropagation != nil {
			mount.Propagation = *m.MountPropagation
		}
		out = append(out, mount)
	}
	return out, nil
}

// expandAll replaces $(NAME); every name must be known, because a path with a hole leads elsewhere.
func expandAll(s string, lookup func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "$(")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		name, after, ok := strings.Cut(rest, ")")
		if !ok {
			return "", fmt.Errorf("subPathExpr %q is not closed", s)
		}
		value, known := lookup(name)
		if !known {
			return "", fmt.Errorf("subPathExpr names an unknown variable %q", name)
		}
		b.WriteString(value)
		s = after
	}
}

func find(p *corev1.Pod, name string) *corev1.Volume {
	for i := range p.Spec.Volumes {
		if p.Spec.Volumes[i].Name == name {
			return &p.Spec.Volumes[i]
		}
	}
	return nil
}

// Teardown unmounts and removes all volumes of a pod. What is not there is fine.
func (v *Volumes) Teardown(ctx context.Context, uid types.UID) error {
	dir := filepath.Join(v.cfg.Root, string(uid))
	if uid == "" || strings.ContainsRune(string(uid), '/') {
		return fmt.Errorf("pod UID %q is none", uid)
	}
	if err := unmountBelow(dir); err != nil {
		return err
	}
	if err := v.releaseImages(ctx, uid); err != nil {
		return err
	}
	if v.cfg.CSI != nil {
		if err := v.cfg.CSI.Unmount(ctx, uid); err != nil {
			return err
		}
	}
	for _, name := range []string{"subpaths", "images", "volumes"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
