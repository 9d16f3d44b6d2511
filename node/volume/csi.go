package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// CSI has volumes mounted by drivers.
type CSI interface {
	// Mount mounts a volume for a pod and returns where: one of a driver's that pv is or, when that is nil, the one that vol says is made with the pod.
	// group reports whether the pod's group is still to be given what is there. It may be repeated.
	Mount(ctx context.Context, p *corev1.Pod, vol *corev1.Volume, pv *corev1.PersistentVolume) (at string, group bool, err error)
	// Mounted returns where a volume is mounted for a pod, if it is.
	Mounted(uid types.UID, volume string) (at string, ok bool)
	// Unmount undoes everything that was mounted for a pod. What was not is fine.
	Unmount(ctx context.Context, uid types.UID) error
}

// driven mounts a volume of a CSI driver. Of one that is mounted nobody is asked anything: the pod runs, whatever becomes of the API and the driver.
func (v *Volumes) driven(ctx context.Context, p *corev1.Pod, vol *corev1.Volume, pv *corev1.PersistentVolume) (at string, group bool, err error) {
	if v.cfg.CSI == nil {
		driver := ""
		if vol.CSI != nil {
			driver = vol.CSI.Driver
		}
		if pv != nil {
			driver = pv.Spec.CSI.Driver
		}
		return "", false, fmt.Errorf("CSI driver %q is not on this machine", driver)
	}
	if at, ok := v.cfg.CSI.Mounted(p.UID, vol.Name); ok {
		return at, false, nil
	}
	return v.cfg.CSI.Mount(ctx, p, vol, pv)
}

// inline mounts a volume that a CSI driver makes with its pod.
func (v *Volumes) inline(ctx context.Context, p *corev1.Pod, vol *corev1.Volume, link string) error {
	at, group, err := v.driven(ctx, p, vol, nil)
	if err != nil {
		return err
	}
	return lead(p, link, at, group)
}

// lead makes link lead to where a volume is, whose pod's group gets it before, and only then: nobody goes through the files of a pod that runs.
func lead(p *corev1.Pod, link, at string, group bool) error {
	if was, err := os.Readlink(link); err == nil && was == at {
		return nil
	}
	if group {
		if err := giveToGroup(at, p); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(at, link)
}

// leads returns where a volume is that its pod's directory has only a link to.
func leads(link string) (string, error) {
	at, err := os.Readlink(link)
	if err != nil {
		return "", fmt.Errorf("it is not mounted: %w", err)
	}
	return at, nil
}
