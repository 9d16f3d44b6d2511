package node

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/node/csi"
	"shoal/node/volume"
)

// CSI are the machine's CSI drivers: csi.Drivers.
type CSI interface {
	List() ([]csi.Driver, <-chan struct{})
	Mount(ctx context.Context, pod types.UID, v csi.Volume) (at string, gives bool, err error)
	Mounted(pod types.UID, name string) (at string, ok bool)
	Unmount(ctx context.Context, pod types.UID) error
}

// csiVolumes tells drivers what the API says of volumes.
type csiVolumes struct{ n *Node }

// The attributes by which drivers know pods.
const (
	csiPodName   = "csi.storage.k8s.io/pod.name"
	csiNamespace = "csi.storage.k8s.io/pod.namespace"
	csiUID       = "csi.storage.k8s.io/pod.uid"
	csiAccount   = "csi.storage.k8s.io/serviceAccount.name"
	csiEphemeral = "csi.storage.k8s.io/ephemeral"
	csiTokens    = "csi.storage.k8s.io/serviceAccount.tokens"
)

// Mount implements volume.CSI.
func (c csiVolumes) Mount(ctx context.Context, p *corev1.Pod, vol *corev1.Volume, pv *corev1.PersistentVolume) (at string, group bool, err error) {
	v := csi.Volume{Name: vol.Name, Group: volume.Group(p)}
	var class *storagev1.CSIDriver
	if pv == nil {
		class, err = c.inline(ctx, p, vol, &v)
	} else {
		class, err = c.persistent(ctx, p, vol, pv, &v)
	}
	if err != nil {
		return "", false, err
	}
	if class != nil {
		if err := c.describe(ctx, p, class, pv == nil, &v); err != nil {
			return "", false, err
		}
	}
	at, gives, err := c.n.cfg.CSI.Mount(ctx, p.UID, v)
	return at, !gives && !v.ReadOnly && groupsOwn(class, &v), err
}

// Mounted implements volume.CSI.
func (c csiVolumes) Mounted(uid types.UID, name string) (at string, ok bool) {
	return c.n.cfg.CSI.Mounted(uid, name)
}

// Unmount implements volume.CSI.
func (c csiVolumes) Unmount(ctx context.Context, uid types.UID) error {
	return c.n.cfg.CSI.Unmount(ctx, uid)
}

// groupsOwn reports whether volumes of a driver belong to the pod's group, as its CSIDriver says. Without one, only what has a filesystem and one writer does.
func groupsOwn(class *storagev1.CSIDriver, v *csi.Volume) bool {
	policy := storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy
	if class != nil && class.Spec.FSGroupPolicy != nil {
		policy = *class.Spec.FSGroupPolicy
	}
	switch policy {
	case storagev1.FileFSGroupPolicy:
		return true
	case storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy:
		return v.FSType != "" && v.AccessMode == corev1.ReadWriteOnce
	case storagev1.NoneFSGroupPolicy:
	}
	return false
}

// class returns what the cluster says of a driver; nil when it says nothing.
func (c csiVolumes) class(ctx context.Context, name string) (*storagev1.CSIDriver, error) {
	o, err := c.n.cfg.Client.Get(ctx, api.CSIDrivers, client.Key{Name: name}, client.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read CSIDriver %q: %w", name, err)
	}
	class, ok := o.(*storagev1.CSIDriver)
	if !ok {
		return nil, fmt.Errorf("read CSIDriver %q: answer is a %T", name, o)
	}
	return class, nil
}

// inline fills in a volume that is made with its pod.
func (c csiVolumes) inline(ctx context.Context, p *corev1.Pod, vol *corev1.Volume, v *csi.Volume) (*storagev1.CSIDriver, error) {
	s := vol.CSI
	v.Driver, v.Handle, v.Ephemeral = s.Driver, fmt.Sprintf("csi-%x", sha256.Sum256([]byte(string(p.UID)+vol.Name))), true
	v.Attributes, v.AccessMode = maps.Clone(s.VolumeAttributes), corev1.ReadWriteOnce
	if s.FSType != nil {
		v.FSType = *s.FSType
	}
	if s.ReadOnly != nil {
		v.ReadOnly = *s.ReadOnly
	}
	class, err := c.class(ctx, s.Driver)
	if err != nil {
		return nil, err
	}
	if class == nil || !slices.Contains(class.Spec.VolumeLifecycleModes, storagev1.VolumeLifecycleEphemeral) {
		return nil, fmt.Errorf("CSI driver %q does not make volumes with pods: its CSIDriver must have Ephemeral among volumeLifecycleModes", s.Driver)
	}
	if ref := s.NodePublishSecretRef; ref != nil {
		v.PublishSecrets, err = c.secret(ctx, p.Namespace, ref.Name)
	}
	return class, err
}

// persistent fills in a volume that is there already, and waits until it is attached, if it has to be.
func (c csiVolumes) persistent(ctx context.Context, p *corev1.Pod, vol *corev1.Volume, pv *corev1.PersistentVolume, v *csi.Volume) (*storagev1.CSIDriver, error) {
	s := pv.Spec.CSI
	v.Driver, v.Handle, v.FSType, v.MountOptions = s.Driver, s.VolumeHandle, s.FSType, pv.Spec.MountOptions
	v.Attributes = maps.Clone(s.VolumeAttributes)
	v.ReadOnly = s.ReadOnly || vol.PersistentVolumeClaim != nil && vol.PersistentVolumeClaim.ReadOnly
	if len(pv.Spec.AccessModes) > 0 {
		v.AccessMode = pv.Spec.AccessModes[0]
		for _, m := range pv.Spec.AccessModes {
			if m == corev1.ReadWriteMany {
				v.AccessMode = m
			}
		}
	}
	class, err := c.class(ctx, s.Driver)
	if err != nil {
		return nil, err
	}
	if class == nil || class.Spec.AttachRequired == nil || *class.Spec.AttachRequired {
		if v.PublishContext, err = c.attached(ctx, pv); err != nil {
			return nil, err
		}
	}
	if ref := s.NodeStageSecretRef; ref != nil {
		if v.StageSecrets, err = c.secret(ctx, ref.Namespace, ref.Name); err != nil {
			return nil, err
		}
	}
	if ref := s.NodePublishSecretRef; ref != nil {
		v.PublishSecrets, err = c.secret(ctx, ref.Namespace, ref.Name)
	}
	return class, err
}

func (c csiVolumes) secret(ctx context.Context, namespace, name string) (map[string]string, error) {
	o, err := c.n.cfg.Client.Get(ctx, api.Secrets, client.Key{Namespace: namespace, Name: name}, client.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read secret %s/%s for the CSI driver: %w", namespace, name, err)
	}
	s, ok := o.(*corev1.Secret)
	if !ok {
		return nil, fmt.Errorf("read secret %s/%s for the CSI driver: answer is a %T", namespace, name, o)
	}
	out := map[string]string{}
	for k, b := range s.Data {
		out[k] = string(b)
	}
	return out, nil
}

// describe adds what a driver wants to know of the pod.
func (c csiVolumes) describe(ctx context.Context, p *corev1.Pod, class *storagev1.CSIDriver, ephemeral bool, v *csi.Volume) error {
	add := func(key, value string) {
		if v.Attributes == nil {
			v.Attributes = map[string]string{}
		}
		v.Attributes[key] = value
	}
	if class.Spec.PodInfoOnMount != nil && *class.Spec.PodInfoOnMount {
		add(csiPodName, p.Name)
		add(csiNamespace, p.Namespace)
		add(csiUID, string(p.UID))
		add(csiAccount, p.Spec.ServiceAccountName)
		add(csiEphemeral, fmt.Sprint(ephemeral))
	}
	if len(class.Spec.TokenRequests) == 0 {
		return nil
	}
	tokens := map[string]authenticationv1.TokenRequestStatus{}
	for _, r := range class.Spec.TokenRequests {
		key := tokenKey{audience: r.Audience, seconds: 3600}
		if r.ExpirationSeconds != nil {
			key.seconds = *r.ExpirationSeconds
		}
		t, err := c.n.tokens.ask(ctx, p, key)
		if err != nil {
			return fmt.Errorf("token for the CSI driver: %w", err)
		}
		tokens[r.Audience] = authenticationv1.TokenRequestStatus{Token: t.text, ExpirationTimestamp: metav1.NewTime(t.until)}
	}
	b, err := json.Marshal(tokens)
	add(csiTokens, string(b))
	return err
}

// attachWait is how long a volume may take to be attached before the pod says what it waits for, and begins to wait anew.
const attachWait = 2 * time.Minute

// attached waits until a volume is attached to this machine, and returns what its driver said of that.
func (c csiVolumes) attached(ctx context.Context, pv *corev1.PersistentVolume) (map[string]string, error) {
	name := api.AttachmentName(pv, c.n.cfg.Machine.Name)
	ctx, cancel := context.WithTimeout(ctx, attachWait)
	defer cancel()
	changed := make(chan struct{}, 1)
	cache := client.NewCache[*storagev1.VolumeAttachment](c.n.cacheOf(api.VolumeAttachments, client.ListOptions{
		Fields: fields.OneTermEqualSelector("metadata.name", name), ResourceVersion: "0",
	}))
	cache.OnChange(func(_, _ *storagev1.VolumeAttachment) { wake(changed) })
	done := make(chan struct{})
	go func() { defer close(done); _ = cache.Run(ctx) }()
	defer func() { cancel(); <-done }()
	said := "nobody has asked for it yet"
	for {
		if a, ok := cache.Get(client.Key{Name: name}); ok {
			switch {
			case a.Status.Attached:
				return a.Status.AttachmentMetadata, nil
			case a.Status.AttachError != nil:
				said = a.Status.AttachError.Message
			default:
				said = "its driver has been asked to"
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("persistentvolume %q is not attached to this machine: %s", pv.Name, said)
		}
	}
}

// drives reports whether a pod may have volumes of CSI drivers.
func drives(p *corev1.Pod) bool { return len(api.ClaimsOf(p)) > 0 }

// showDrivers keeps the machine's CSINode, and its Node's labels, as the drivers say, until ctx ends.
func (n *Node) showDrivers(ctx context.Context) error {
	if n.cfg.CSI == nil {
		return nil
	}
	retry := client.NewBackoff(100*time.Millisecond, 30*time.Second)
	for {
		list, changed := n.cfg.CSI.List()
		topology := map[string]string{}
		for _, d := range list {
			maps.Copy(topology, d.Topology)
		}
		n.setTopology(topology)
		err := n.writeDrivers(ctx, list)
		if err != nil && ctx.Err() == nil {
			n.log.Debug("CSI drivers are not shown to the API, will retry", "err", err)
			err = retry.Wait(ctx)
			if err == nil {
				continue
			}
		}
		retry.Reset()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *Node) setTopology(t map[string]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !maps.Equal(n.topology, t) {
		n.topology = t
		close(n.changed)
		n.changed = make(chan struct{})
	}
}

// writeDrivers makes the CSINode name these drivers. There is none for a machine that never had one.
func (n *Node) writeDrivers(ctx context.Context, list []csi.Driver) error {
	key := client.Key{Name: n.cfg.Machine.Name}
	o, err := n.cfg.Client.Get(ctx, api.CSINodes, key, client.GetOptions{})
	missing := apierrors.IsNotFound(err)
	switch {
	case missing && len(list) == 0:
		return nil
	case missing:
		o = &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: key.Name}}
	case err != nil:
		return err
	}
	stored, ok := o.(*storagev1.CSINode)
	if !ok {
		return fmt.Errorf("answer is a %T", o)
	}
	self, ok := n.self.Get(key)
	if !ok {
		return errors.New("the Node is not there yet")
	}
	is := stored.DeepCopy()
	is.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: api.Nodes.Kind, Name: self.Name, UID: self.UID}}
	is.Spec.Drivers = nil
	for _, d := range list {
		x := storagev1.CSINodeDriver{Name: d.Name, NodeID: d.NodeID, TopologyKeys: slices.Sorted(maps.Keys(d.Topology))}
		if d.Most > 0 {
			x.Allocatable = &storagev1.VolumeNodeResources{Count: new(int32(min(d.Most, 1<<31-1)))}
		}
		is.Spec.Drivers = append(is.Spec.Drivers, x)
	}
	slices.SortFunc(is.Spec.Drivers, func(a, b storagev1.CSINodeDriver) int { return cmp.Compare(a.Name, b.Name) })
	switch {
	case missing:
		_, err = n.cfg.Client.Create(ctx, api.CSINodes, is, client.CreateOptions{})
	case !equality.Semantic.DeepEqual(stored, is):
		_, err = n.cfg.Client.Update(ctx, api.CSINodes, is, client.UpdateOptions{})
	}
	return err
}
