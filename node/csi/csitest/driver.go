// Package csitest is a CSI driver whose volumes are directories, in the shape of Kubernetes' hostpath driver, for tests. It does what the specification
// asks of a driver, and refuses what it forbids; it keeps nothing but directories and mounts, so that it can be killed at any time.
package csitest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// TopologyKey is what the driver calls a machine by.
const TopologyKey = "topology.csi.test/node"

// Driver is one machine's.
type Driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	registration.UnsafeRegistrationServer

	Name, NodeID string
	Data         string // where volumes are
	Endpoint     string // the driver's socket, as it is outside
	Versions     []string
	Type         string

	mu    sync.Mutex
	calls []string
	fail  map[string]error
	told  *registration.RegistrationStatus
}

// Serve answers at a socket until ctx ends.
func (d *Driver) Serve(ctx context.Context, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(d.note))
	csi.RegisterIdentityServer(s, d)
	csi.RegisterControllerServer(s, d)
	csi.RegisterNodeServer(s, d)
	registration.RegisterRegistrationServer(s, d)
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	return s.Serve(l)
}

// Fail makes the next call of a method fail.
func (d *Driver) Fail(method string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail == nil {
		d.fail = map[string]error{}
	}
	d.fail[method] = err
}

// Calls returns the methods called since it was asked last, of those that mount or unmount.
func (d *Driver) Calls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls := d.calls
	d.calls = nil
	return calls
}

// Told returns what was said of the registration last.
func (d *Driver) Told() *registration.RegistrationStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.told
}

func (d *Driver) note(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	d.mu.Lock()
	err := d.fail[method]
	delete(d.fail, method)
	if strings.HasSuffix(method, "Volume") {
		d.calls = append(d.calls, method)
	}
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// GetInfo implements registration.RegistrationServer.
func (d *Driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	versions, kind := d.Versions, d.Type
	if versions == nil {
		versions = []string{"1.0.0"}
	}
	if kind == "" {
		kind = registration.CSIPlugin
	}
	return &registration.PluginInfo{Type: kind, Name: d.Name, Endpoint: d.Endpoint, SupportedVersions: versions}, nil
}

// NotifyRegistrationStatus implements registration.RegistrationServer.
func (d *Driver) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = s
	return &registration.RegistrationStatusResponse{}, nil
}

// GetPluginInfo implements csi.IdentityServer.
func (d *Driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.Name, VendorVersion: "1"}, nil
}

// GetPluginCapabilities implements csi.IdentityServer.
func (d *Driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	of := func(t csi.PluginCapability_Service_Type) *csi.PluginCapability {
		return &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: t}}}
	}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		of(csi.PluginCapability_Service_CONTROLLER_SERVICE), of(csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS),
	}}, nil
}

// Probe implements csi.IdentityServer.
func (d *Driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

// ControllerGetCapabilities implements csi.ControllerServer.
func (d *Driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: []*csi.ControllerServiceCapability{{
		Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME}},
	}}}, nil
}

// CreateVolume implements csi.ControllerServer.
func (d *Driver) CreateVolume(_ context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if r.Name == "" || len(r.VolumeCapabilities) == 0 || strings.Contains(r.Name, "/") {
		return nil, status.Error(codes.InvalidArgument, "a name and capabilities are required")
	}
	if err := os.MkdirAll(filepath.Join(d.Data, r.Name), 0o777); err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: r.Name, CapacityBytes: r.GetCapacityRange().GetRequiredBytes(), VolumeContext: r.Parameters,
		AccessibleTopology: []*csi.Topology{{Segments: map[string]string{TopologyKey: d.NodeID}}},
	}}, nil
}

// DeleteVolume implements csi.ControllerServer.
func (d *Driver) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if r.VolumeId == "" || strings.Contains(r.VolumeId, "/") {
		return nil, status.Error(codes.InvalidArgument, "which?")
	}
	return &csi.DeleteVolumeResponse{}, os.RemoveAll(filepath.Join(d.Data, r.VolumeId))
}

// NodeGetInfo implements csi.NodeServer.
func (d *Driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.NodeID, MaxVolumesPerNode: 20, AccessibleTopology: &csi.Topology{Segments: map[string]string{TopologyKey: d.NodeID}}}, nil
}

// NodeGetCapabilities implements csi.NodeServer.
func (d *Driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{Capabilities: []*csi.NodeServiceCapability{{
		Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME}},
	}}}, nil
}

// NodeStageVolume implements csi.NodeServer: it shows the volume's directory where it is told to.
func (d *Driver) NodeStageVolume(_ context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	from := filepath.Join(d.Data, r.VolumeId)
	switch {
	case r.VolumeId == "" || r.StagingTargetPath == "" || r.VolumeCapability.GetMount() == nil:
		return nil, status.Error(codes.InvalidArgument, "a volume, a path and a way to mount are required")
	case !isDir(from):
		return nil, status.Errorf(codes.NotFound, "there is no volume %s", r.VolumeId)
	case !isDir(r.StagingTargetPath):
		return nil, status.Errorf(codes.Internal, "%s is not there", r.StagingTargetPath)
	}
	return &csi.NodeStageVolumeResponse{}, bind(from, r.StagingTargetPath, false)
}

// NodePublishVolume implements csi.NodeServer. A volume that is not staged is made for its pod.
func (d *Driver) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	from := r.StagingTargetPath
	if r.VolumeContext["csi.storage.k8s.io/ephemeral"] == "true" {
		from = filepath.Join(d.Data, r.VolumeId)
		if err := os.MkdirAll(from, 0o777); err != nil {
			return nil, err
		}
		note := fmt.Sprintln(r.VolumeContext["csi.storage.k8s.io/pod.namespace"], r.VolumeContext["csi.storage.k8s.io/pod.name"], r.VolumeContext["hello"])
		if err := os.WriteFile(filepath.Join(from, "note"), []byte(note), 0o644); err != nil {
			return nil, err
		}
	}
	switch {
	case r.VolumeId == "" || r.TargetPath == "" || from == "":
		return nil, status.Error(codes.InvalidArgument, "a volume, a path and where it is staged are required")
	case !isDir(filepath.Dir(r.TargetPath)):
		return nil, status.Errorf(codes.Internal, "the parent of %s is not there", r.TargetPath)
	}
	if err := os.MkdirAll(r.TargetPath, 0o750); err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, bind(from, r.TargetPath, r.Readonly)
}

// NodeUnpublishVolume implements csi.NodeServer.
func (d *Driver) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := unbind(r.TargetPath); err != nil {
		return nil, err
	}
	if err := os.Remove(r.TargetPath); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if strings.HasPrefix(r.VolumeId, "csi-") { // made for its pod
		return &csi.NodeUnpublishVolumeResponse{}, os.RemoveAll(filepath.Join(d.Data, r.VolumeId))
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// NodeUnstageVolume implements csi.NodeServer.
func (d *Driver) NodeUnstageVolume(_ context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	return &csi.NodeUnstageVolumeResponse{}, unbind(r.StagingTargetPath)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func bind(from, to string, readOnly bool) error {
	if err := unbind(to); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", from, to, err)
	}
	if readOnly {
		return unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	return nil
}

// unbind unmounts whatever is mounted at path.
func unbind(path string) error {
	for {
		if err := unix.Unmount(path, 0); errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		} else if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}
