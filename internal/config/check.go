package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// secretMin keeps a guessable cluster secret out: the first gossip key is made from it.
const secretMin = 16

// checker collects what is wrong, so that one run of the program names it all.
type checker struct {
	src  source
	errs []error
}

func (k *checker) fail(key, format string, args ...any) {
	k.errs = append(k.errs, k.src.errorf(key, format, args...))
}

func (c *Config) check(src source) error {
	k := &checker{src: src}
	k.machine(&c.Machine)
	k.listeners(c)
	k.raft(&c.Raft)
	k.network(&c.Network)
	k.runtime(&c.Runtime)
	k.eviction(&c.Eviction)
	k.reserved(&c.Reserved)
	for _, name := range c.Master.Without {
		if !slices.Contains(Controllers(), name) {
			k.fail("master.without", "names %q; the controllers that can be left out are %s", name, strings.Join(Controllers(), ", "))
		}
	}
	k.positive("timeouts.eviction_grace", c.Timeouts.EvictionGrace, time.Second)
	k.positive("timeouts.agent_grace", c.Timeouts.AgentGrace, time.Second)
	k.positive("master.peer_certificates", c.Master.PeerCertificates, 30*time.Second)
	k.positive("master.admin_certificates", c.Master.AdminCertificates, 30*time.Second)
	k.backup(&c.Backup)
	k.audit(&c.Log.Audit)
	k.oidc(&c.API.OIDC)
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "text", "json")
	return errors.Join(k.errs...)
}

// Names become DNS labels, Node names and certificate names.
var (
	label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	dns   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	zone  = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
)

func (k *checker) machine(m *Machine) {
	if m.Name != "" && (len(m.Name) > 63 || !dns.MatchString(m.Name)) {
		k.fail("name", "is %q; use at most 63 lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit", m.Name)
	}
	k.absolute("data_dir", m.DataDir)
	k.absolute("run_dir", m.RunDir)
	if m.AdvertiseAddress != "" {
		if a, err := netip.ParseAddr(m.AdvertiseAddress); err != nil || a.IsUnspecified() {
			k.fail("advertise_address", "is %q; write the IP address at which the other machines reach this one", m.AdvertiseAddress)
		}
	}
	if m.Zone != "" && (len(m.Zone) > 63 || !zone.MatchString(m.Zone)) {
		k.fail("zone", "is %q; it becomes a label value: at most 63 letters, digits, '-', '_' and '.'", m.Zone)
	}
	for _, host := range m.Join {
		k.hostPort("join", host)
	}
	if m.BootstrapExpect < 0 {
		k.fail("bootstrap_expect", "is %d; write how many peers start the cluster together, or remove it", m.BootstrapExpect)
	}
	if m.BootstrapExpect > 1 && m.ClusterSecret == "" {
		k.fail("bootstrap_expect", "needs cluster_secret_file (or cluster_secret), the same on every machine; make one with: openssl rand -hex 32")
	}
	if m.BootstrapExpect > 1 && len(m.Join) == 0 {
		k.fail("bootstrap_expect", "needs join: the addresses of the peers that start together")
	}
	if m.ClusterSecret != "" && len(m.ClusterSecret) < secretMin {
		k.fail("cluster_secret", "has %d characters; use at least %d, for example from: openssl rand -hex 32", len(m.ClusterSecret), secretMin)
	}
}

func (k *checker) listeners(c *Config) {
	if _, err := netip.ParseAddr(c.API.Address); err != nil {
		k.fail("api.address", `is %q; write an IP address of this machine, or "0.0.0.0" for all`, c.API.Address)
	}
	k.port("api.port", c.API.Port)
	k.port("gossip.port", c.Gossip.Port)
	if c.API.Port == c.Gossip.Port {
		k.fail("gossip.port", "and api.port are both %d; use two different ports", c.API.Port)
	}
	k.positive("gossip.probe_interval", c.Gossip.ProbeInterval, 10*time.Millisecond)
	k.positive("gossip.probe_timeout", c.Gossip.ProbeTimeout, 5*time.Millisecond)
	if c.Gossip.ProbeTimeout >= c.Gossip.ProbeInterval {
		k.fail("gossip.probe_timeout", "is %v; it must be shorter than probe_interval (%v)", c.Gossip.ProbeTimeout, c.Gossip.ProbeInterval)
	}
	if c.Gossip.Suspicion < 1 {
		k.fail("gossip.suspicion", "is %d; use 1 or more (1 is the default)", c.Gossip.Suspicion)
	}
	k.positive("gossip.host_timeout", c.Gossip.HostTimeout, 10*time.Millisecond)
}

func (k *checker) raft(r *Raft) {
	k.positive("raft.heartbeat_timeout", r.HeartbeatTimeout, 50*time.Millisecond)
	k.positive("raft.election_timeout", r.ElectionTimeout, 50*time.Millisecond)
	k.positive("raft.commit_timeout", r.CommitTimeout, time.Millisecond)
	if r.ElectionTimeout < r.HeartbeatTimeout {
		k.fail("raft.election_timeout", "is %v; it must not be shorter than heartbeat_timeout (%v)", r.ElectionTimeout, r.HeartbeatTimeout)
	}
	if r.Voters < 1 || r.Voters > 9 || r.Voters%2 == 0 {
		k.fail("raft.voters", "is %d; use 1, 3, 5, 7 or 9 (an even number survives no more losses than the odd one below it)", r.Voters)
	}
	if r.Replicas < r.Voters {
		k.fail("raft.replicas", "is %d; it counts the voters too, so use at least %d", r.Replicas, r.Voters)
	}
}

func (k *checker) network(n *Network) {
	pods := k.cidr("network.pod_cidr", n.PodCIDR)
	services := k.cidr("network.service_cidr", n.ServiceCIDR)
	if pods.IsValid() && services.IsValid() && pods.Overlaps(services) {
		k.fail("network.service_cidr", "%v overlaps pod_cidr %v; choose ranges that share no address", services, pods)
	}
	if services.IsValid() && services.Bits() > 27 {
		k.fail("network.service_cidr", "%v is too small; use a /27 or larger", services)
	}
	if pods.IsValid() && (n.NodePrefix <= pods.Bits() || n.NodePrefix > 29) {
		k.fail("network.node_prefix", "is %d; each node gets a /node_prefix out of %v, so use %d to 29", n.NodePrefix, pods, pods.Bits()+1)
	}
	if len(n.Domain) > 200 || !dns.MatchString(n.Domain) {
		k.fail("network.domain", "is %q; write a DNS domain such as cluster.local", n.Domain)
	}
}

func (k *checker) runtime(r *Runtime) {
	if r.Socket != "" {
		k.absolute("runtime.socket", r.Socket)
	}
	k.absolute("runtime.cgroup_parent", r.CgroupParent)
	k.absolute("runtime.kubelet_dir", r.KubeletDir)
	if name := r.OCIRuntime; name == "" || strings.Contains(name, "/") && !filepath.IsAbs(name) {
		k.fail("runtime.oci_runtime", "is %q; write runc, crun, or the absolute path of one of their like", name)
	}
	if r.PodPIDs < 0 || r.PodPIDs > 0 && r.PodPIDs < 16 {
		k.fail("runtime.pod_pids", "is %d; no pod could start with so few: use 16 or more, or 0 for any number", r.PodPIDs)
	}
	if r.StaticPods != "" {
		k.absolute("runtime.static_pods", r.StaticPods)
	}
	for _, host := range r.InsecureRegistries {
		k.hostPort("runtime.insecure_registries", host)
	}
	for host, urls := range r.Mirrors {
		key := `runtime.mirrors."` + host + `"`
		k.hostPort(key, host)
		for _, u := range urls {
			if p, err := url.Parse(u); err != nil || p.Host == "" || p.Scheme != "http" && p.Scheme != "https" {
				k.fail(key, "has %q; write a URL such as https://mirror.example:5000", u)
			}
		}
	}
}

// recipient is the form of age's public keys (age-encryption.org/v1): Bech32, of which the key's own checksum is looked at when it is used.
var recipient = regexp.MustCompile(`^age1[02-9ac-hj-np-z]{58}$`)

func (k *checker) backup(b *Backup) {
	if b.Every != 0 {
		k.positive("backup.every", b.Every, time.Minute)
		if len(b.Recipients) == 0 {
			k.fail("backup.every", "needs backup.recipients: whom backups are encrypted for; make a pair of keys with: age-keygen")
		}
	}
	k.absolute("backup.directory", b.Directory)
	if b.Keep < 1 {
		k.fail("backup.keep", "is %d; keep 1 or more", b.Keep)
	}
	for _, r := range b.Recipients {
		if !recipient.MatchString(r) {
			k.fail("backup.recipients", "has %q; write a public key that begins with age1, as age-keygen prints it", r)
		}
	}
}

func (k *checker) absolute(key, path string) {
	if !filepath.IsAbs(path) {
		k.fail(key, "is %q; write an absolute path", path)
	}
}

func (k *checker) port(key string, port int) {
	if port < 1 || port > 65535 {
		k.fail(key, "is %d; use 1 to 65535", port)
	}
}

func (k *checker) positive(key string, d, least time.Duration) {
	if d < least {
		k.fail(key, "is %v; use at least %v", d, least)
	}
}

func (k *checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		k.fail(key, "is %q; use one of %s", value, strings.Join(allowed, ", "))
	}
}

// hostPort accepts a name or an address, each with or without a port.
func (k *checker) hostPort(key, value string) {
	host := value
	if h, port, err := net.SplitHostPort(value); err == nil {
		if _, err := net.LookupPort("tcp", port); err != nil {
			k.fail(key, "has %q; the port must be 1 to 65535", value)
			return
		}
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return
	}
	for part := range strings.SplitSeq(strings.ToLower(strings.TrimSuffix(host, ".")), ".") {
		if !label.MatchString(part) {
			k.fail(key, "has %q; write a host name or an IP address, with or without a port", value)
			return
		}
	}
}

func (k *checker) cidr(key, value string) netip.Prefix {
	p, err := netip.ParsePrefix(value)
	switch {
	case err != nil || !p.Addr().Is4():
		k.fail(key, "is %q; write an IPv4 range such as 10.43.0.0/16", value)
		return netip.Prefix{}
	case p.Masked() != p:
		k.fail(key, "is %v, whose address has bits beyond the prefix; write %v", p, p.Masked())
		return netip.Prefix{}
	}
	return p
}
