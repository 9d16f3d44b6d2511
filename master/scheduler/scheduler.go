// Package scheduler gives every pending pod a Node. It learns of pods and Nodes from caches, decides one pod at a time
// on a picture of the cluster that already includes its own decisions, and binds in the background. It binds and says
// why a pod is pending. It creates and moves no pod, and deletes only those that have to make room for a more urgent one. Used by package master, for the length of one term.
package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/scheduler/placement"
)

// Name is what spec.schedulerName says of pods that are for this scheduler.
const Name = corev1.DefaultSchedulerName

// Config is what the scheduler works with during one term. The caches are not yet run.
type Config struct {
	Client   client.Interface
	Pods     *client.Cache[*corev1.Pod]
	Nodes    *client.Cache[*corev1.Node]
	Services *client.Cache[*corev1.Service]
	// Namespaces are asked for their labels, Budgets for what preemption may take.
	Namespaces *client.Cache[*corev1.Namespace]
	Budgets    *client.Cache[*policyv1.PodDisruptionBudget]
	Claims     *client.Cache[*corev1.PersistentVolumeClaim]
	Volumes    *client.Cache[*corev1.PersistentVolume]
	Classes    *client.Cache[*storagev1.StorageClass]
	// UsersOf returns the pods that use a claim.
	UsersOf func(client.Key) []*corev1.Pod
	Events  *client.Recorder // may be nil
	Now     func() time.Time // time.Now when nil
	Rand    *rand.Rand       // breaks ties between nodes
	Log     *slog.Logger     // nil discards
	// Rebalance has running pods moved when Nodes have come back; see rebalance.go.
	Rebalance bool
}

// Scheduler binds pods to Nodes.
type Scheduler struct {
	cfg  Config
	wake chan struct{}

	mu      sync.Mutex
	picture *placement.Cluster // with what is decided and not yet stored
	queue   *queue
	look    time.Time // when to look whether moving pods would help; zero: not until a Node changes
	storage storage

	aside sync.WaitGroup // writes of rebalance, and pods that wait for their volumes
	slots chan struct{}  // one for each of those that write
}

// maxWrites is how many bindings and conditions are written at once: enough to fill batches of the log.
const maxWrites = 128

// New registers the scheduler with the caches. It must be Run.
func New(c Config) *Scheduler {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Scheduler{
		cfg: c, wake: make(chan struct{}, 1), picture: placement.NewCluster(c.Rand), queue: newQueue(), storage: newStorage(c),
		slots: make(chan struct{}, maxWrites),
	}
	c.Claims.OnChange(s.claimChanged)
	c.Volumes.OnChange(s.volumeChanged)
	c.Classes.OnChange(func(_, _ *storagev1.StorageClass) { s.storageChanged() })
	c.Namespaces.OnChange(s.namespaceChanged)
	c.Nodes.OnChange(s.nodeChanged)
	c.Pods.OnChange(s.podChanged)
	return s
}

// Run schedules until ctx ends. The caches must be run beside it.
func (s *Scheduler) Run(ctx context.Context) error {
	if err := client.WaitSynced(ctx, s.cfg.Namespaces, s.cfg.Services, s.cfg.Budgets, s.cfg.Classes, s.cfg.Volumes, s.cfg.Claims, s.cfg.Nodes, s.cfg.Pods); err != nil {
		return err
	}
	var writes errgroup.Group
	writes.SetLimit(maxWrites)
	defer func() { _ = writes.Wait(); s.aside.Wait() }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		found, wait := s.decide()
		for _, d := range found {
			if len(d.choices) > 0 { // who makes its volumes may take long, and is not to keep others from theirs
				s.aside.Go(func() { s.carryOut(ctx, d) })
				continue
			}
			writes.Go(func() error { s.carryOut(ctx, d); return nil })
		}
		if len(found) > 0 && ctx.Err() == nil {
			continue
		}
		if again := s.rebalance(ctx); again > 0 && (wait == 0 || again < wait) {
			wait = again
		}
		if wait > 0 {
			timer.Reset(wait)
		}
		select {
		case <-s.wake:
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// decision is what to write for one pod: a binding, or why there is none and who has to go for it.
type decision struct {
	item    *item
	pod     *corev1.Pod
	node    string
	choices []placement.Choice // what its claims without a volume get there
	failure string
	preempt *preemption
}

// decide takes the next pod and finds it a node, which at once counts as taken, or its whole group. Without an active pod it returns nil
// and how long until a backoff ends; zero when none runs.
func (s *Scheduler) decide() ([]*decision, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	wait := s.queue.due(now)
	it := s.queue.pop()
	if it == nil {
		return nil, wait
	}
	if it.group != "" {
		return s.decideGroup(it, now), 0
	}
	n, why := s.choose(it)
	if n == nil {
		s.queue.failed(it, true, now)
		return []*decision{{item: it, pod: it.pod, failure: why.Message(), preempt: s.preempt(it)}}, 0
	}
	d := s.take(it, n)
	s.moved(it.info)
	return []*decision{d}, 0
}

// choose finds the pod a node, as its claims are now. Caller holds mu.
func (s *Scheduler) choose(it *item) (*placement.Node, *placement.Failure) {
	it.info = it.info.With(placement.NewVolumes(it.pod, s.storage))
	return s.picture.Choose(it.info)
}

// take gives the pod its share of the node, and its claims what they get there. Caller holds mu.
func (s *Scheduler) take(it *item, n *placement.Node) *decision {
	d := &decision{item: it, pod: it.pod, node: n.Name, choices: it.info.Choices(n)}
	s.picture.Add(it.info, n.Name)
	s.storage.reserve(d)
	return d
}

// undo takes back what take gave. Caller holds mu.
func (s *Scheduler) undo(d *decision) {
	s.storage.release(d)
	if n, info := s.picture.Remove(d.pod.UID); n != nil {
		s.freed(n)
		s.moved(info)
	}
}

// carryOut writes a decision.
func (s *Scheduler) carryOut(ctx context.Context, d *decision) {
	if d.node == "" {
		s.explain(ctx, d)
		return
	}
	err := s.bindVolumes(ctx, d)
	if err == nil {
		err = s.bind(ctx, d)
	}
	if err == nil {
		s.cfg.Events.EventFrom(Name, d.pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", d.pod.Namespace, d.pod.Name, d.node)
		return // the cache will bring the bound pod, which confirms what the picture has
	}
	if ctx.Err() != nil {
		return
	}
	s.cfg.Log.Debug("bind", "pod", d.pod.Name, "ns", d.pod.Namespace, "node", d.node, "err", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	// What the store says of the pod by now is in the cache or on its way there; it decides whether the pod is pending.
	if s.queue.items[d.pod.UID] == d.item {
		s.undo(d)
		s.queue.failed(d.item, false, s.cfg.Now())
		s.poke()
	} else {
		s.storage.release(d)
	}
}

func (s *Scheduler) bind(ctx context.Context, d *decision) error {
	b := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.pod.Namespace, Name: d.pod.Name, UID: d.pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: d.node},
	}
	_, err := s.cfg.Client.Create(ctx, api.Pods, b, client.CreateOptions{Subresource: "binding", Key: client.KeyOf(d.pod)})
	if err != nil {
		return fmt.Errorf("bind pod: %w", err)
	}
	return nil
}

// explain writes why the pod is pending into its condition, and which node others leave for it, unless it says so already.
// Only then are those told to go: a Master that ends in between leaves its successor a pod that is waited for.
func (s *Scheduler) explain(ctx context.Context, d *decision) {
	if s.describe(ctx, d) {
		s.evict(ctx, d)
	}
}

// describe reports whether the pod says what was decided.
func (s *Scheduler) describe(ctx context.Context, d *decision) bool {
	s.cfg.Events.EventFrom(Name, d.pod, corev1.EventTypeWarning, "FailedScheduling", "%s", d.failure)
	p := d.pod.DeepCopy()
	p.Status.NominatedNodeName = d.preempt.nominated()
	changed := api.SetPodCondition(p, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: d.failure,
		ObservedGeneration: d.pod.Generation,
	}, s.cfg.Now())
	if !changed && p.Status.NominatedNodeName == d.pod.Status.NominatedNodeName {
		return true
	}
	_, err := s.cfg.Client.Update(ctx, api.Pods, p, client.UpdateOptions{Subresource: "status"})
	if err == nil {
		return true
	}
	if ctx.Err() != nil || apierrors.IsNotFound(err) {
		return false
	}
	// Somebody wrote the pod in between. The next try, which its event may bring, explains again.
	s.cfg.Log.Debug("explain", "pod", d.pod.Name, "ns", d.pod.Namespace, "err", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if it := s.queue.items[d.pod.UID]; it == d.item && it.state == unschedulable {
		s.queue.set(it, backingOff)
		s.poke()
	}
	return false
}

// poke wakes Run.
func (s *Scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
