package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"

	"shoal/internal/config"
	"shoal/internal/peer"
	"shoal/node/keeper"
)

type upCmd struct {
	Config string   `placeholder:"FILE" help:"Configuration; /etc/shoal/config.toml when it exists."`
	Join   []string `placeholder:"HOST" help:"Machines of the cluster to join."`
	Token  string   `help:"What lets this machine in: shoal token create."`
	Name   string   `help:"Name of this peer and its Node; the host name by default."`
}

const defaultConfig = "/etc/shoal/config.toml"

// Run starts the peer and returns when it was told to stop and has.
func (c upCmd) Run(ctx context.Context, g *Globals, std streams) error {
	if err := checkMachine(); err != nil {
		return err
	}
	// What the peer starts must be found where it was looked for.
	if err := os.Setenv("PATH", searchPath(os.Getenv("PATH"))); err != nil {
		return err
	}
	cfg, err := c.load(g)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath(cfg.Runtime.OCIRuntime); err != nil {
		return fmt.Errorf("runtime.oci_runtime names a program that is not here: install it, or write runc: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log := logger(cfg.Log, std)
	adoptLogs(log)
	return peer.New(peer.Config{Config: cfg, Version: version, Program: self, Log: log}).Run(ctx)
}

// adoptLogs has Kubernetes' libraries log as the peer does. What they call unhandled errors is what a client did wrong, such as to run
// a program that its container has not got: the client has been told.
func adoptLogs(log *slog.Logger) {
	klog.SetSlogLogger(log)
	utilruntime.ErrorHandlers = []utilruntime.ErrorHandler{func(_ context.Context, err error, msg string, about ...any) {
		log.Debug(msg, append(about, "err", err)...)
	}}
}

func (c upCmd) load(g *Globals) (*config.Config, error) {
	file := c.Config
	if _, err := os.Stat(defaultConfig); file == "" && err == nil {
		file = defaultConfig
	}
	cfg, err := config.Load(file, func(cfg *config.Config) {
		if len(c.Join) > 0 {
			cfg.Join = c.Join
		}
		if c.Token != "" {
			cfg.Token, cfg.TokenFile = c.Token, ""
		}
		if c.Name != "" {
			cfg.Name = c.Name
		}
		if g.DataDir != config.Default().DataDir {
			cfg.DataDir = g.DataDir
		}
	})
	if err != nil {
		return nil, usageError{err}
	}
	return cfg, nil
}

func logger(c config.Log, std streams) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if strings.EqualFold(c.Format, "json") {
		return slog.New(slog.NewJSONHandler(std.err, opts))
	}
	return slog.New(slog.NewTextHandler(std.err, opts))
}

// keep is the keeper's process, which up starts. It has flags of its own and is not part of the grammar.
func keep(ctx context.Context, args []string) int {
	if err := keeper.Main(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "shoal keeper:", err)
		return exitFailed
	}
	return 0
}
