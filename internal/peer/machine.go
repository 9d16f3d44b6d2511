package peer

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"path/filepath"

	"golang.org/x/net/http2"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"shoal/internal/client"
	"shoal/internal/config"
	"shoal/internal/pki"
	"shoal/node"
	"shoal/node/csi"
	"shoal/node/images"
	"shoal/node/keeper"
	"shoal/node/manifests"
	"shoal/node/network"
	"shoal/node/pressure"
	"shoal/node/runtime/containerd"
	"shoal/proxy"
	"shoal/proxy/dns"
	"shoal/proxy/policy"
	"shoal/proxy/source"
)

// machine is what a peer does for its own machine: pods, their network, Services and names. All of it talks to this
// peer's API, in memory and with the peer's certificate.
type machine struct {
	keeper  *keeper.Client
	images  *images.Sources
	runtime *containerd.Runtime
	node    *node.Node
	network *network.Machine
	source  *source.Source
	// policies are the cluster's NetworkPolicies, for the proxy.
	policies *policy.Source
	proxy    *proxy.Proxy
	dns      *dns.Server
	// manifests are the machine's static pods.
	manifests *manifests.Directory
	csi       *csi.Drivers
}

const dnsPort = 53

// newMachine wires the machine's roles. Of what it starts, the keeper outlives the peer.
func newMachine(ctx context.Context, p *Peer) (*machine, error) {
	c, err := p.localClient()
	if err != nil {
		return nil, err
	}
	k, err := keeper.Ensure(ctx, keeper.Config{
		DataDir: p.cfg.DataDir, RunDir: p.cfg.RunDir, ContainerdSocket: p.cfg.Runtime.Socket, CgroupParent: p.cfg.Runtime.CgroupParent,
		Command: []string{p.program, "keeper"}, Log: p.log,
	})
	if err != nil {
		return nil, err
	}
	services, pods := netip.MustParsePrefix(p.cfg.Network.ServiceCIDR), netip.MustParsePrefix(p.cfg.Network.PodCIDR)
	sources := p.newImages(c)
	m := &machine{
		keeper: k,
		images: sources,
		runtime: containerd.New(containerd.Config{
			Socket: k.Socket(), RunDir: p.cfg.RunDir, CgroupParent: p.cfg.Runtime.CgroupParent, OCIRuntime: p.cfg.Runtime.OCIRuntime, Sources: sources,
			Keeper: k, Log: p.log,
		}),
		network: network.New(network.Config{Node: p.cfg.Name, Client: c, ServiceCIDR: services, Log: p.log}),
		source:  source.New(source.Config{Client: c, Log: p.log}),
	}
	m.manifests = manifests.New(cmp.Or(p.cfg.Runtime.StaticPods, filepath.Join(p.cfg.DataDir, "static-pods")), p.log)
	m.csi = csi.New(csi.Config{Dir: p.cfg.Runtime.KubeletDir, Records: filepath.Join(p.cfg.DataDir, "pods"), Log: p.log})
	m.policies = policy.New(policy.Config{Node: p.cfg.Name, Client: c, PodRange: pods, Log: p.log})
	first, second := p.dnsAddresses()
	m.proxy = proxy.New(proxy.Config{
		Node: p.cfg.Name, OtherDNS: second, Source: m.source, Policies: m.policies, Programmer: &proxy.Kernel{}, Liveness: liveness{p}, PodCIDR: pods, ServiceCIDR: services, Log: p.log,
	})
	m.node = node.New(node.Config{
		Machine: node.Machine{
			AppArmor: containerd.AppArmor(),
			Name:     p.cfg.Name, Addresses: []string{p.advertise.String()}, Zone: p.cfg.Zone, Version: p.version, ContainerRuntime: "containerd://",
			Reserved: reserved(&p.cfg.Reserved),
		},
		Client: c, Runtime: m.runtime, Network: m.network, Dir: p.cfg.DataDir,
		DNS:        node.DNS{Servers: []string{first.String(), second.String()}, Domain: p.cfg.Network.Domain},
		Authorizer: podAuthority{p.authority}, Now: p.now, Log: p.log, Metrics: p.loops, Withdrawn: m.proxy.Withdrawn, Guard: m.proxy,
		Thresholds: thresholds(&p.cfg.Eviction), HostPorts: m.openHostPorts, Manifests: m.manifests, CSI: m.csi,
		Signer: p.signer, Handler: filepath.Base(p.cfg.Runtime.OCIRuntime), PodPIDs: int64(p.cfg.Runtime.PodPIDs),
	})
	m.dns = dns.New(dns.Config{
		Source: m.source, Domain: p.cfg.Network.Domain, Reverse: []netip.Prefix{pods, services}, Not: []netip.Addr{first, second},
		Down: m.proxy.Down, Log: p.log,
		Addrs: func(ctx context.Context) ([]netip.AddrPort, error) {
			gateway, err := m.network.Gateway(ctx)
			return []netip.AddrPort{netip.AddrPortFrom(gateway, dnsPort)}, err
		},
	})
	return m, nil
}

// signer names the CA that signs the tokens of service accounts, as far as this peer knows: the one of its own newest certificate.
func (p *Peer) signer() (string, <-chan struct{}) {
	changed := p.id.Changed()
	return pki.Hash(p.id.CA()), changed
}

// openHostPorts has the proxy lead ports of this machine to its pods.
func (m *machine) openHostPorts(all []node.HostPort) {
	out := make([]proxy.HostPort, len(all))
	for i, h := range all {
		out[i] = proxy.HostPort{Name: h.Pod, UDP: h.UDP, IP: h.IP, Port: h.Port, To: h.To}
	}
	m.proxy.SetHostPorts(out)
}

// reserved is what the configuration, which has been checked, keeps from pods.
func reserved(r *config.Reserved) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, s := range map[corev1.ResourceName]string{corev1.ResourceCPU: r.CPU, corev1.ResourceMemory: r.Memory, corev1.ResourceEphemeralStorage: r.Disk} {
		if q, err := resource.ParseQuantity(s); err == nil && q.Sign() > 0 {
			out[name] = q
		}
	}
	return out
}

// thresholds are what the configuration, which has been checked, says of when a machine has too little.
func thresholds(e *config.Eviction) pressure.Thresholds {
	out := pressure.Thresholds{}
	for r, s := range map[pressure.Resource]string{
		pressure.Memory: e.Memory, pressure.Disk: e.Disk, pressure.Inodes: e.Inodes, pressure.PIDs: e.PIDs,
	} {
		if t, err := config.ParseThreshold(s); err == nil {
			out[r] = pressure.Threshold{Amount: t.Amount, Share: t.Share}
		}
	}
	return out
}

// run does the machine's work until ctx ends. Pods, routes and rules stay.
func (m *machine) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{
		m.keeper.Run, m.runtime.Run, m.manifests.Run, m.csi.Run, m.node.Run, m.source.Run, m.policies.Run, m.network.Run, m.proxy.Run, m.dns.Run,
	} {
		g.Go(func() error { return run(ctx) })
	}
	return g.Wait()
}

// dnsAddresses are the two Services that pods ask: this machine's server, then the others'.
func (p *Peer) dnsAddresses() (netip.Addr, netip.Addr) {
	first, _ := netip.AddrFromSlice(p.serviceIP(10))
	second, _ := netip.AddrFromSlice(p.serviceIP(11))
	return first, second
}

// localClient talks to this peer's own API without the network, as the node.
func (p *Peer) localClient() (client.Interface, error) {
	return client.NewHTTP(client.HTTPConfig{
		BaseURLs: []string{"https://" + p.cfg.Name}, UserAgent: "shoal/" + p.version, Log: p.log,
		Transport: &http2.Transport{
			DialTLSContext: func(ctx context.Context, _, _ string, _ *tls.Config) (net.Conn, error) {
				raw, err := p.mux.Dial(ctx)
				if err != nil {
					return nil, &net.OpError{Op: "dial", Net: "memory", Err: err}
				}
				conn := tls.Client(raw, pki.PeerTLS(p.id, p.cfg.Name, "h2"))
				return conn, conn.HandshakeContext(ctx)
			},
		},
	})
}
