// Package lab runs a cluster on one machine, for trying, showing and breaking it: each peer gets what a machine has to
// itself (process, mount, network, host name and IPC namespaces, a cgroup and an address on a bridge). It knows the peer only
// as a program to start; everything it makes is found again from lab.json, the bridges' names and the cgroup.
package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is where all state of the lab lives. There is one lab a machine.
const Dir = "/var/lib/shoal-lab"

const (
	bridgePrefix = "shoal-lab" // of the bridges' names
	cgroupName   = "shoal-lab" // below each hierarchy's root
	subnet       = "10.99.77."
	prefixLen    = 24
	maxPeers     = 20
	apiPort      = 6443
)

// ErrNoLab means that no lab is up.
var ErrNoLab = errors.New("no lab is running: start one with: shoal lab up")

// Config is what the lab needs to know of its surroundings. Complete when passed to Open.
type Config struct {
	Program  string    // path of the shoal binary
	Progress io.Writer // where long work reports; nil is silent
}

// Lab is the one lab of this machine, locked against other commands that change it.
type Lab struct {
	cfg   Config
	state state
	lock  *os.File
}

// Peer is one machine of the lab.
type Peer struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Init    proc   `json:"init"`            // holds the namespaces; gone when the machine is off
	Shoal   proc   `json:"shoal"`           // the peer itself
	Bridge  string `json:"bridge"`          // the segment it is connected to
	Halted  bool   `json:"halt,omitempty"`  // the whole machine is frozen
	Frozen  bool   `json:"froze,omitempty"` // only the peer is
}

// API returns the base URL of the peer's API.
func (p Peer) API() string { return fmt.Sprintf("https://%s:%d", p.Address, apiPort) }

// DataDir returns the peer's data directory.
func (p Peer) DataDir() string { return filepath.Join(p.dir(), "data") }

func (p Peer) dir() string     { return filepath.Join(Dir, p.Name) }
func (p Peer) link() string    { return "lab-" + p.Name }
func (p Peer) logFile() string { return filepath.Join(p.dir(), "peer.log") }

type state struct {
	Complete bool   `json:"complete"` // lab up came to its end
	Peers    []Peer `json:"peers"`
}

// Open takes the lab's lock and reads its state. It fails when another command holds the lock, and with ErrNoLab when
// there is no lab. The caller must Close it.
func Open(cfg Config) (*Lab, error) {
	if _, err := os.Stat(Dir); err != nil {
		return nil, ErrNoLab
	}
	l, err := lockDir(cfg)
	if err != nil {
		return nil, err
	}
	if err := l.load(); err != nil {
		_ = l.Close()
		return nil, err
	}
	if len(l.state.Peers) == 0 {
		_ = l.Close()
		return nil, ErrNoLab
	}
	return l, nil
}

// Peers returns the lab's machines as last recorded, without a lock. It fails with ErrNoLab when there is none.
func Peers() ([]Peer, error) {
	var s state
	if err := s.read(); err != nil {
		return nil, err
	}
	if len(s.Peers) == 0 {
		return nil, ErrNoLab
	}
	return s.Peers, nil
}

// Close releases the lock.
func (l *Lab) Close() error { return l.lock.Close() }

// Peer finds a machine by name.
func (l *Lab) Peer(name string) (*Peer, error) {
	i := slices.IndexFunc(l.state.Peers, func(p Peer) bool { return p.Name == name })
	if i < 0 {
		var names []string
		for _, p := range l.state.Peers {
			names = append(names, p.Name)
		}
		return nil, fmt.Errorf("no peer %q in the lab: it has %s", name, strings.Join(names, ", "))
	}
	return &l.state.Peers[i], nil
}

func lockDir(cfg Config) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the lab makes network namespaces and containers: run it as root")
	}
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(Dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, errors.New("another lab command is running: wait for it to end")
	}
	if cfg.Progress == nil {
		cfg.Progress = io.Discard
	}
	return &Lab{cfg: cfg, lock: f}, nil
}

// relock makes the directory and the lock anew after clean has removed them.
func (l *Lab) relock() error {
	fresh, err := lockDir(l.cfg)
	if err != nil {
		return err
	}
	_ = l.lock.Close()
	l.lock = fresh.lock
	return nil
}

func (s *state) read() error {
	b, err := os.ReadFile(filepath.Join(Dir, "lab.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, s); err != nil {
		return fmt.Errorf("%s is damaged (%w): run: shoal lab down", filepath.Join(Dir, "lab.json"), err)
	}
	return nil
}

func (l *Lab) load() error { return l.state.read() }

// save records the state; it is called before a thing is made, so that a killed command leaves nothing unknown.
func (l *Lab) save() error {
	b, err := json.MarshalIndent(l.state, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(Dir, "lab.json")
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func (l *Lab) say(format string, args ...any) {
	_, _ = fmt.Fprintf(l.cfg.Progress, format+"\n", args...)
}
