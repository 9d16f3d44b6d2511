package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// The keeper's arguments, each followed by its value.
const (
	keyData       = "data-dir="
	keyRun        = "run-dir="
	keyContainerd = "containerd="
	keyCgroup     = "cgroup-parent="
	keyLogSize    = "log-size="
	keyLogFiles   = "log-files="
	keyReady      = "ready-fd="
)

// Main is the keeper's process: Run with the command line that Ensure gave it. args does not include the verb.
func Main(ctx context.Context, args []string) error {
	c, readyFD, err := parse(args)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	debug.SetGCPercent(30)
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	return run(ctx, c, func() error { return announce(readyFD) })
}

func parse(args []string) (c Config, readyFD int, err error) {
	readyFD = -1
	texts := map[string]*string{
		keyData: &c.DataDir, keyRun: &c.RunDir, keyContainerd: &c.ContainerdSocket, keyCgroup: &c.CgroupParent,
	}
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		key += "="
		if p := texts[key]; p != nil {
			*p = value
			continue
		}
		n, nerr := strconv.ParseInt(value, 10, 64)
		switch key {
		case keyLogSize:
			c.LogSize = n
		case keyLogFiles:
			c.LogFiles = int(n)
		case keyReady:
			readyFD = int(n)
		default:
			nerr = errors.New("unknown")
		}
		if nerr != nil {
			return c, readyFD, fmt.Errorf("keeper: argument %q: %w", arg, nerr)
		}
	}
	if c.DataDir == "" || c.RunDir == "" {
		return c, readyFD, fmt.Errorf("usage: keeper %sDIR %sDIR", keyData, keyRun)
	}
	return c, readyFD, nil
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
