package consensus

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// PeerID is the name of a peer. It is also its Raft server id and address, so a peer's IP may change at any time.
type PeerID string

// Config is complete when given to New and never changed after.
type Config struct {
	ID  PeerID
	Dir string // where log and snapshots live; made when missing; one process at a time

	// Stream carries Raft between the peers. It is closed when Run ends. Not used when Transport is set.
	Stream Stream
	// Transport replaces Stream, for tests in one process. Its local address must be ID.
	Transport raft.LoopbackTransport
	// Peers calls Handle of other peers.
	Peers Caller

	// Health tells what is known about the other peers; one that is not in it is left as it is. Nil: all are well.
	Health func() map[PeerID]Health
	// HealthChanged returns a channel that is closed at Health's next change. Nil when Health is.
	HealthChanged func() <-chan struct{}

	// Lead runs all the Master's work in the term until ctx ends, and then returns. It begins after everything of earlier
	// terms has been applied here. When it returns by itself, leadership is handed over; if nobody takes it, Lead is run
	// again in the same term. Nil: nothing to do.
	Lead func(ctx context.Context, term uint64) error

	Bootstrap  bool // begin a cluster of this one peer if the directory holds nothing
	VotersMax  int  // default 5
	HistoryMax int  // changes remembered before the Master forgets the older half; default 10,000

	disk func(dir string, log *logger) (disk, error) // opens another disk than openDisk, for tests; else nil

	Timing Timing
	Log    *slog.Logger // nil: silent
}

// Timing of Raft; zero values are replaced by the defaults given.
type Timing struct {
	Heartbeat time.Duration // silence of the leader after which a follower stands for election, up to twice this; 1 s
	Election  time.Duration // a candidate's patience, and that of one who hands leadership over; as Heartbeat
	Beat      time.Duration // a leader's pause between heartbeats, up to twice this; a tenth of Heartbeat
	Lease     time.Duration // silence of a majority after which a leader steps down, above 2*Beat and at most Heartbeat; half of it
	Ill       time.Duration // silence after which a leader whose machine is known to be ill is not asked before it is replaced, above 2*Beat; as Lease
	Commit    time.Duration // followers hear of commits at least this often; 250 ms
	Call      time.Duration // patience for one answer of another peer; 2 s

	SnapshotEvery time.Duration // how often the next is looked at; 30 s
	SnapshotLogs  uint64        // entries since the last snapshot that make one worth while; 16,384
	TrailingLogs  uint64        // entries kept behind a snapshot for peers that lag; 16,384
}

// Health is what the node's surroundings know about a peer.
type Health struct {
	Alive    bool          // false: loses its vote as soon as another peer can take it over
	Zone     string        // voters are spread over zones
	Unsteady bool          // alive, but it has not been for long, again and again: gets a vote only if nobody else can
	Disk     time.Duration // how long a write takes to be durable, as the peer's Disk says; zero if unknown or good enough
}

// Stream makes and accepts connections that are authenticated, encrypted and used for Raft alone.
type Stream interface {
	net.Listener
	Dial(to PeerID, timeout time.Duration) (net.Conn, error)
}

// Caller brings a request to Handle of another peer, and its answer back. Safe for concurrent use.
type Caller interface {
	Call(ctx context.Context, to PeerID, method string, body []byte) ([]byte, error)
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	t := &c.Timing
	def(&t.Heartbeat, time.Second)
	def(&t.Election, t.Heartbeat)
	def(&t.Beat, t.Heartbeat/10)
	def(&t.Lease, t.Heartbeat/2)
	def(&t.Ill, t.Lease)
	def(&t.Commit, 250*time.Millisecond)
	def(&t.Call, 2*time.Second)
	def(&t.SnapshotEvery, 30*time.Second)
	if t.SnapshotLogs == 0 {
		t.SnapshotLogs = 1 << 14
	}
	if t.TrailingLogs == 0 {
		t.TrailingLogs = 1 << 14
	}
	if c.VotersMax <= 0 {
		c.VotersMax = 5
	}
	if c.HistoryMax <= 0 {
		c.HistoryMax = 10_000
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("component", "consensus")
	return c
}

func (c Config) raft(notify chan<- bool) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.ID)
	rc.HeartbeatTimeout = c.Timing.Heartbeat
	rc.ElectionTimeout = c.Timing.Election
	rc.LeaderLeaseTimeout = c.Timing.Lease
	rc.CommitTimeout = c.Timing.Commit
	rc.MaxAppendEntries = maxAppend
	rc.BatchApplyCh = true
	rc.SnapshotInterval = c.Timing.SnapshotEvery
	rc.SnapshotThreshold = c.Timing.SnapshotLogs
	rc.TrailingLogs = c.Timing.TrailingLogs
	rc.NotifyCh = notify
	rc.Logger = newLogger(c.Log)
	rc.NoLegacyTelemetry = true
	// A removed peer stays up as a follower that nobody talks to: it still answers reads, and may be added again.
	rc.ShutdownOnRemove = false
	// Both done by restore in open.go, before Raft starts.
	rc.NoSnapshotRestoreOnStart = true
	// Makes Raft tell the log what is committed; see logs.
	rc.RestoreCommittedLogs = true
	return rc
}

// maxAppend is the size of a batch: of entries in one message, and of proposals in one write.
const maxAppend = 512
