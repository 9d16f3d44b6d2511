package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"shoal/node/runtime/proc"
)

// daemon is the keeper's own containerd. It is started again when it ends, and left running when the keeper ends:
// containers live in their shims and need neither.
type daemon struct {
	config Config

	mu       sync.Mutex
	proc     proc.ID
	failure  string
	restarts int
}

// Restarts are this far apart at first, and twice as far after each that did not live for settled.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = 10 * time.Second
	settled    = 10 * time.Second
)

func (d *daemon) identity() string { return filepath.Join(d.config.RunDir, "containerd.json") }

// run keeps containerd alive until ctx ends.
func (d *daemon) run(ctx context.Context) error {
	delay := firstDelay
	for {
		begin := time.Now()
		p, err := d.adoptOrStart()
		if err == nil {
			d.set(p)
			if err = p.Wait(ctx); ctx.Err() != nil {
				return nil
			}
			err = errors.Join(fmt.Errorf("containerd ended, see %s", d.logPath()), err)
		}
		if time.Since(begin) > settled {
			delay = firstDelay
		}
		d.config.Log.Warn("containerd does not run", "err", err, "retry", delay)
		d.mu.Lock()
		d.proc, d.failure = proc.ID{}, err.Error()
		d.restarts++
		d.mu.Unlock()
		t := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		delay = min(2*delay, lastDelay)
	}
}

// adoptOrStart returns the containerd of the keeper before this one if it lives, else a new one.
func (d *daemon) adoptOrStart() (proc.ID, error) {
	if p, err := readIdentity(d.identity()); err == nil && p.Alive() {
		return p, nil
	}
	binary, err := exec.LookPath("containerd")
	if err != nil {
		return proc.ID{}, errors.New("containerd is not installed: apt-get install containerd")
	}
	config, err := d.writeConfig()
	if err != nil {
		return proc.ID{}, fmt.Errorf("write containerd's configuration: %w", err)
	}
	log, err := openLog(d.logPath())
	if err != nil {
		return proc.ID{}, err
	}
	defer log.Close()
	cmd := exec.Command(binary, "--config", config)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = environment("GOGC=40", "GOMEMLIMIT=64MiB")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return proc.ID{}, fmt.Errorf("start containerd: %w", err)
	}
	p, err := proc.Of(cmd.Process.Pid)
	if err != nil {
		_ = cmd.Process.Kill()
		return proc.ID{}, errors.Join(err, cmd.Wait())
	}
	return p, errors.Join(cmd.Process.Release(), writeFile(d.identity(), p))
}

func (d *daemon) set(p proc.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.proc, d.failure = p, ""
}

func (d *daemon) report(st *Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	st.Containerd, st.Failure, st.Restarts = d.proc.Pid, d.failure, d.restarts
}

// end stops containerd, by force when ctx ends. Containers run on.
func (d *daemon) end(ctx context.Context) error {
	d.mu.Lock()
	p := d.proc
	d.mu.Unlock()
	if p.Alive() {
		if err := p.Signal(unix.SIGTERM); err != nil {
			return err
		}
		if p.Wait(ctx) != nil {
			if err := p.Signal(unix.SIGKILL); err != nil {
				return err
			}
			if err := p.Wait(context.WithoutCancel(ctx)); err != nil {
				return err
			}
		}
	}
	return remove(d.identity())
}

func (d *daemon) logPath() string { return filepath.Join(d.config.DataDir, "keeper", "containerd.log") }

// writeConfig writes containerd's configuration: no more plugins than Shoal uses, because each costs memory.
func (d *daemon) writeConfig() (string, error) {
	root := filepath.Join(d.config.DataDir, "containerd")
	state := filepath.Join(d.config.RunDir, "containerd")
	for _, dir := range []string{root, state} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return "", err
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "version = 2\nroot = %q\nstate = %q\n", root, state)
	fmt.Fprintf(&b, "disabled_plugins = [\n")
	for _, p := range unused() {
		fmt.Fprintf(&b, "  %q,\n", p)
	}
	fmt.Fprintf(&b, "]\n\n[grpc]\naddress = %q\n\n", d.config.containerdSocket())
	fmt.Fprintf(&b, "[ttrpc]\naddress = %q\n\n", d.config.containerdSocket()+".ttrpc")
	fmt.Fprintf(&b, "[debug]\nlevel = \"warn\"\n\n")
	// Removed containers' files go at the next collection: without this it comes after a hundred changes. The threshold is the
	// share of time for collections, and while nothing is removed containerd wakes as often as if that were used up: by default
	// every 25 ms or so.
	fmt.Fprintf(&b, "[plugins.\"io.containerd.gc.v1.scheduler\"]\ndeletion_threshold = 1\nschedule_delay = \"1s\"\npause_threshold = 0.0001\n")
	path := filepath.Join(root, "config.toml")
	return path, os.WriteFile(path, []byte(b.String()), 0o600)
}

func unused() []string {
	return []string{
		"io.containerd.grpc.v1.cri",
		"io.containerd.internal.v1.opt",
		"io.containerd.internal.v1.restart",
		"io.containerd.internal.v1.tracing",
		"io.containerd.tracing.processor.v1.otlp",
		"io.containerd.monitor.v1.cgroups",
		"io.containerd.snapshotter.v1.aufs",
		"io.containerd.snapshotter.v1.blockfile",
		"io.containerd.snapshotter.v1.btrfs",
		"io.containerd.snapshotter.v1.devmapper",
		"io.containerd.snapshotter.v1.zfs",
		"io.containerd.nri.v1.nri",
	}
}

// openLog opens a log file of the keeper or its containerd; one that has grown is begun anew.
func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(path); err == nil && info.Size() > 1<<20 {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(path, flags, 0o600)
}

// environment is this process's, without what only its parent was meant to have.
func environment(extra ...string) []string {
	const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		k, _, _ := strings.Cut(kv, "=")
		return k == "NOTIFY_SOCKET" || k == "WATCHDOG_USEC" || k == "WATCHDOG_PID" || k == "GOGC" || k == "GOMEMLIMIT"
	})
	env = append(env, "PATH="+strings.TrimPrefix(os.Getenv("PATH")+":"+path, ":"))
	return append(env, extra...)
}
