package peer

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"shoal/consensus"
	"shoal/consensus/store"
	"shoal/gossip"
	"shoal/internal/api"
)

// What a peer says of itself by gossip.
const (
	metaAPI     = "api" // port
	metaVersion = "version"
	metaZone    = "zone"
	metaDisk    = "disk" // how long a write takes, when that is too long for a voter, or why there are none
	metaCA      = "ca"   // fingerprints of the CAs that signed its certificates, and of those it trusts: trustSaid
	metaKeys    = "keys" // fingerprints of gossip's keys that it holds, the one that it encrypts with first
)

// liveness lets the roles ask what gossip believes, in the API's words.
type liveness struct{ p *Peer }

// Liveness implements the roles' interfaces of that name.
func (l liveness) Liveness(node string) api.Liveness { return l.p.Liveness(node) }

// Changed returns a channel that is closed at the next change of anything.
func (l liveness) Changed() <-chan struct{} { return l.p.gossip.Changed() }

// Since returns when the node's machine came into the state it is in; zero when unknown.
func (l liveness) Since(node string) time.Time {
	m, _ := l.p.gossip.Member(node)
	return m.Since
}

// Unsteady reports that the node's machine is there, and was not too often lately.
func (l liveness) Unsteady(node string) bool {
	m, _ := l.p.gossip.Member(node)
	return !m.Unsteady.IsZero()
}

// Liveness returns what gossip believes of a peer. A peer does not doubt itself.
func (p *Peer) Liveness(name string) api.Liveness {
	if name == p.cfg.Name {
		return api.Alive
	}
	return api.Liveness(p.gossip.State(name))
}

// members returns every peer that has been let in, or is known by gossip, sorted by name.
func (p *Peer) members() []api.PeerStatus {
	all := map[string]api.PeerStatus{}
	if records, err := readAll[peerRecord](p.raft, peerPrefix); err == nil {
		for _, r := range records {
			host, _, _ := net.SplitHostPort(r.Address)
			all[r.Name] = api.PeerStatus{Name: r.Name, Address: host, API: "https://" + r.Address, State: api.Unknown, Since: r.Joined}
		}
	}
	for _, m := range p.gossip.Members() {
		if _, in := all[m.Name]; !in && p.wasRemoved(m.Name) {
			continue
		}
		s := api.PeerStatus{
			Name: m.Name, Address: m.Addr, API: "https://" + apiAddress(m), State: p.Liveness(m.Name), Since: m.Since,
			Version: m.Meta[metaVersion], Zone: m.Meta[metaZone], Disk: m.Meta[metaDisk],
		}
		if !m.Unsteady.IsZero() {
			s.Unsteady = &m.Unsteady
		}
		all[m.Name] = s
	}
	self := all[p.cfg.Name]
	self.Name, self.Address, self.API, self.State = p.cfg.Name, p.advertise.String(), "https://"+p.address(), api.Alive
	self.Version, self.Zone, self.Disk = p.version, p.cfg.Zone, p.disk()
	all[p.cfg.Name] = self
	return slices.SortedFunc(maps.Values(all), func(a, b api.PeerStatus) int { return cmp.Compare(a.Name, b.Name) })
}

func apiAddress(m gossip.Member) string {
	port := m.Meta[metaAPI]
	if port == "" {
		port = "6443"
	}
	return net.JoinHostPort(m.Addr, port)
}

// addressOf returns where a peer's API is: by gossip, else where it was last.
func (p *Peer) addressOf(name string) (string, bool) {
	if name == p.cfg.Name {
		return p.address(), true
	}
	if m, ok := p.gossip.Member(name); ok && m.Addr != "" {
		return apiAddress(m), true
	}
	if r, _, ok, err := read[peerRecord](p.raft, peerPrefix+store.Key(name)); err == nil && ok {
		return r.Address, true
	}
	return "", false
}

// gossipAddresses are where a machine that joins can begin to gossip.
func (p *Peer) gossipAddresses() map[string]string {
	all := map[string]string{p.cfg.Name: net.JoinHostPort(p.advertise.String(), strconv.Itoa(p.cfg.Gossip.Port))}
	for _, m := range p.gossip.Members() {
		all[m.Name] = m.HostPort()
	}
	return all
}

// health is what consensus needs to choose voters.
func (p *Peer) health() map[consensus.PeerID]consensus.Health {
	all := map[consensus.PeerID]consensus.Health{}
	for _, m := range p.gossip.Members() {
		s := p.Liveness(m.Name)
		disk, err := time.ParseDuration(cmp.Or(m.Meta[metaDisk], "0s"))
		if err != nil {
			disk = time.Hour // it says why there are no writes
		}
		all[peerID(m.Name)] = consensus.Health{
			Alive: s == api.Alive || s == api.Suspect || s == api.Unknown, Unsteady: !m.Unsteady.IsZero(), Zone: m.Meta[metaZone], Disk: disk,
		}
	}
	disk, _ := p.raft.Disk()
	all[peerID(p.cfg.Name)] = consensus.Health{Alive: true, Zone: p.cfg.Zone, Disk: disk}
	return all
}

// meta is what this peer says of itself by gossip.
func (p *Peer) meta(disk string, keys [][]byte) map[string]string {
	meta := map[string]string{metaAPI: portOf(p.address()), metaVersion: p.version, metaZone: p.cfg.Zone, metaKeys: fingerprints(keys), metaCA: p.saysTrust().String()}
	if disk != "" {
		meta[metaDisk] = disk
	}
	return meta
}

// tell says by gossip what there is to say now.
func (p *Peer) tell() error {
	p.telling.Lock()
	defer p.telling.Unlock()
	return p.gossip.UpdateMeta(p.meta(p.disk(), p.gossip.Keys()))
}

// disk says in a few words what is wrong with this peer's disk, or nothing.
func (p *Peer) disk() string {
	took, err := p.raft.Disk()
	var why unix.Errno
	switch {
	case errors.As(err, &why):
		return why.Error()
	case err != nil:
		return "takes no writes"
	case took > 0:
		return took.Round(100 * time.Millisecond).String()
	}
	return ""
}

// tellDisk says by gossip when something is wrong with this peer's disk, or is not any more, until ctx ends.
func (p *Peer) tellDisk(ctx context.Context) error {
	told := ""
	for {
		changed := p.raft.Changed()
		if d := p.disk(); d != told {
			p.log.Warn("the disk under the log", "trouble", d)
			if err := p.tell(); err != nil {
				return err
			}
			told = d
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// awaitVoter gives a peer that has just joined a moment to be made a voter: what an administrator asks of it must not fail meanwhile.
func (p *Peer) awaitVoter(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, masterWait)
	defer cancel()
	return p.raft.AwaitVoter(ctx, peerID(name))
}

// isVoter reports whether a peer votes, as far as this peer's configuration of the log says.
func (p *Peer) isVoter(name string) bool {
	return p.raft.IsVoter(peerID(name))
}

// role names a peer's part.
func (p *Peer) role(name, master string) string {
	st := p.raft.Status()
	switch {
	case name == master:
		return api.RoleMaster
	case slices.Contains(st.Voters, peerID(name)):
		return api.RoleVoter
	case slices.Contains(st.Replicas, peerID(name)):
		return api.RoleReplica
	}
	return api.RoleClient
}

// serviceIP returns the nth address of the Services' range.
func (p *Peer) serviceIP(n int) net.IP {
	a := netip.MustParsePrefix(p.cfg.Network.ServiceCIDR).Addr()
	for range n {
		a = a.Next()
	}
	return a.AsSlice()
}
