package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// readyTimeout bounds the wait for a peer to answer its API: a slow disk forms a cluster in about a second.
const readyTimeout = 60 * time.Second

// Up makes a lab of n machines, starts their peers with identical configuration and waits until every API answers. What a
// killed lab up left behind is removed first. A lab of n machines that are all off, as after a restart of the host, is started
// with what is on its disks. A lab that is up is an error.
func Up(ctx context.Context, cfg Config, n int) (*Lab, error) {
	if n < 1 || n > maxPeers {
		return nil, fmt.Errorf("a lab has 1 to %d peers, not %d", maxPeers, n)
	}
	l, err := lockDir(cfg)
	if err != nil {
		return nil, err
	}
	if err := l.up(ctx, n); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Lab) up(ctx context.Context, n int) error {
	if err := l.load(); err == nil && l.state.Complete {
		return l.upAgain(ctx, n)
	}
	return l.upAnew(ctx, n)
}

// upAgain starts the lab that is there.
func (l *Lab) upAgain(ctx context.Context, n int) error {
	peers := l.state.Peers
	switch {
	case slices.ContainsFunc(peers, func(p Peer) bool { return p.Init.alive() }):
		return fmt.Errorf("a lab of %d peers is up already: see it with: shoal lab status; end it with: shoal lab down", len(peers))
	case len(peers) != n:
		return fmt.Errorf("a lab of %d peers, all off, is there already: start it with: shoal lab up --peers %[1]d; remove it with: shoal lab down", len(peers))
	}
	l.say("the lab's %d machines are off: they are started with what is on their disks", n)
	for i := range peers { // whoever turned them off may not have been the lab
		if err := peers[i].powerOff(ctx); err != nil {
			return err
		}
	}
	return l.startAll(ctx)
}

func (l *Lab) upAnew(ctx context.Context, n int) error {
	if err := l.clean(ctx); err != nil {
		return err
	}
	if err := l.relock(); err != nil {
		return err
	}
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return err
	}
	secret := hex.EncodeToString(key[:])
	for i := range n {
		l.state.Peers = append(l.state.Peers, Peer{
			Name: fmt.Sprintf("peer-%d", i+1), Address: fmt.Sprintf("%s%d", subnet, 10+i+1), Bridge: bridgePrefix,
		})
	}
	if err := l.save(); err != nil {
		return err
	}
	for i := range l.state.Peers {
		if err := l.prepare(&l.state.Peers[i], secret); err != nil {
			return err
		}
	}
	if err := l.startAll(ctx); err != nil {
		return err
	}
	if err := l.writeKubeconfig(); err != nil {
		return err
	}
	l.state.Complete = true
	return l.save()
}

// startAll starts every machine, and then waits for all of them at once.
func (l *Lab) startAll(ctx context.Context) error {
	var (
		mu    sync.Mutex
		errs  []error
		waits sync.WaitGroup
	)
	started := time.Now()
	for i := range l.state.Peers {
		p := &l.state.Peers[i]
		ready, err := l.launch(ctx, p)
		if err != nil {
			return err
		}
		waits.Go(func() {
			err := ready()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			l.say("%s answers at %s", p.Name, p.API())
		})
	}
	waits.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	l.say("%d peers ready after %d ms", len(l.state.Peers), time.Since(started).Milliseconds())
	return nil
}

// prepare writes the peer's directory and configuration. The files of all peers differ in name and directory only.
func (l *Lab) prepare(p *Peer, secret string) error {
	if err := os.MkdirAll(p.DataDir(), 0o700); err != nil {
		return err
	}
	var join []string
	for _, q := range l.state.Peers {
		join = append(join, fmt.Sprintf("%q", q.Address))
	}
	config := fmt.Sprintf(`name = %q
data_dir = %q
advertise_address = %q
join = [%s]
bootstrap_expect = %d
cluster_secret = %q

[runtime]
cgroup_parent = "/%s"
kubelet_dir = "/run/kubelet"
`, p.Name, p.DataDir(), p.Address, strings.Join(join, ", "), len(l.state.Peers), secret, p.cgroup())
	return os.WriteFile(filepath.Join(p.dir(), "config.toml"), []byte(config), 0o600)
}

// launch boots the machine if it is off and starts its peer. The returned function blocks until the peer says that it is
// ready, and fails with the end of the peer's log when the peer ends before.
func (l *Lab) launch(ctx context.Context, p *Peer) (func() error, error) {
	if err := l.powerOn(p); err != nil {
		return nil, err
	}
	if p.Shoal.alive() {
		return func() error { return nil }, nil
	}
	notify := filepath.Join(p.dir(), "notify.sock")
	_ = os.Remove(notify)
	sock, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		_ = sock.Close()
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(l.cfg.Program, "up", "--config", filepath.Join(p.dir(), "config.toml"))
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.Shoal, err = p.daemon(cmd)
	if errors.Is(err, os.ErrProcessDone) {
		err = fmt.Errorf("it ended at once:\n%s", p.logTail())
	}
	if err != nil {
		_ = sock.Close()
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.Frozen = false
	if err := l.save(); err != nil {
		_ = sock.Close()
		return nil, err
	}
	return func() error { return p.waitReady(ctx, sock) }, nil
}

func (p *Peer) waitReady(ctx context.Context, sock *net.UnixConn) error {
	defer sock.Close()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		if p.Shoal.wait(ctx) == nil {
			close(ended)
		}
	}()
	ready := make(chan struct{})
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := sock.Read(buf)
			if err != nil {
				return
			}
			if bytes.Contains(buf[:n], []byte("READY=1")) {
				close(ready)
				return
			}
		}
	}()
	select {
	case <-ready:
		return nil
	case <-ended:
		return fmt.Errorf("%s ended:\n%s", p.Name, p.logTail())
	case <-ctx.Done():
		return fmt.Errorf("%s is not ready (%w); the end of %s:\n%s", p.Name, ctx.Err(), p.logFile(), p.logTail())
	}
}

func (p *Peer) logTail() string {
	b, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-10):], "\n  ")
}
