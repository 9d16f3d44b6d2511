package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
)

// Local keeps the directories of volumes that this machine made.
type Local interface {
	// Open returns the directory of a volume, which it makes for its first pod.
	Open(ctx context.Context, v *corev1.PersistentVolume) (string, error)
}

// claimName is the claim that a volume of p is of; empty when it is of none.
func claimName(p *corev1.Pod, vol *corev1.Volume) string {
	switch {
	case vol.PersistentVolumeClaim != nil:
		return vol.PersistentVolumeClaim.ClaimName
	case vol.Ephemeral != nil:
		return p.Name + "-" + vol.Name
	}
	return ""
}

func isReadOnly(vol *corev1.Volume) bool {
	return vol.PersistentVolumeClaim != nil && vol.PersistentVolumeClaim.ReadOnly
}

// persistent makes link point to what a claim's volume holds. It is a link, because what is below a pod's directory is removed with the pod.
func (v *Volumes) persistent(ctx context.Context, p *corev1.Pod, vol *corev1.Volume, link string) error {
	at, pods, err := v.claimed(ctx, p, vol)
	if err != nil {
		if _, gone := os.Readlink(link); gone == nil && apierrors.IsNotFound(err) {
			v.cfg.Log.Debug("volume left as it is", "pod", p.Name, "ns", p.Namespace, "err", err)
			return nil
		}
		return err
	}
	return lead(p, link, at, pods)
}

// claimed returns where the volume of a claim is, and whether all that is there is the pods' own, as on a hostPath it is not.
func (v *Volumes) claimed(ctx context.Context, p *corev1.Pod, vol *corev1.Volume) (at string, pods bool, err error) {
	name := claimName(p, vol)
	c, err := v.cfg.Objects.Claim(p.Namespace, name)
	if err != nil {
		return "", false, err
	}
	if vol.Ephemeral != nil && !metav1.IsControlledBy(c, p) {
		return "", false, fmt.Errorf("persistentvolumeclaim %q was not made for this pod", name)
	}
	if !api.IsClaimBound(c) {
		return "", false, fmt.Errorf("persistentvolumeclaim %q is not bound to a volume yet: see its events", name)
	}
	pv, err := v.cfg.Objects.Volume(c.Spec.VolumeName)
	if err != nil {
		return "", false, err
	}
	if pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != c.UID {
		return "", false, fmt.Errorf("persistentvolume %q does not belong to persistentvolumeclaim %q", pv.Name, name)
	}
	if pv.Spec.VolumeMode != nil && *pv.Spec.VolumeMode == corev1.PersistentVolumeBlock {
		return "", false, fmt.Errorf("persistentvolume %q is a block device, which is not supported", pv.Name)
	}
	switch {
	case api.LocalVolumeNode(pv) != "":
		at, err := v.cfg.Local.Open(ctx, pv)
		return at, true, err
	case pv.Spec.Local != nil:
		at := pv.Spec.Local.Path
		if info, err := os.Stat(at); err != nil || !info.IsDir() {
			return "", false, fmt.Errorf("local volume %q: there is no directory %s on this machine", pv.Name, at)
		}
		return at, true, nil
	case pv.Spec.HostPath != nil:
		return pv.Spec.HostPath.Path, false, checkHostPath(pv.Spec.HostPath)
	case pv.Spec.CSI != nil:
		return v.driven(ctx, p, vol, pv)
	}
	return "", false, fmt.Errorf("persistentvolume %q is of a type that is not supported: those that are, are local, hostPath, csi, and what class %q makes", pv.Name, api.LocalClass)
}

// giveToGroup makes everything in a volume the pod's group's to read and write, if it has one and it is not so already.
func giveToGroup(dir string, p *corev1.Pod) error {
	gid := Group(p)
	if gid == nil {
		return nil
	}
	root, err := os.OpenRoot(dir) // what is in there belongs to the pods, which must not lead us out
	if err != nil {
		return err
	}
	defer root.Close()
	top, err := root.Stat(".")
	if err != nil {
		return err
	}
	policy := p.Spec.SecurityContext.FSGroupChangePolicy
	if policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch && owner(top) == *gid && top.Mode()&fs.ModeSetgid != 0 {
		return nil
	}
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err)
		}
		if owner(info) != *gid {
			if err := root.Lchown(path, -1, int(*gid)); err != nil {
				return ignoreGone(err)
			}
		}
		mode := info.Mode()
		switch {
		case mode.IsDir():
			mode |= 0o770 | fs.ModeSetgid
		case mode.IsRegular():
			mode |= 0o660
		default:
			return nil
		}
		if mode != info.Mode() || owner(info) != *gid { // a change of the owner takes bits away
			return ignoreGone(root.Chmod(path, mode&(fs.ModePerm|fs.ModeSetgid|fs.ModeSetuid|fs.ModeSticky)))
		}
		return nil
	})
}

// ignoreGone: another pod of the volume may be at work.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// owner is the group that a file belongs to.
func owner(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(s.Gid)
	}
	return -1
}
