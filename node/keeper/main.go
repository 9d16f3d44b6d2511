package keeper

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// Main is the keeper's process: Run with the command line that Ensure gave it. args does not include the verb.
func Main(ctx context.Context, args []string) error {
	var c Config
	fs := flag.NewFlagSet("keeper", flag.ContinueOnError)
	fs.StringVar(&c.DataDir, "data-dir", "/var/lib/shoal", "containerd's root is below it")
	fs.StringVar(&c.RunDir, "run-dir", "/run/shoal", "sockets and volatile state")
	fs.StringVar(&c.ContainerdSocket, "containerd", "", "use the containerd that listens here")
	fs.StringVar(&c.CgroupParent, "cgroup-parent", "", "the keeper's cgroup is made below it")
	fs.Int64Var(&c.LogSize, "log-size", 0, "rotate a container's log at this many bytes")
	fs.IntVar(&c.LogFiles, "log-files", 0, "log files kept of each container")
	readyFD := fs.Int("ready-fd", -1, "file descriptor to write to when ready")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 || c.DataDir == "" || c.RunDir == "" {
		return errors.New("usage: keeper --data-dir DIR --run-dir DIR")
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	debug.SetGCPercent(30)
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	return run(ctx, c, func() error { return announce(*readyFD) })
}

func announce(fd int) error {
	if fd < 0 {
		return nil
	}
	f := os.NewFile(uintptr(fd), "ready")
	if f == nil {
		return errors.New("no such descriptor")
	}
	_, err := f.Write([]byte{'\n'})
	return errors.Join(err, f.Close())
}
