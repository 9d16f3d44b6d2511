package node

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// maxHostname is the longest name a machine may have.
const maxHostname = 63

func hostname(p *corev1.Pod) string {
	name := p.Spec.Hostname
	if p.Spec.HostnameOverride != nil {
		name = *p.Spec.HostnameOverride
	}
	if name == "" {
		name = p.Name
	}
	if len(name) > maxHostname {
		name = strings.TrimRight(name[:maxHostname], "-.")
	}
	return name
}

// maxFQDN is the longest name that the kernel takes for a machine.
const maxFQDN = 64

// fqdn is the whole name of a pod that has a subdomain.
func (n *Node) fqdn(p *corev1.Pod) string {
	return fmt.Sprintf("%s.%s.%s.svc.%s", hostname(p), p.Spec.Subdomain, p.Namespace, n.cfg.DNS.Domain)
}

// hostsFile is a pod's /etc/hosts: itself and its aliases, in the host's network over what the host knows.
func (n *Node) hostsFile(p *corev1.Pod) []byte {
	var b bytes.Buffer
	if p.Spec.HostNetwork {
		if host, err := os.ReadFile("/etc/hosts"); err == nil {
			b.Write(host)
		}
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
		name := hostname(p)
		for _, ip := range p.Status.PodIPs {
			if p.Spec.Subdomain != "" {
				fmt.Fprintf(&b, "%s\t%s\t%s\n", ip.IP, n.fqdn(p), name)
			} else {
				fmt.Fprintf(&b, "%s\t%s\n", ip.IP, name)
			}
		}
	}
	for _, a := range p.Spec.HostAliases {
		fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
	return b.Bytes()
}

// resolver is what a resolv.conf says.
type resolver struct {
	servers, searches, options []string
}

// parseResolver reads the lines of a resolv.conf that matter.
func parseResolver(b []byte) resolver {
	var r resolver
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			r.servers = append(r.servers, f[1])
		case "search", "domain":
			r.searches = f[1:]
		case "options":
			r.options = append(r.options, f[1:]...)
		}
	}
	return r
}

// Limits of the resolver in libc.
const (
	maxServers  = 3
	maxSearches = 32
)

func (r *resolver) render() []byte {
	var b bytes.Buffer
	if len(r.searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.searches[:min(len(r.searches), maxSearches)], " "))
	}
	for _, s := range r.servers[:min(len(r.servers), maxServers)] {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return b.Bytes()
}

// podResolver says how a pod resolves names, given how its host does.
func podResolver(p *corev1.Pod, dns DNS, machine resolver) resolver {
	policy := p.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && p.Spec.HostNetwork {
		policy = corev1.DNSDefault
	}
	var r resolver
	switch policy {
	case corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, "":
		r.servers = slices.Clone(dns.Servers)
		r.searches = []string{p.Namespace + ".svc." + dns.Domain, "svc." + dns.Domain, dns.Domain}
		r.options = []string{"ndots:5"}
	case corev1.DNSDefault:
		r = resolver{slices.Clone(machine.servers), slices.Clone(machine.searches), slices.Clone(machine.options)}
	case corev1.DNSNone:
	}
	c := p.Spec.DNSConfig
	if c == nil {
		return r
	}
	for _, s := range c.Nameservers {
		if !slices.Contains(r.servers, s) && net.ParseIP(s) != nil {
			r.servers = append(r.servers, s)
		}
	}
	for _, s := range c.Searches {
		if !slices.Contains(r.searches, s) {
			r.searches = append(r.searches, s)
		}
	}
	for _, o := range c.Options {
		r.options = slices.DeleteFunc(r.options, func(have string) bool {
			name, _, _ := strings.Cut(have, ":")
			return name == o.Name
		})
		if o.Value != nil && *o.Value != "" {
			r.options = append(r.options, o.Name+":"+*o.Value)
		} else {
			r.options = append(r.options, o.Name)
		}
	}
	return r
}

// writeResolver writes a pod's resolv.conf into its directory.
func (n *Node) writeResolver(dir string, p *corev1.Pod) error {
	var machine resolver
	if b, err := os.ReadFile("/etc/resolv.conf"); err == nil {
		machine = parseResolver(b)
	}
	r := podResolver(p, n.cfg.DNS, machine)
	return writeIfChanged(filepath.Join(dir, "resolv.conf"), r.render(), 0o644)
}

// writeIfChanged writes in place, because containers have the very file mounted.
func writeIfChanged(path string, content []byte, mode os.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	return os.WriteFile(path, content, mode)
}
