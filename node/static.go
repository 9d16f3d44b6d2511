package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Static pods are those that this machine runs because a file says so, whether there is an API or not. The API is shown a mirror of each, which carries
// the pod's status; a mirror that somebody deletes is made again.

// Manifests are the files that say which static pods there are.
type Manifests interface {
	// Files returns contents by name, with a channel that is closed when there may be others. With an error what could be read is returned, too.
	Files() (files map[string][]byte, changed <-chan struct{}, err error)
}

// The annotations that tell where a pod comes from, Kubernetes' own.
const (
	annotationSource = "kubernetes.io/config.source"
	annotationHash   = "kubernetes.io/config.hash"
	sourceFile       = "file"
)

// staticQuiet is how long files must have been left alone: editors write in several steps.
const staticQuiet = 100 * time.Millisecond

type static struct {
	n    *Node
	poke chan struct{} // the API's pods changed, or a pod has ended; capacity 1

	mu    sync.Mutex
	files map[string]manifest // as used last
}

// manifest is one file: the pod that it is, or was when it was good.
type manifest struct {
	sum [sha256.Size]byte // of what was read last
	pod *corev1.Pod       // nil when it never was one
}

func newStatic(n *Node) *static {
	return &static{n: n, poke: make(chan struct{}, 1), files: map[string]manifest{}}
}

// staticUID begins the UIDs of static pods. The API gives no such UIDs, whatever people write into their pods.
const staticUID = "static-"

// isStatic reports whether a pod is run because a file says so; its mirror is none.
func isStatic(p *corev1.Pod) bool { return strings.HasPrefix(string(p.UID), staticUID) }

// mirrored is the UID of the pod that p is a mirror of, empty when it is none.
func mirrored(p *corev1.Pod) types.UID {
	return types.UID(p.Annotations[corev1.MirrorPodAnnotationKey])
}

// stands reports whether an object of the API is pod p, or its mirror.
func stands(o, p *corev1.Pod) bool { return o.UID == p.UID || mirrored(o) == p.UID }

// Run follows the files until ctx ends.
func (s *static) Run(ctx context.Context) error {
	if s.n.cfg.Manifests == nil {
		return nil
	}
	again := time.NewTimer(0) // not before there is something to be tried again
	defer again.Stop()
	failures := 0
	synced := s.n.objects.Synced()
	changed := s.load()
	for {
		again.Stop()
		if err := s.mirror(ctx); err == nil {
			failures = 0
		} else {
			failures++
			s.n.log.Warn("static pods are not shown to the API, will retry", "err", err)
			again.Reset(retryAfter(failures))
		}
		select {
		case <-s.poke:
			s.employ()
		case <-again.C:
		case <-synced: // only now is it known what mirrors there are
			synced = nil
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			t := time.NewTimer(staticQuiet)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return ctx.Err()
			}
			changed = s.load()
		}
	}
}

// load reads the files and lets the pods that they are run, and those that they are no more end. What of a file is no good does not end the pod that it was.
func (s *static) load() (changed <-chan struct{}) {
	if s.n.cfg.Manifests == nil {
		return nil
	}
	files, changed, err := s.n.cfg.Manifests.Files()
	if err != nil {
		s.n.log.Warn("not all static pods could be read", "err", err)
	}
	s.use(files, err == nil)
	s.employ()
	return changed
}

// use makes these the files. When they are not all of them, those that are missing are what they were.
func (s *static) use(files map[string][]byte, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := map[string]manifest{}
	taken := map[client.Key]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		m := s.files[name]
		if sum := sha256.Sum256(files[name]); sum != m.sum {
			pod, err := s.n.parseStatic(name, files[name])
			if err != nil {
				s.complain(name, err)
			} else {
				m.pod = pod
			}
			m.sum = sum
		}
		if m.pod != nil {
			if other := taken[client.KeyOf(m.pod)]; other != "" {
				s.complain(name, fmt.Errorf("its pod %s is that of %s, too", m.pod.Name, other))
				m.pod = nil
			} else {
				taken[client.KeyOf(m.pod)] = name
			}
		}
		now[name] = m
	}
	for name, m := range s.files {
		if _, read := files[name]; !read && !all {
			now[name] = m
		}
	}
	for _, m := range s.files {
		if m.pod != nil && !holdsPod(now, m.pod.UID) {
			s.n.pods.retire(m.pod)
		}
	}
	s.files = now
}

// employ lets all of them run.
func (s *static) employ() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.files {
		if m.pod != nil {
			s.n.pods.employ(m.pod)
		}
	}
}

func holdsPod(files map[string]manifest, uid types.UID) bool {
	for _, m := range files {
		if m.pod != nil && m.pod.UID == uid {
			return true
		}
	}
	return false
}

func (s *static) complain(name string, err error) {
	s.n.log.Warn("a file is no static pod", "file", name, "err", err)
	if self, ok := s.n.self.Get(client.Key{Name: s.n.cfg.Machine.Name}); ok {
		s.n.events.Event(self, corev1.EventTypeWarning, "FailedStaticPod", "%s: %v", name, err)
	}
}

// parseStatic makes a file's content the pod that it is on this machine. The same content is the same pod in every life of the node.
func (n *Node) parseStatic(file string, content []byte) (*corev1.Pod, error) {
	if documents := bytes.Count(append([]byte("\n"), content...), []byte("\n---")); documents > 1 || documents == 1 && !bytes.HasPrefix(content, []byte("---")) {
		return nil, errors.New("a file is one pod: write the others into files of their own")
	}
	media := api.MediaYAML
	if strings.HasSuffix(file, ".json") {
		media = api.MediaJSON
	}
	o, _, err := api.NewCodecs(api.NewScheme()).Decode(content, media, metav1.FieldValidationStrict, api.Pods.GroupVersionKind)
	if err != nil {
		return nil, err
	}
	p, ok := o.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("it is a %T", o)
	}
	if p.Name == "" {
		return nil, errors.New("metadata.name: the pod needs one")
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s", n.cfg.Machine.Name, file, content))
	uid := staticUID + hex.EncodeToString(sum[:16])
	p.UID, p.Name, p.Namespace = types.UID(uid), p.Name+"-"+n.cfg.Machine.Name, cmp.Or(p.Namespace, metav1.NamespaceDefault)
	p.ResourceVersion, p.Status, p.Spec.NodeName, p.Generation = "", corev1.PodStatus{}, n.cfg.Machine.Name, 1
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	p.Annotations[annotationSource], p.Annotations[annotationHash] = sourceFile, uid
	delete(p.Annotations, corev1.MirrorPodAnnotationKey)
	// It is not the Master's to end, whatever becomes of the machine.
	p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
	api.Pods.Default(p)
	if refs := referred(p); len(refs) > 0 {
		return nil, fmt.Errorf("a static pod may not refer to other objects of the API, as to %s %q", refs[0].kind.Kind, refs[0].key.Name)
	}
	if p.Spec.ServiceAccountName != "" {
		return nil, errors.New("spec.serviceAccountName: a static pod may not have a service account")
	}
	errs := append(api.Pods.ValidateMeta(p), api.Pods.Validate(p)...)
	if len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	return p, nil
}

// mirror shows the API what static pods there are: it makes mirrors that are missing, and deletes those of pods that are no more, or that somebody deletes.
func (s *static) mirror(ctx context.Context) error {
	select {
	case <-s.n.objects.Synced():
	default:
		return nil
	}
	self, ok := s.n.self.Get(client.Key{Name: s.n.cfg.Machine.Name})
	if !ok {
		return nil
	}
	s.mu.Lock()
	wanted := map[types.UID]*corev1.Pod{}
	for _, m := range s.files {
		if m.pod != nil {
			wanted[m.pod.UID] = m.pod
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, o := range s.n.objects.List("", nil) {
		uid := mirrored(o)
		if uid == "" || o.DeletionTimestamp == nil && (wanted[uid] != nil && client.KeyOf(wanted[uid]) == client.KeyOf(o) || s.n.pods.worker(uid) != nil) {
			continue
		}
		_, err := s.n.cfg.Client.Delete(ctx, api.Pods, client.KeyOf(o), client.DeleteOptions{
			GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &o.UID},
		})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			errs = append(errs, fmt.Errorf("delete mirror pod %s: %w", client.KeyOf(o), err))
		}
	}
	for _, p := range wanted {
		if _, ok := s.n.objects.Get(client.KeyOf(p)); ok {
			continue // or somebody else's of that name, which stays until it goes
		}
		m := p.DeepCopy()
		m.UID, m.Generation = "", 0
		m.Annotations[corev1.MirrorPodAnnotationKey] = string(p.UID)
		m.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(self, api.Nodes.GroupVersionKind)}
		_, err := s.n.cfg.Client.Create(ctx, api.Pods, m, client.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			errs = append(errs, fmt.Errorf("create mirror pod %s: %w", client.KeyOf(p), err))
		}
	}
	return errors.Join(errs...)
}

// employ lets a static pod run. One that is about to end is employed again when it has.
func (s *pods) employ(p *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.workers[p.UID]; w != nil && w.wanted() != nil && w.wanted().DeletionTimestamp != nil {
		return
	}
	s.wantLocked(p)
}

// retire ends a static pod as a deleted one.
func (s *pods) retire(p *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.workers[p.UID]
	if w == nil {
		return
	}
	ends := p.DeepCopy()
	now := metav1.NewTime(s.n.cfg.Now())
	ends.DeletionTimestamp, ends.DeletionGracePeriodSeconds = &now, p.Spec.TerminationGracePeriodSeconds
	w.want(ends, false)
}
