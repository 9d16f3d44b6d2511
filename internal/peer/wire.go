package peer

import (
	"context"
	"net/http"
	"net/netip"
	"sync"

	"shoal/consensus"
	"shoal/consensus/store"
	"shoal/gossip"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/pki"
	"shoal/master"
	"shoal/master/admission"
	masterapi "shoal/master/api"
	"shoal/master/registry"
)

// historyMax is how many changes the store remembers. An EndpointSlice of a hundred endpoints is tens of kilobytes and changes
// with each of its pods: more history is mostly memory. A watcher that is further behind lists again.
const historyMax = 3000

// wire makes the roles and gives each what it needs of the others. Nothing runs yet.
func (p *Peer) wire(ctx context.Context) error {
	if err := p.wireCluster(); err != nil {
		return err
	}
	machine, err := newMachine(ctx, p)
	if err != nil {
		return err
	}
	p.show(machine)
	return nil
}

// show serves everything that a peer does, with its machine.
func (p *Peer) show(m *machine) {
	p.machine = m
	p.front.set(pki.ServerTLS(p.id, []string{"h2", "http/1.1", protoPeer, protoStream, protoRaft}, protoPeer, protoStream, protoRaft), p.routes())
}

// wireCluster makes the roles that are about the cluster, not about this machine.
func (p *Peer) wireCluster() error {
	p.wireTransport()
	if err := p.wireGossip(); err != nil {
		return err
	}
	p.wireRaft(p.lead)
	if err := p.wireAPI(); err != nil {
		return err
	}
	p.master = master.New(master.Config{
		Client: p.registry, Liveness: liveness{p}, PodCIDR: netip.MustParsePrefix(p.cfg.Network.PodCIDR),
		ServiceCIDR: netip.MustParsePrefix(p.cfg.Network.ServiceCIDR), Domain: p.cfg.Network.Domain,
		CA: p.id.CAPEM, CAChanged: p.id.Changed, EvictionGrace: p.cfg.Timeouts.EvictionGrace, AgentGrace: p.cfg.Timeouts.AgentGrace, Clock: p.now, Log: p.log,
		Without: p.cfg.Master.Without, Usage: p.usage, Metrics: p.loops, Rebalance: p.cfg.Master.Rebalance,
	})
	return nil
}

func (p *Peer) wireTransport() {
	p.transport = newTransport(p.id, p.addressOf, func(name string) { p.gossip.Doubt(name) })
	var one sync.Mutex
	say := reporter{log: p.log}
	p.transport.strange = func(name string, err error) {
		one.Lock()
		defer one.Unlock()
		say.warn("a peer's certificate is of a CA that is not trusted here: one of the two was away while the cluster got a new one, and has to be let in "+
			"again: shoal recover --rejoin there, and a start with a token", "peer", name, "err", err)
	}
	if p.wires.dial != nil {
		p.transport.raw = p.wires.dial
	}
}

// wireRaft makes the log; lead is called for the length of each term in which this peer is Master.
func (p *Peer) wireRaft(lead func(ctx context.Context, term uint64) error) {
	p.raft = consensus.New(consensus.Config{
		ID: peerID(p.cfg.Name), Dir: p.dir.join("raft"), Bootstrap: p.memory.Founder,
		Stream: raftStream{
			queue: p.mux.raft, transport: p.transport, changed: p.gossip.Changed,
			alive: func(name string) bool { return p.Liveness(name) == api.Alive },
		},
		Peers:  caller{p.transport},
		Health: p.health, HealthChanged: p.gossip.Changed, Lead: lead, VotersMax: p.cfg.Raft.Voters, HistoryMax: historyMax,
		Timing: consensus.Timing{
			Heartbeat: p.cfg.Raft.HeartbeatTimeout, Election: p.cfg.Raft.ElectionTimeout, Commit: p.cfg.Raft.CommitTimeout,
			// Between a fifth and two fifths of it pass from one heartbeat to the next. One that comes 0.7 s late changes nothing; a Master
			// that gossip calls ill is asked before it is replaced, but not after it has missed the first.
			Beat: p.cfg.Raft.HeartbeatTimeout / 5, Lease: p.cfg.Raft.HeartbeatTimeout / 2, Ill: p.cfg.Raft.HeartbeatTimeout * 42 / 100,
		},
		Log: p.log,
	})
}

func (p *Peer) wireGossip() (err error) {
	p.gossip, err = gossip.New(gossip.Config{
		Name: p.cfg.Name, BindAddr: p.cfg.API.Address, AdvertiseAddr: p.advertise.String(), Port: p.cfg.Gossip.Port,
		Label: p.memory.label(), Keys: p.memory.Keys,
		Meta: p.meta("", p.memory.Keys),
		Seeds: gossip.Seeds{
			Join:  func() []string { return hosts(p.cfg.Join) },
			Known: p.memory.Peers,
			Remember: func(known map[string]string) {
				if err := p.keep(func(m *memory) { m.Peers = known }); err != nil {
					p.log.Warn("cannot remember the peers' addresses", "err", err)
				}
			},
		},
		Timings: gossip.Timings{
			ProbeInterval: p.cfg.Gossip.ProbeInterval, ProbeTimeout: p.cfg.Gossip.ProbeTimeout, Suspicion: p.cfg.Gossip.Suspicion,
			HostTimeout: p.cfg.Gossip.HostTimeout,
			// News are rare and also travel with probes; a faster pace is most of an idle peer's work.
			GossipInterval: 4 * p.cfg.Gossip.ProbeInterval,
		},
		Transport: p.wires.gossip, Answers: p.wires.answers,
		Log: p.log,
	})
	return err
}

// hosts cuts the ports of API addresses off: gossip has its own.
func hosts(addrs []string) []string {
	all := make([]string, len(addrs))
	for i, a := range addrs {
		all[i] = host(a)
	}
	return all
}

func (p *Peer) wireVault() error {
	founder, err := founderRing(p.dir)
	if err != nil {
		return err
	}
	p.vault = &vault{log: p.raft, id: p.id, own: vaultPrefix + store.Key(p.memory.Name), founder: founder}
	return nil
}

// wireAPI makes the registry, with admission in front of it, and the API's server.
func (p *Peer) wireAPI() error {
	sources, err := tokens(p)
	if err != nil {
		return err
	}
	if err := p.openAudit(); err != nil {
		return err
	}
	if err := p.wireVault(); err != nil {
		return err
	}
	var chain admission.Chain
	p.registry = registry.New(registry.Config{
		Log: p.raft, ServiceCIDR: netip.MustParsePrefix(p.cfg.Network.ServiceCIDR), PodCIDR: netip.MustParsePrefix(p.cfg.Network.PodCIDR),
		NodePrefix: p.cfg.Network.NodePrefix, Now: p.now, Logger: p.log,
		Admit: func(ctx context.Context, a *registry.Admission) error {
			return chain.Admit(ctx, admissionRequest(ctx, a))
		},
		Charge:    func(ctx context.Context, c *client.Charge) (func(uint64), error) { return p.master.Charge(ctx, c) },
		Transform: p.vault,
	})
	accounts := newAccounts(p)
	p.authority = newAuthority(p, append(sources, &accounts.rules)...)
	chain = admission.New(admission.Config{Reader: p.registry, EvictionGrace: p.cfg.Timeouts.EvictionGrace, NodeRestriction: p.authority, Kind: p.kind, Authorizer: answers{p.authority}, Now: p.now})
	p.api = masterapi.New(masterapi.Config{
		Registry: p.registry, Auth: p.authority, Peers: peers{p}, Locked: p.locked, Streams: podStreams{p}, Usage: p.usage, Accounts: accounts, Extra: p.extra(), Checks: p.checks(), Metrics: p.writeMetrics, Audit: p.auditor(),
		Version: p.version, Now: p.now, Logger: p.log,
	})
	return nil
}

// caller is how consensus asks other peers.
type caller struct{ t *transport }

// Call implements consensus.Caller.
func (c caller) Call(ctx context.Context, to consensus.PeerID, method string, body []byte) ([]byte, error) {
	return c.t.post(ctx, string(to), "/peer/consensus/"+method, body)
}

// peers is what the API's server knows of the other peers.
type peers struct{ p *Peer }

// Self implements the API's Peers.
func (s peers) Self() string { return s.p.cfg.Name }

// Master implements the API's Peers.
func (s peers) Master() (string, bool) {
	id, ok := s.p.raft.Leader()
	return string(id), ok
}

// Holders implements the API's Peers: the voters, the Master first, then those that answer.
func (s peers) Holders() []string {
	var first, last []string
	master, _ := s.p.raft.Leader()
	for _, id := range s.p.raft.Status().Voters {
		switch name := string(id); {
		case name == s.p.cfg.Name:
		case id == master:
			first = append([]string{name}, first...)
		case s.p.Liveness(name) == api.Alive:
			first = append(first, name)
		default:
			last = append(last, name)
		}
	}
	return append(first, last...)
}

// Changed implements the API's Peers.
func (s peers) Changed() <-chan struct{} { return s.p.raft.Changed() }

// RoundTripTo implements the API's Peers.
func (s peers) RoundTripTo(name string, r *http.Request) (*http.Response, error) {
	return s.p.transport.RoundTripTo(name, r)
}
