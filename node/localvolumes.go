package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"

	"shoal/internal/api"
	"shoal/internal/client"
)

// localVolumes keeps the data of the volumes that were made for claims of class local: a directory each, of the volume's name. Data is removed only
// when the API says that the volume is to go: a finalizer on the volume, set before its first pod starts, makes the API wait for that. What the
// API knows nothing of is left alone: a cluster that was restored to an earlier day must not cost what people have written since.
type localVolumes struct {
	n         *Node
	dir       string
	queue     client.Queue
	following *followers

	mu       sync.Mutex
	followed map[string]*followed
}

// followed is a volume of which there is, or was, a directory.
type followed struct {
	*client.Cache[*corev1.PersistentVolume]
	over chan struct{} // closed when there is nothing left of it
}

// deleted is what the name of a directory ends with that is being removed. No volume's name can have it.
const deleted = "~deleted"

func newLocalVolumes(n *Node) *localVolumes {
	return &localVolumes{
		n: n, dir: filepath.Join(n.cfg.Dir, "volumes"), queue: client.NewQueue(), following: newFollowers(),
		followed: map[string]*followed{},
	}
}

// Open implements volume.Local.
func (l *localVolumes) Open(ctx context.Context, v *corev1.PersistentVolume) (string, error) {
	if at := api.LocalVolumeNode(v); at != l.n.cfg.Machine.Name {
		return "", fmt.Errorf("persistentvolume %q is on node %s", v.Name, at)
	}
	dir := filepath.Join(l.dir, v.Name)
	held := slices.Contains(v.Finalizers, api.FinalizerLocal)
	_, err := os.Stat(dir)
	switch {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	case held:
		return "", fmt.Errorf("what persistentvolume %q holds is not on this machine any more: %s is missing; put it back, or delete the claim and begin anew", v.Name, dir)
	default:
		if err := makeVolume(dir); err != nil {
			return "", err
		}
	}
	if !held {
		v = v.DeepCopy()
		v.Finalizers = append(v.Finalizers, api.FinalizerLocal)
		if _, err := l.n.cfg.Client.Update(ctx, api.PersistentVolumes, v, client.UpdateOptions{}); err != nil {
			return "", fmt.Errorf("say that this machine holds persistentvolume %q: %w", v.Name, err)
		}
	}
	l.follow(v.Name)
	return dir, nil
}

// makeVolume makes a directory for everybody that a loss of power does not take away.
func makeVolume(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask says
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}

// Run removes what is to go until ctx ends.
func (l *localVolumes) Run(ctx context.Context) error {
	if err := l.takeStock(); err != nil {
		l.n.log.Error("volumes of this machine not looked at", "dir", l.dir, "err", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.following.Run(ctx) })
	g.Go(func() error {
		return client.RunLoop(ctx, client.LoopConfig[client.Key]{Name: "localvolumes", Queue: l.queue, Workers: 1, Reconcile: l.reconcile, Log: l.n.log})
	})
	return g.Wait()
}

// takeStock follows the volumes of which there is a directory.
func (l *localVolumes) takeStock() error {
	entries, err := os.ReadDir(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), deleted) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(l.dir, e.Name())))
			continue
		}
		l.follow(e.Name())
	}
	return err
}

// follow learns what becomes of a volume. A node may ask for those alone that it holds.
func (l *localVolumes) follow(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.followed[name] != nil {
		return
	}
	c := client.NewCache[*corev1.PersistentVolume](l.n.cacheOf(api.PersistentVolumes, client.ListOptions{
		Fields: fields.OneTermEqualSelector("metadata.name", name), ResourceVersion: "0",
	}))
	c.OnChange(func(_, _ *corev1.PersistentVolume) { l.queue.Add(client.Key{Name: name}) })
	f := &followed{c, make(chan struct{})}
	l.followed[name] = f
	l.following.add(c.Run, f.over)
}

// reconcile removes the data of a volume that is to go when nobody else holds it any more.
func (l *localVolumes) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	l.mu.Lock()
	f := l.followed[key.Name]
	l.mu.Unlock()
	if f == nil {
		return 0, nil
	}
	v, ok := f.Get(key)
	if !ok {
		l.forget(key.Name)
		return 0, nil
	}
	if v.DeletionTimestamp == nil || !slices.Equal(v.Finalizers, []string{api.FinalizerLocal}) || api.LocalVolumeNode(v) != l.n.cfg.Machine.Name {
		return 0, nil
	}
	dir := filepath.Join(l.dir, v.Name)
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
		if err := removeVolume(dir); err != nil {
			return 0, err
		}
	} else {
		l.n.log.Warn("volume is gone, and what it held stays, as its reclaim policy says", "volume", v.Name, "dir", dir)
	}
	v = v.DeepCopy()
	v.Finalizers = nil
	if _, err := l.n.cfg.Client.Update(ctx, api.PersistentVolumes, v, client.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("let volume %s go: %w", v.Name, err)
	}
	return 0, nil
}

// forget follows a volume no more that the API does not know and of which there is nothing here.
func (l *localVolumes) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := os.Stat(filepath.Join(l.dir, name)); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if f := l.followed[name]; f != nil {
		close(f.over)
		delete(l.followed, name)
	}
}

// removeVolume removes a directory. It is renamed first, so that half of it is never taken for all of it.
func removeVolume(dir string) error {
	err := os.Rename(dir, dir+deleted)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir + deleted)
}
