package volume

import (
	"context"
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/node/downward"
)

// file is one file of a volume that the node writes.
type file struct {
	data []byte
	mode int32
	user *int64 // nil: root's
}

// payload returns what a volume should hold, by relative path.
func (v *Volumes) payload(ctx context.Context, p *corev1.Pod, vol *corev1.Volume) (map[string]file, error) {
	out := map[string]file{}
	switch {
	case vol.ConfigMap != nil:
		s := vol.ConfigMap
		return out, v.configMap(out, p.Namespace, s.Name, s.Items, s.Optional, mode(s.DefaultMode))
	case vol.Secret != nil:
		s := vol.Secret
		return out, v.secret(out, p.Namespace, s.SecretName, s.Items, s.Optional, mode(s.DefaultMode))
	case vol.DownwardAPI != nil:
		return out, v.downwardAPI(out, p, vol.DownwardAPI.Items, mode(vol.DownwardAPI.DefaultMode))
	}
	m := mode(vol.Projected.DefaultMode)
	for i := range vol.Projected.Sources {
		var err error
		switch s := &vol.Projected.Sources[i]; {
		case s.ConfigMap != nil:
			err = v.configMap(out, p.Namespace, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, m)
		case s.Secret != nil:
			err = v.secret(out, p.Namespace, s.Secret.Name, s.Secret.Items, s.Secret.Optional, m)
		case s.DownwardAPI != nil:
			err = v.downwardAPI(out, p, s.DownwardAPI.Items, m)
		case s.ServiceAccountToken != nil:
			err = v.token(ctx, out, p, s.ServiceAccountToken, m)
		default:
			err = fmt.Errorf("source %d of the projection is not supported", i)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func mode(m *int32) int32 {
	if m == nil {
		return 0o644
	}
	return *m
}

func (v *Volumes) configMap(out map[string]file, namespace, name string, items []corev1.KeyToPath, optional *bool, m int32) error {
	o, err := v.cfg.Objects.ConfigMap(namespace, name)
	if absent(err, optional) {
		return nil
	}
	if err != nil {
		return err
	}
	data := map[string][]byte{}
	for k, s := range o.Data {
		data[k] = []byte(s)
	}
	for k, b := range o.BinaryData {
		data[k] = b
	}
	return pick(out, data, items, optional, m, "ConfigMap "+namespace+"/"+name)
}

func (v *Volumes) secret(out map[string]file, namespace, name string, items []corev1.KeyToPath, optional *bool, m int32) error {
	o, err := v.cfg.Objects.Secret(namespace, name)
	if absent(err, optional) {
		return nil
	}
	if err != nil {
		return err
	}
	return pick(out, o.Data, items, optional, m, "Secret "+namespace+"/"+name)
}

func absent(err error, optional *bool) bool {
	return apierrors.IsNotFound(err) && optional != nil && *optional
}

// pick takes the listed keys, or all of them when none is.
func pick(out map[string]file, data map[string][]byte, items []corev1.KeyToPath, optional *bool, m int32, what string) error {
	if len(items) == 0 {
		for k, b := range data {
			out[k] = file{data: b, mode: m}
		}
		return nil
	}
	for _, item := range items {
		b, ok := data[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return fmt.Errorf("%s has no key %q", what, item.Key)
		}
		f := file{data: b, mode: m}
		if item.Mode != nil {
			f.mode = *item.Mode
		}
		if err := put(out, item.Path, f); err != nil {
			return err
		}
	}
	return nil
}

func (v *Volumes) downwardAPI(out map[string]file, p *corev1.Pod, items []corev1.DownwardAPIVolumeFile, m int32) error {
	for i := range items {
		item := &items[i]
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = downward.Field(p, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = downward.Resource(p, nil, item.ResourceFieldRef, v.cfg.Allocatable())
		}
		if err != nil {
			return err
		}
		f := file{data: []byte(value), mode: m}
		if item.Mode != nil {
			f.mode = *item.Mode
		}
		if err := put(out, item.Path, f); err != nil {
			return err
		}
	}
	return nil
}

// token adds a token that only its users can read: the one user of all containers, or the group of the pod's volumes.
func (v *Volumes) token(ctx context.Context, out map[string]file, p *corev1.Pod, s *corev1.ServiceAccountTokenProjection, m int32) error {
	const hour = 60 * 60
	seconds := int64(hour)
	if s.ExpirationSeconds != nil {
		seconds = *s.ExpirationSeconds
	}
	t, err := v.cfg.Tokens.Token(ctx, p, s.Audience, seconds)
	if err != nil {
		return err
	}
	user := onlyUser(p)
	if user != nil || Group(p) != nil {
		m = 0o600
	}
	return put(out, s.Path, file{data: []byte(t), mode: m, user: user})
}

// put adds a file at a path that stays below and clear of our own names.
func put(out map[string]file, to string, f file) error {
	clean := path.Clean(to)
	if path.IsAbs(to) || clean == "." || strings.HasPrefix(clean, "..") {
		return fmt.Errorf("path %q leads out of the volume", to)
	}
	out[clean] = f
	return nil
}
