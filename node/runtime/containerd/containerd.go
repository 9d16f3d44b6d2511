// Package containerd runs pods on containerd 1.6 or later: images, containers, exec and stats. Sandboxes are not
// containers: package sandbox makes them. All containers of a pod share one shim.
//
// containerd's labels are the only memory that matters. What is held in this process is an index of them, kept by
// containerd's events and rebuilt from lists whenever events may have been missed.
package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/types"

	"shoal/node/images"
	"shoal/node/runtime"
	"shoal/node/runtime/cgroup"
	"shoal/node/runtime/sandbox"
)

// Keeper drains containers' output beyond the life of this process. *keeper.Client is one.
type Keeper interface {
	// Drain is called before a container starts, and again after a failed start. Any path may be empty.
	Drain(ctx context.Context, id, stdin, stdout, stderr, log string) error
	// Undrain returns when everything that an ended container wrote is in its log.
	Undrain(ctx context.Context, id string) error
	CloseStdin(ctx context.Context, id string) error
	// Follow copies output until it is over: all that comes after following was called.
	Follow(ctx context.Context, id string, stdout, stderr io.Writer, following func()) error
}

// Config is what New needs. Socket, RunDir and Keeper are required.
type Config struct {
	Socket       string          // containerd's
	Namespace    string          // containerd's; "" is "shoal"
	RunDir       string          // volatile; pods are below it
	CgroupParent string          // where pods' cgroups are made; "" is "/shoal"
	OCIRuntime   string          // program that makes containers; "" is runc
	Snapshotter  string          // "" is overlayfs where it works, else native
	Sources      *images.Sources // nil: registries over TLS, and those at loopback without
	Keeper       Keeper
	Log          *slog.Logger
}

// Runtime implements runtime.Interface. Calls wait until Run has connected to containerd, and while it is gone.
type Runtime struct {
	config    Config
	sandboxes *sandbox.Sandboxes
	ready     chan struct{}
	limits    limits
	armour    armour

	// Set by Run before ready is closed.
	client      *client.Client
	tree        cgroup.Tree
	snapshotter string
	g           *errgroup.Group
	ctx         func() context.Context // Run's, for what outlives a call

	images  imageCache
	mu      sync.Mutex
	pods    map[types.UID]sandbox.Sandbox // by what is on file
	all     map[string]*record            // containers by id
	watches map[int]func(types.UID)
	seq     int
}

var _ runtime.Interface = (*Runtime)(nil)

// New returns a runtime that does nothing until Run.
func New(c Config) *Runtime {
	if c.Namespace == "" {
		c.Namespace = "shoal"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Sources == nil {
		c.Sources = images.New(images.Config{Log: c.Log})
	}
	c.Log = c.Log.With("component", "runtime")
	return &Runtime{
		config:    c,
		sandboxes: sandbox.New(sandbox.Config{RunDir: c.RunDir, CgroupParent: c.CgroupParent}),
		ready:     make(chan struct{}),
		armour:    hostArmour(),
		images:    newImageCache(),
		pods:      map[types.UID]sandbox.Sandbox{},
		all:       map[string]*record{},
		watches:   map[int]func(types.UID){},
	}
}

// Ready is closed when everything that containerd and the run directory hold is known.
func (r *Runtime) Ready() <-chan struct{} { return r.ready }

// Run connects to containerd, adopts what runs and follows its events until ctx ends. While containerd is gone it
// waits; containers run on. Run is called once.
func (r *Runtime) Run(ctx context.Context) error {
	var err error
	if r.tree, err = cgroup.Mounted(); err != nil {
		return err
	}
	if r.limits, err = hostLimits(); err != nil {
		return err
	}
	if !r.limits.resource {
		r.config.Log.Info("without CAP_SYS_RESOURCE: containers get no more than this process has", "oomScoreAdj", r.limits.ownScore)
	}
	if r.client, err = connect(r.config); err != nil {
		return err
	}
	defer r.client.Close()
	g, ctx := errgroup.WithContext(ctx)
	r.g, r.ctx = g, func() context.Context { return ctx }
	g.Go(func() error { return r.follow(ctx) })
	err = g.Wait()
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || err == nil) {
		return nil
	}
	return err
}

func connect(c Config) (*client.Client, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", c.Socket)
	}
	// containerd is back within a fraction of a second: the defaults would wait seconds for it.
	params := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: 5 * time.Second,
	}
	cl, err := client.New(c.Socket,
		client.WithDefaultNamespace(c.Namespace),
		client.WithDialOpts([]grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(params),
			grpc.WithContextDialer(dial),
		}),
		client.WithCallOpts([]grpc.CallOption{
			grpc.WaitForReady(true),
			grpc.MaxCallRecvMsgSize(64 << 20),
			grpc.MaxCallSendMsgSize(64 << 20),
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	return cl, nil
}

// enter waits until the runtime can be used.
func (r *Runtime) enter(ctx context.Context) error {
	select {
	case <-r.ready:
		return nil
	default:
	}
	select {
	case <-r.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("containerd at %s does not answer: %w", r.config.Socket, ctx.Err())
	}
}

// chooseSnapshotter takes overlayfs where containerd says that it works.
func (r *Runtime) chooseSnapshotter(ctx context.Context) error {
	if r.config.Snapshotter != "" {
		r.snapshotter = r.config.Snapshotter
		return nil
	}
	answer, err := r.client.IntrospectionService().Plugins(ctx, "type==io.containerd.snapshotter.v1")
	if err != nil {
		return fmt.Errorf("ask containerd for its snapshotters: %w", err)
	}
	var usable []string
	for _, p := range answer.Plugins {
		if p.InitErr == nil {
			usable = append(usable, p.ID)
		}
	}
	for _, s := range []string{"overlayfs", "native"} {
		if slices.Contains(usable, s) {
			r.snapshotter = s
			return nil
		}
	}
	return fmt.Errorf("containerd has neither the overlayfs nor the native snapshotter, only %v", usable)
}

// ioDir holds a container's FIFOs.
func (r *Runtime) ioDir(uid types.UID, id string) string {
	return filepath.Join(r.sandboxes.Dir(uid), "io", id)
}
