package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"shoal/internal/pki"
)

// memory is what a peer knows of itself between starts: peer.json in its data directory.
type memory struct {
	Name      string            `json:"name"`
	ClusterID string            `json:"clusterID"`
	Epoch     uint64            `json:"epoch"`             // raised when a cluster is recovered, so that what it left behind is refused
	Founder   bool              `json:"founder,omitempty"` // began the log: the first start bootstraps Raft
	Keys      [][]byte          `json:"gossipKeys"`
	Peers     map[string]string `json:"peers"` // last known address by name

	Recovering bool   `json:"recovering,omitempty"` // a recovery has begun and not ended
	Rejoin     bool   `json:"rejoin,omitempty"`     // gives up its copy of the state and asks to be let in again
	Removed    bool   `json:"removed,omitempty"`    // the machine was taken out of the cluster
	Superseded uint64 `json:"superseded,omitempty"` // the epoch in which the cluster goes on without this machine, if it knows
}

// dataDir is a peer's data directory, held by this process alone.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory if needed and locks it. A second peer on the directory is refused.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if !lock(f) {
		return nil, fmt.Errorf("another peer runs on the data directory %s: stop it, or give this one a directory of its own (--data-dir)", path)
	}
	return &dataDir{path: path, lock: f}, nil
}

// lockWait is how long a directory may still be held by what is left of a peer that was killed: a process that it was about to start has its files until
// it is another program.
const lockWait = 2 * time.Second

// lock takes a file for this process; false when another one keeps it.
func lock(f *os.File) bool {
	fd := int(f.Fd())
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		return true
	}
	got, tooLate := make(chan error), make(chan struct{})
	go func() {
		err := unix.Flock(fd, unix.LOCK_EX)
		for err == unix.EINTR {
			err = unix.Flock(fd, unix.LOCK_EX)
		}
		select {
		case got <- err:
		case <-tooLate:
			_ = f.Close()
		}
	}()
	select {
	case err := <-got:
		return err == nil
	case <-time.After(lockWait):
		close(tooLate)
		return false
	}
}

// Close releases the directory.
func (d *dataDir) Close() error { return d.lock.Close() }

func (d *dataDir) join(name ...string) string {
	return filepath.Join(append([]string{d.path}, name...)...)
}

// read returns what the peer remembers; false when it has never been in a cluster.
func (d *dataDir) read() (memory, bool, error) {
	b, err := os.ReadFile(d.join("peer.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return memory{}, false, nil
	}
	if err != nil {
		return memory{}, false, err
	}
	var m memory
	if err := json.Unmarshal(b, &m); err != nil {
		return memory{}, false, fmt.Errorf("%s is damaged: %w; restore it from a copy, or empty the directory and join again", d.join("peer.json"), err)
	}
	return m, true, nil
}

// write replaces what the peer remembers, all or nothing.
func (d *dataDir) write(m memory) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return pki.WriteFile(d.join("peer.json"), b, 0o600)
}

// keep changes what the peer remembers, on the disk first. While a peer runs, nothing else may.
func (p *Peer) keep(change func(*memory)) error {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	next := p.memory
	change(&next)
	if err := p.dir.write(next); err != nil {
		return err
	}
	change(&p.memory) // and nothing else of it: others read it
	return nil
}

// label keeps clusters, and what a recovery left behind, out of each other's gossip.
func (m memory) label() string { return fmt.Sprintf("shoal/%s/%d", m.ClusterID, m.Epoch) }
