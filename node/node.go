// Package node does kubelet's job on one machine: it takes the pods bound to its Node from the API, makes the container
// runtime run them, one worker a pod, and reports what became of them. It schedules nothing and knows no other machine.
// internal/peer runs it. Its invariant: what runs here survives the node's own end, and is taken over, not restarted,
// when it comes back.
package node

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/node/network"
	"shoal/node/pressure"
	"shoal/node/runtime"
	"shoal/node/server"
	"shoal/node/volume"
)

// Machine describes the machine this node runs on.
type Machine struct {
	Name             string   // of the Node
	Addresses        []string // the machine's IPs, the first one first
	Zone             string
	Version          string              // of this program
	ContainerRuntime string              // name://version
	Capacity         corev1.ResourceList // overrides what is found out about the machine
	Reserved         corev1.ResourceList // of that, what pods may not request
	AppArmor         bool                // its kernel enforces AppArmor profiles
}

// DNS is what pods resolve names with.
type DNS struct {
	Servers []string // in the order to be asked
	Domain  string   // the cluster's
}

// Guard holds network policies up for this machine's pods. Safe for concurrent use.
type Guard interface {
	// Protect gives a pod its address and returns when the policies about it are in force, or ctx ends.
	Protect(ctx context.Context, p *corev1.Pod, addr netip.Addr) error
	// Release takes it back.
	Release(uid types.UID)
}

// Config is complete when passed to New.
type Config struct {
	Machine Machine
	Client  client.Interface
	Runtime runtime.Interface
	Network network.Interface
	Dir     string // on a disk that survives reboots; pods are in Dir/pods/UID
	RunDir  string // does not survive reboots; nothing is kept there yet
	DNS     DNS
	// Authorizer decides about requests to Server. Nil refuses all.
	Authorizer server.Authorizer
	Now        func() time.Time // time.Now when nil
	Log        *slog.Logger
	Metrics    *client.LoopMetrics // nil counts nothing
	// Withdrawn blocks until Services send nobody new to the address of a pod that ends, and tells whether they did when it was called. Nil: nobody
	// is sent by Services.
	Withdrawn func(ctx context.Context, pod netip.Addr) (was bool, err error)
	// Guard holds network policies up for pods; nil: there are none.
	Guard Guard
	// HostPorts is told which of the machine's ports lead to pods, whenever that changes, from the moment on when it is known. It must not block.
	HostPorts func([]HostPort)
	// Thresholds are below what the machine has too little of something; nil: nobody looks, and nobody's limit of ephemeral storage counts.
	Thresholds pressure.Thresholds
	// Levels returns how much the machine has left; dir is on its pods' disk. Nil asks the kernel.
	Levels func(dir string) map[pressure.Resource]pressure.Level
	// Handler is the one RuntimeClass handler that this machine has; runc when empty.
	Handler string
	PodPIDs int64 // how many processes a pod may have; zero: any number
	// CSI are the machine's CSI drivers; nil: there are none.
	CSI CSI
	// Manifests say which static pods there are; nil: there are none.
	Manifests Manifests
	// Signer names who signs the tokens of service accounts now, with a channel that is closed when that may have changed. Tokens that another one
	// signed are renewed. Nil: it is always the same.
	Signer func() (string, <-chan struct{})
	// Detector is given to every cache; for tests.
	Detector *client.MutationDetector
}

// Node runs the pods of one machine.
type Node struct {
	cfg     Config
	log     *slog.Logger
	host    host
	machine machine
	self    *client.Cache[*corev1.Node]
	poke    chan struct{} // self changed; capacity 1
	objects *client.Cache[*corev1.Pod]
	service *client.Cache[*corev1.Service]
	refs    *references
	tokens  *tokens
	volumes *volume.Volumes
	local   *localVolumes
	events  *client.Recorder
	writer  *writer
	pods    *pods
	server  http.Handler

	hostPorts *hostPorts
	static    *static

	// watchPressure's:
	unused   map[string]time.Time    // images, since when
	measured map[types.UID]time.Time // pods with limits of ephemeral storage: when they are measured again

	mu          sync.Mutex
	notReady    string // why the node is not ready; empty when it is
	images      []corev1.ContainerImage
	imagesKnown bool
	topology    map[string]string   // where the machine is, in its CSI drivers' terms
	pressed     []pressure.Resource // what there is too little of
	changed     chan struct{}       // closed and replaced when one of them changes
}

// New returns a node that has done nothing yet.
func New(c Config) *Node {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.DNS.Domain == "" {
		c.DNS.Domain = "cluster.local"
	}
	if c.Handler == "" {
		c.Handler = "runc"
	}
	if c.Levels == nil {
		c.Levels = levels
	}
	c.Runtime = patient{c.Runtime}
	n := &Node{
		cfg: c, log: c.Log.With("component", "node"), host: host{ips: c.Machine.Addresses},
		notReady: "container runtime is not ready", changed: make(chan struct{}), poke: make(chan struct{}, 1),
	}
	onNode := func(field string) client.ListOptions {
		return client.ListOptions{Fields: fields.OneTermEqualSelector(field, c.Machine.Name)}
	}
	n.self = client.NewCache[*corev1.Node](n.cacheOf(api.Nodes, onNode("metadata.name")))
	n.self.OnChange(func(_, _ *corev1.Node) {
		wake(n.poke)
		wake(n.static.poke)
	})
	n.objects = client.NewCache[*corev1.Pod](n.cacheOf(api.Pods, onNode("spec.nodeName")))
	n.service = client.NewCache[*corev1.Service](n.cacheOf(api.Services, client.ListOptions{ResourceVersion: "0"}))
	n.refs = newReferences(n)
	n.tokens = newTokens(n)
	n.local = newLocalVolumes(n)
	volumes := volume.Config{Root: n.podsDir(), Objects: n.refs, Tokens: n.tokens, Local: n.local, Images: imageVolumes{n}, Allocatable: n.allocatable, Log: n.log}
	if c.CSI != nil {
		volumes.CSI = csiVolumes{n}
	}
	n.volumes = volume.New(volumes)
	n.events = client.NewRecorder(client.RecorderConfig{
		Client: c.Client, Component: "kubelet", Host: c.Machine.Name, Now: c.Now, Log: n.log,
	})
	n.writer = newWriter(n)
	n.static = newStatic(n)
	n.pods = newPods(n)
	n.hostPorts = newHostPorts(c.HostPorts)
	n.server = server.New(server.Config{
		Node: c.Machine.Name, Pods: n.pods, Runtime: c.Runtime, Authorizer: c.Authorizer, Dir: c.Dir, Now: c.Now, Log: n.log,
	})
	return n
}

func (n *Node) cacheOf(k *api.Kind, o client.ListOptions) client.CacheConfig {
	return client.CacheConfig{Client: n.cfg.Client, Kind: k, ListOptions: o, Log: n.log, Detector: n.cfg.Detector}
}

func (n *Node) podsDir() string { return filepath.Join(n.cfg.Dir, "pods") }

// Server answers requests about this machine's pods: /NAMESPACE/NAME/{log,exec,attach,portforward} and /stats/summary,
// each also below /peer/pods. Upgrades need HTTP/1.1. It may be used before and while Run runs.
func (n *Node) Server() http.Handler { return n.server }

// Run registers the Node and runs its pods until ctx ends. Containers go on when it returns.
func (n *Node) Run(ctx context.Context) error {
	n.machine = detect(n.cfg.Dir)
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{
		n.self.Run, n.objects.Run, n.service.Run, n.refs.Run, n.local.Run, n.events.Run, n.writer.Run, n.pods.Run, n.register, n.static.Run, n.showDrivers, n.watchImages, n.watchPressure, n.follow, n.tokens.follow, n.begin,
	} {
		g.Go(func() error { return run(ctx) })
	}
	return g.Wait()
}

// begin waits for the runtime and the network, and then takes over what runs.
func (n *Node) begin(ctx context.Context) error {
	held, err := n.takeStock(ctx)
	if err != nil {
		return err
	}
	n.setNotReady("the pod network is not ready")
	if err := n.cfg.Network.Ready(ctx); err != nil {
		return err
	}
	if err := n.keepLinks(ctx, held); err != nil {
		return err
	}
	n.setNotReady("")
	n.static.load() // before it is asked who of those that run is wanted
	return n.pods.adopt(ctx, held)
}

// takeStock returns what the runtime holds, once it answers.
func (n *Node) takeStock(ctx context.Context) ([]runtime.Pod, error) {
	retry := client.NewBackoff(20*time.Millisecond, 5*time.Second)
	for {
		held, err := n.cfg.Runtime.Pods(ctx)
		if err == nil {
			return held, nil
		}
		n.setNotReady("container runtime is not ready: " + err.Error())
		n.log.Warn("container runtime does not answer, will retry", "err", err)
		if err := retry.Wait(ctx); err != nil {
			return nil, err
		}
	}
}

// follow passes the runtime's events on to the workers.
func (n *Node) follow(ctx context.Context) error {
	retry := client.NewBackoff(20*time.Millisecond, 5*time.Second)
	for {
		begun := n.cfg.Now()
		err := n.cfg.Runtime.Events(ctx, n.pods.wake)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n.log.Warn("runtime events ended, will follow again", "err", err)
		if n.cfg.Now().Sub(begun) > time.Minute {
			retry.Reset()
		}
		if err := n.awaitRuntime(ctx, retry); err != nil {
			return err
		}
		n.pods.wake("")
	}
}

// runtimeGrace is how long the runtime may be away, as when it is restarted, before the node says that it is not ready.
const runtimeGrace = 10 * time.Second

// awaitRuntime waits until the runtime answers.
func (n *Node) awaitRuntime(ctx context.Context, retry *client.Backoff) error {
	since, said := n.cfg.Now(), false
	for {
		if err := retry.Wait(ctx); err != nil {
			return err
		}
		_, err := n.cfg.Runtime.Pods(ctx)
		if err == nil {
			if said {
				n.setNotReady("")
			}
			return nil
		}
		if why, _ := n.readiness(); why == "" && n.cfg.Now().Sub(since) >= runtimeGrace {
			said = true
			n.setNotReady("container runtime is down: " + err.Error())
		}
	}
}

func (n *Node) setNotReady(why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.notReady != why {
		n.notReady = why
		close(n.changed)
		n.changed = make(chan struct{})
	}
}

func (n *Node) readiness() (why string, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notReady, n.changed
}
