package csi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Volume is what is to be mounted.
type Volume struct {
	Driver, Handle string
	Name           string // of the directory that it is mounted in; of one pod's volumes no two have the same
	Attributes     map[string]string
	FSType         string
	MountOptions   []string
	ReadOnly       bool
	AccessMode     corev1.PersistentVolumeAccessMode
	Group          *int64 // whom a driver that can do it gives the volume to
	Ephemeral      bool   // it is made with its pod, and is not staged

	PublishContext               map[string]string // what attaching it said
	StageSecrets, PublishSecrets map[string]string
}

// record is what a driver was asked to mount for a pod.
type record struct {
	Driver  string `json:"driver"`
	Handle  string `json:"handle"`
	Staging string `json:"staging,omitempty"`
	Target  string `json:"target"`
}

// Mount has a volume mounted for a pod and returns where; it may be repeated, also when it was cut short. gives reports whether the driver has given it to the
// pod's group.
func (d *Drivers) Mount(ctx context.Context, pod types.UID, v Volume) (at string, gives bool, err error) {
	r := record{Driver: v.Driver, Handle: v.Handle, Target: d.target(pod, v.Name)}
	x, err := d.driver(v.Driver)
	if err != nil {
		return "", false, err
	}
	if isMounted(r.Target) {
		return r.Target, x.groups, nil
	}
	if x.stages && !v.Ephemeral {
		sum := sha256.Sum256([]byte(v.Handle))
		r.Staging = filepath.Join(d.cfg.Dir, "plugins", "kubernetes.io", "csi", v.Driver, hex.EncodeToString(sum[:]), "globalmount")
	}
	unlock, err := d.locks.Lock(ctx, v.Driver+"/"+v.Handle)
	if err != nil {
		return "", false, err
	}
	defer unlock()
	if err := d.save(pod, v.Name, r); err != nil {
		return "", false, err
	}
	capability := v.capability(x.groups)
	if r.Staging != "" {
		if err := os.MkdirAll(r.Staging, 0o750); err != nil {
			return "", false, err
		}
		_, err := x.node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
			VolumeId: v.Handle, StagingTargetPath: r.Staging, VolumeCapability: capability, VolumeContext: v.Attributes, PublishContext: v.PublishContext, Secrets: v.StageSecrets,
		})
		if err != nil {
			return "", false, fmt.Errorf("CSI driver %s: stage volume %s: %w", v.Driver, v.Handle, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(r.Target), 0o750); err != nil {
		return "", false, err
	}
	_, err = x.node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: v.Handle, StagingTargetPath: r.Staging, TargetPath: r.Target, VolumeCapability: capability, Readonly: v.ReadOnly, VolumeContext: v.Attributes,
		PublishContext: v.PublishContext, Secrets: v.PublishSecrets,
	})
	if err != nil {
		return "", false, fmt.Errorf("CSI driver %s: publish volume %s: %w", v.Driver, v.Handle, err)
	}
	return r.Target, x.groups, nil
}

func (d *Drivers) target(pod types.UID, name string) string {
	return filepath.Join(d.cfg.Dir, "pods", string(pod), "volumes", "kubernetes.io~csi", name, "mount")
}

// Mounted returns where a volume is mounted for a pod, if it is, without asking its driver, who may be away for a while.
func (d *Drivers) Mounted(pod types.UID, name string) (at string, ok bool) {
	at = d.target(pod, name)
	return at, isMounted(at)
}

func (v *Volume) capability(groups bool) *csi.VolumeCapability {
	mount := &csi.VolumeCapability_MountVolume{FsType: v.FSType, MountFlags: v.MountOptions}
	if groups && v.Group != nil {
		mount.VolumeMountGroup = strconv.FormatInt(*v.Group, 10)
	}
	mode := csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	switch v.AccessMode {
	case corev1.ReadWriteMany:
		mode = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	case corev1.ReadOnlyMany:
		mode = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	case corev1.ReadWriteOnce, corev1.ReadWriteOncePod:
	}
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode}, AccessType: &csi.VolumeCapability_Mount{Mount: mount},
	}
}

// Unmount undoes what was mounted for a pod. What was not is fine.
func (d *Drivers) Unmount(ctx context.Context, pod types.UID) error {
	files, err := filepath.Glob(filepath.Join(d.records(pod), "*.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := d.unmount(ctx, file); err != nil {
			return err
		}
	}
	for _, dir := range []string{d.records(pod), filepath.Join(d.cfg.Dir, "pods", string(pod))} {
		if err := removeEmpty(dir); err != nil {
			return err
		}
	}
	return nil
}

func (d *Drivers) unmount(ctx context.Context, file string) error {
	r, err := load(file)
	if err != nil {
		return err
	}
	unlock, err := d.locks.Lock(ctx, r.Driver+"/"+r.Handle)
	if err != nil {
		return err
	}
	defer unlock()
	x, err := d.driver(r.Driver)
	if err != nil && (isMounted(r.Target) || isMounted(r.Staging)) {
		return fmt.Errorf("unmount volume %s: %w", r.Handle, err)
	}
	if x != nil {
		_, err := x.node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: r.Handle, TargetPath: r.Target})
		if err != nil && status.Code(err) != codes.NotFound {
			return fmt.Errorf("CSI driver %s: unpublish volume %s: %w", r.Driver, r.Handle, err)
		}
	}
	if err := removeEmpty(r.Target); err != nil { // the driver should have
		return err
	}
	if r.Staging != "" && !d.stagedForOthers(file, r.Staging) {
		if x != nil {
			_, err := x.node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: r.Handle, StagingTargetPath: r.Staging})
			if err != nil && status.Code(err) != codes.NotFound {
				return fmt.Errorf("CSI driver %s: unstage volume %s: %w", r.Driver, r.Handle, err)
			}
		}
		if err := errors.Join(removeEmpty(r.Staging), removeEmpty(filepath.Dir(r.Staging))); err != nil {
			return err
		}
	}
	return os.Remove(file)
}

// stagedForOthers reports whether another record than file's needs what is staged.
func (d *Drivers) stagedForOthers(file, staging string) bool {
	others, _ := filepath.Glob(filepath.Join(d.cfg.Records, "*", "csi", "*.json"))
	for _, other := range others {
		if other != file {
			if r, err := load(other); err == nil && r.Staging == staging {
				return true
			}
		}
	}
	return false
}

func (d *Drivers) records(pod types.UID) string {
	return filepath.Join(d.cfg.Records, string(pod), "csi")
}

func (d *Drivers) save(pod types.UID, name string, r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.records(pod), 0o750); err != nil {
		return err
	}
	file := filepath.Join(d.records(pod), name+".json")
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func load(file string) (r record, err error) {
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil && (r.Driver == "" || r.Target == "") {
		err = errors.New("it names no driver, or no target")
	}
	if err != nil {
		return r, fmt.Errorf("record of a CSI volume %s: %w", file, err)
	}
	return r, nil
}

// removeEmpty removes a directory and what empty ones are in it. What is mounted, and files, are left, and are an error.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if isMounted(dir) {
		return fmt.Errorf("%s is still mounted", dir)
	}
	for _, e := range entries {
		if !e.IsDir() {
			return fmt.Errorf("%s is not empty: %s", dir, e.Name())
		}
		if err := removeEmpty(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(dir)
}
