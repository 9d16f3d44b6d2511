// Package csi speaks to the CSI drivers of this machine: it finds them as the kubelet does, through sockets in a directory that drivers know, and has them
// stage and publish volumes for pods. It knows drivers, volumes and paths, and nothing of the API. Its invariant: what a driver was asked to mount is on
// record before it is asked, and until it has undone it, whatever is killed meanwhile.
package csi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"shoal/node/keylock"
)

// Config is complete when passed to New.
type Config struct {
	// Dir is what drivers take for the kubelet's directory: they register below plugins_registry and mount below plugins and pods. What is mounted there
	// must be seen by everybody on the machine; Run sees to that.
	Dir string
	// Records is where pods' directories are, on a disk that survives reboots: what is mounted for a pod is on record in Records/UID/csi.
	Records string
	Log     *slog.Logger
}

// Drivers are the CSI drivers of this machine. Safe for concurrent use.
type Drivers struct {
	cfg   Config
	locks keylock.Locks // by driver and volume

	mu      sync.Mutex
	sockets map[socket]context.CancelFunc
	byName  map[string]*driver
	changed chan struct{}
}

// Driver is what a driver says of itself and of this machine.
type Driver struct {
	Name     string
	NodeID   string
	Most     int64             // volumes that it can have here; zero: as many as you like
	Topology map[string]string // where this machine is, in the driver's terms
}

type driver struct {
	Driver
	from   socket
	conn   *grpc.ClientConn
	node   csi.NodeClient
	stages bool // volumes are staged before they are published
	groups bool // it gives volumes to groups by itself
}

// New returns a Drivers that does nothing yet.
func New(c Config) *Drivers {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Drivers{
		cfg: c, sockets: map[socket]context.CancelFunc{}, byName: map[string]*driver{}, changed: make(chan struct{}),
	}
}

// List returns the drivers there are by name, with a channel that is closed when there are others.
func (d *Drivers) List() ([]Driver, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Driver
	for _, x := range d.byName {
		out = append(out, x.Driver)
	}
	slices.SortFunc(out, func(a, b Driver) int { return cmp.Compare(a.Name, b.Name) })
	return out, d.changed
}

// ErrNoDriver says that a volume's driver has not registered here.
var ErrNoDriver = errors.New("the CSI driver is not on this machine")

func (d *Drivers) driver(name string) (*driver, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if x := d.byName[name]; x != nil {
		return x, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNoDriver, name)
}

// dial connects to a socket; it is not reached before the first call.
func dial(path string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}))
}

// answerWait is how long a driver may take to say who it is.
const answerWait = 10 * time.Second

// meet asks a plugin at a socket who it is, and the driver that it speaks for. It returns nil when it is no CSI driver.
func (d *Drivers) meet(ctx context.Context, s socket) (*driver, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	conn, err := dial(s.path)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	plugin := registration.NewRegistrationClient(conn)
	info, err := plugin.GetInfo(ctx, &registration.InfoRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask who it is: %w", err)
	}
	if info.Type != registration.CSIPlugin {
		return nil, nil
	}
	x, err := interview(ctx, info)
	status := &registration.RegistrationStatus{PluginRegistered: err == nil}
	if err != nil {
		status.Error = err.Error()
	}
	_, told := plugin.NotifyRegistrationStatus(ctx, status)
	if err == nil && told != nil {
		err = fmt.Errorf("tell %s that it is registered: %w", info.Name, told)
		_ = x.conn.Close()
	}
	if err != nil {
		return nil, err
	}
	x.from = s
	return x, nil
}

// driverName is the form of a driver's name (CSI's GetPluginInfo): it is part of paths.
var driverName = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?$`)

// interview asks a driver what it knows of this machine.
func interview(ctx context.Context, info *registration.PluginInfo) (*driver, error) {
	ours := func(v string) bool { return v == "1" || strings.HasPrefix(v, "1.") || strings.HasPrefix(v, "v1.") }
	switch {
	case !driverName.MatchString(info.Name):
		return nil, fmt.Errorf("the driver's name %q is none", info.Name)
	case !slices.ContainsFunc(info.SupportedVersions, ours):
		return nil, fmt.Errorf("driver %s speaks CSI %v, not 1.x", info.Name, info.SupportedVersions)
	case !filepath.IsAbs(info.Endpoint):
		return nil, fmt.Errorf("driver %s is at %q, which is no absolute path", info.Name, info.Endpoint)
	}
	conn, err := dial(info.Endpoint)
	if err != nil {
		return nil, err
	}
	x := &driver{Driver: Driver{Name: info.Name}, conn: conn, node: csi.NewNodeClient(conn)}
	if err := x.ask(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("driver %s: %w", info.Name, err)
	}
	return x, nil
}

func (x *driver) ask(ctx context.Context) error {
	is, err := x.node.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
	if err != nil {
		return fmt.Errorf("NodeGetInfo: %w", err)
	}
	if is.NodeId == "" {
		return errors.New("NodeGetInfo: it gives this machine no name")
	}
	x.NodeID, x.Most, x.Topology = is.NodeId, is.MaxVolumesPerNode, is.GetAccessibleTopology().GetSegments()
	can, err := x.node.NodeGetCapabilities(ctx, &csi.NodeGetCapabilitiesRequest{})
	if err != nil {
		return fmt.Errorf("NodeGetCapabilities: %w", err)
	}
	for _, c := range can.Capabilities {
		switch c.GetRpc().GetType() {
		case csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME:
			x.stages = true
		case csi.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP:
			x.groups = true
		default:
		}
	}
	return nil
}
