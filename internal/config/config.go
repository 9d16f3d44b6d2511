// Package config is what a machine's operator may set: one TOML file, every key optional. It reads and checks the file
// and nothing else; it starts nothing and looks nothing up on the network. internal/peer and cmd call it. A Config that
// Load returned is valid and is not changed afterwards.
package config

import "time"

// Config is everything a peer can be told. Its zero value is not usable: begin with Default.
type Config struct {
	Machine
	API      API      `toml:"api"`
	Gossip   Gossip   `toml:"gossip"`
	Raft     Raft     `toml:"raft"`
	Network  Network  `toml:"network"`
	Runtime  Runtime  `toml:"runtime"`
	Eviction Eviction `toml:"eviction"`
	Reserved Reserved `toml:"reserved"`
	Timeouts Timeouts `toml:"timeouts"`
	Master   Master   `toml:"master"`
	Backup   Backup   `toml:"backup"`
	Log      Log      `toml:"log"`
}

// Machine holds the keys at the top of the file: who this peer is and which cluster it belongs to.
type Machine struct {
	Name              string   `toml:"name"` // empty in the file: the host name
	DataDir           string   `toml:"data_dir"`
	RunDir            string   `toml:"run_dir"`
	AdvertiseAddress  string   `toml:"advertise_address"`
	Zone              string   `toml:"zone"`
	Join              []string `toml:"join"`
	Token             string   `toml:"token"`
	TokenFile         string   `toml:"token_file"` // Load reads it into Token
	BootstrapExpect   int      `toml:"bootstrap_expect"`
	ClusterSecret     string   `toml:"cluster_secret"`
	ClusterSecretFile string   `toml:"cluster_secret_file"` // Load reads it into ClusterSecret
}

// API is the one TLS listener: API, Raft and peer-to-peer streams.
type API struct {
	Address string `toml:"address"`
	Port    int    `toml:"port"`
	OIDC    OIDC   `toml:"oidc"`
}

// Gossip is the membership protocol.
type Gossip struct {
	Port          int           `toml:"port"`
	ProbeInterval time.Duration `toml:"probe_interval"`
	ProbeTimeout  time.Duration `toml:"probe_timeout"`
	Suspicion     int           `toml:"suspicion"`    // probe intervals a suspect has to answer
	HostTimeout   time.Duration `toml:"host_timeout"` // how long a silent peer's machine has to answer
}

// Raft is the log's protocol and how many peers take which part in it.
type Raft struct {
	HeartbeatTimeout time.Duration `toml:"heartbeat_timeout"`
	ElectionTimeout  time.Duration `toml:"election_timeout"`
	CommitTimeout    time.Duration `toml:"commit_timeout"`
	Voters           int           `toml:"voters"`
	Replicas         int           `toml:"replicas"`
}

// Network is the pods' and Services' address plan. It must be the same on every peer.
type Network struct {
	PodCIDR     string `toml:"pod_cidr"`
	ServiceCIDR string `toml:"service_cidr"`
	NodePrefix  int    `toml:"node_prefix"` // prefix length of a Node's share of pod_cidr
	Domain      string `toml:"domain"`
}

// Runtime is how this machine runs containers.
type Runtime struct {
	Socket             string              `toml:"socket"` // empty: the keeper runs its own containerd
	CgroupParent       string              `toml:"cgroup_parent"`
	OCIRuntime         string              `toml:"oci_runtime"` // the program that makes containers: runc, crun, or a path
	PodPIDs            int                 `toml:"pod_pids"`    // how many processes and threads a pod may have; zero: any number
	StaticPods         string              `toml:"static_pods"` // empty: static-pods below data_dir
	KubeletDir         string              `toml:"kubelet_dir"` // where CSI drivers look for a kubelet
	InsecureRegistries []string            `toml:"insecure_registries"`
	Mirrors            map[string][]string `toml:"mirrors"` // registry host to the URLs tried before it
}

// Master is what this peer does when it is Master. It should be the same on every peer.
type Master struct {
	Without   []string `toml:"without"`   // controllers that do not run, of those named in Controllers
	Rebalance bool     `toml:"rebalance"` // running pods are moved to machines that have come back
	// For how long certificates are signed. They are renewed when a third of that is left.
	PeerCertificates  time.Duration `toml:"peer_certificates"`
	AdminCertificates time.Duration `toml:"admin_certificates"`
}

// Controllers are those that a cluster may do without, because somebody else does their work, by Kubernetes' names.
func Controllers() []string {
	return []string{
		"replication-controller", "replicaset-controller", "deployment-controller", "daemonset-controller", "statefulset-controller",
		"job-controller", "cronjob-controller", "disruption-controller", "horizontal-pod-autoscaler", "rolling-update",
		"garbage-collector-controller", "resourcequota-controller", "persistentvolume-binder-controller", "attachdetach-controller", "persistentvolume-reclaimer", "ephemeral-volume-controller",
	}
}

// Timeouts are how long things may be away.
type Timeouts struct {
	EvictionGrace time.Duration `toml:"eviction_grace"` // machine gone
	AgentGrace    time.Duration `toml:"agent_grace"`    // peer silent on a machine that lives
}

// Backup is what this machine's peer writes of the cluster's state, and how often.
type Backup struct {
	Every      time.Duration `toml:"every"` // zero: never
	Directory  string        `toml:"directory"`
	Keep       int           `toml:"keep"`       // the newest so many
	Recipients []string      `toml:"recipients"` // public keys, as age-keygen prints them
}

// Log is what the peer says on standard error.
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
	Audit  Audit  `toml:"audit"`
}

// Default returns what an empty file means.
func Default() *Config {
	return &Config{
		Machine: Machine{DataDir: "/var/lib/shoal", RunDir: "/run/shoal", Join: []string{}},
		API:     API{Address: "0.0.0.0", Port: 6443, OIDC: OIDC{UsernameClaim: "sub", GroupsClaim: "groups"}},
		Gossip: Gossip{
			Port: 7946, ProbeInterval: 500 * time.Millisecond, ProbeTimeout: 150 * time.Millisecond, Suspicion: 1,
			HostTimeout: 200 * time.Millisecond,
		},
		Raft: Raft{
			HeartbeatTimeout: 7 * time.Second, ElectionTimeout: 7 * time.Second, CommitTimeout: 5 * time.Second,
			Voters: 5, Replicas: 50,
		},
		Network: Network{
			PodCIDR: "10.244.0.0/15", ServiceCIDR: "10.43.0.0/16", NodePrefix: 24, Domain: "cluster.local",
		},
		Reserved: Reserved{CPU: "0", Memory: "0", Disk: "0"},
		Eviction: Eviction{Memory: "100Mi", Disk: "10%", Inodes: "5%", PIDs: "5%"},
		Runtime:  Runtime{CgroupParent: "/shoal", OCIRuntime: "runc", PodPIDs: 4096, KubeletDir: "/var/lib/kubelet", InsecureRegistries: []string{}, Mirrors: map[string][]string{}},
		Timeouts: Timeouts{EvictionGrace: 3 * time.Second, AgentGrace: 5 * time.Minute},
		Master:   Master{Without: []string{}, PeerCertificates: 7 * 24 * time.Hour, AdminCertificates: 30 * 24 * time.Hour},
		Backup:   Backup{Directory: "/var/backups/shoal", Keep: 14, Recipients: []string{}},
		Log:      Log{Level: "info", Format: "text", Audit: Audit{Enabled: true, MaxSize: "64Mi", Keep: 8}},
	}
}
