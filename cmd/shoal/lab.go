package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"

	"shoal/internal/lab"
)

type labCmd struct {
	Up        labUpCmd        `cmd:"" help:"Start a lab."`
	Down      labDownCmd      `cmd:"" help:"End the lab and remove everything of it."`
	Status    labStatusCmd    `cmd:"" help:"Show the lab's machines."`
	Kill      labKillCmd      `cmd:"" help:"Take a machine's power: every process, every container, its link."`
	Start     labStartCmd     `cmd:"" help:"Power a machine on, or start its peer."`
	Stop      labStopCmd      `cmd:"" help:"Stop a peer gracefully; its machine stays on."`
	Freeze    labFreezeCmd    `cmd:"" help:"Stop a peer's process without ending it; with --machine the whole machine."`
	Thaw      labThawCmd      `cmd:"" help:"Undo freeze."`
	Partition labPartitionCmd `cmd:"" help:"Split the network: peer-1,peer-2/peer-3."`
	Heal      labHealCmd      `cmd:"" help:"Undo partition and cut."`
	Cut       labCutCmd       `cmd:"" help:"Take a machine's network cable out."`
	Exec      labExecCmd      `cmd:"" help:"Run a command on a machine of the lab."`
}

func labConfig(std streams) (lab.Config, error) {
	self, err := os.Executable()
	return lab.Config{Program: self, Progress: std.err}, err
}

// change opens the lab, applies f and closes it.
func change(std streams, f func(*lab.Lab) error) error {
	cfg, err := labConfig(std)
	if err != nil {
		return err
	}
	l, err := lab.Open(cfg)
	if err != nil {
		return err
	}
	return errors.Join(f(l), l.Close())
}

type labUpCmd struct {
	Peers int `default:"3" help:"Number of machines."`
}

func (c labUpCmd) Run(ctx context.Context, std streams) error {
	cfg, err := labConfig(std)
	if err != nil {
		return err
	}
	if err := checkMachine(); err != nil {
		return err
	}
	l, err := lab.Up(ctx, cfg, c.Peers)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "The lab is up. Try: shoal peers\nkubectl works too: export KUBECONFIG=%s\n", lab.Kubeconfig())
	return l.Close()
}

type labDownCmd struct{}

func (labDownCmd) Run(ctx context.Context, std streams) error {
	cfg, err := labConfig(std)
	if err != nil {
		return err
	}
	if err := lab.Down(ctx, cfg); err != nil {
		return err
	}
	fmt.Fprintln(std.out, "The lab is gone.")
	return nil
}

type labStatusCmd struct {
	Output string `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

func (c labStatusCmd) Run(ctx context.Context, std streams) error {
	s, err := lab.Look(ctx)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return json.NewEncoder(std.out).Encode(s)
	}
	w := tabwriter.NewWriter(std.out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tADDRESS\tROLE\tSTATE\tAPI")
	for _, p := range s.Peers {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.Name, p.Address, orDash(p.Role), p.State, p.API)
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type peerArg struct {
	Peer string `arg:"" help:"Name of the machine, for example peer-2."`
}

type labKillCmd struct {
	peerArg
	Process bool `help:"End only the peer's process, as a crash would."`
}

func (c labKillCmd) Run(ctx context.Context, std streams) error {
	return change(std, func(l *lab.Lab) error {
		if c.Process {
			return l.KillProcess(ctx, c.Peer)
		}
		return l.Kill(ctx, c.Peer)
	})
}

type labStartCmd struct{ peerArg }

func (c labStartCmd) Run(ctx context.Context, std streams) error {
	return change(std, func(l *lab.Lab) error { return l.Start(ctx, c.Peer) })
}

type labStopCmd struct{ peerArg }

func (c labStopCmd) Run(ctx context.Context, std streams) error {
	return change(std, func(l *lab.Lab) error { return l.Stop(ctx, c.Peer) })
}

type labFreezeCmd struct {
	peerArg
	Machine bool `help:"Freeze everything on the machine, its network too."`
}

func (c labFreezeCmd) Run(std streams) error {
	return change(std, func(l *lab.Lab) error { return l.Freeze(c.Peer, c.Machine) })
}

type labThawCmd struct{ peerArg }

func (c labThawCmd) Run(std streams) error {
	return change(std, func(l *lab.Lab) error { return l.Thaw(c.Peer) })
}

type labPartitionCmd struct {
	Groups string `arg:"" help:"Groups separated by slashes, machines by commas: peer-1,peer-2/peer-3."`
}

func (c labPartitionCmd) Run(std streams) error {
	return change(std, func(l *lab.Lab) error { return l.Partition(c.Groups) })
}

type labHealCmd struct{}

func (labHealCmd) Run(std streams) error {
	return change(std, func(l *lab.Lab) error { return l.Heal() })
}

type labCutCmd struct{ peerArg }

func (c labCutCmd) Run(std streams) error {
	return change(std, func(l *lab.Lab) error { return l.Cut(c.Peer) })
}

type labExecCmd struct {
	peerArg
	Command []string `arg:"" passthrough:"" help:"Command and arguments, after --."`
}

func (c labExecCmd) Run(std streams) error {
	args := c.Command
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return usagef("name a command: shoal lab exec %s -- ip addr", c.Peer)
	}
	peers, err := lab.Peers()
	if err != nil {
		return err
	}
	for _, p := range peers {
		if p.Name != c.Peer {
			continue
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = std.in, std.out, std.err
		err := p.Exec(cmd)
		var ended *exec.ExitError
		if errors.As(err, &ended) {
			return silentError{ended.ExitCode()}
		}
		return err
	}
	var names []string
	for _, p := range peers {
		names = append(names, p.Name)
	}
	return fmt.Errorf("no peer %q in the lab: it has %s", c.Peer, strings.Join(names, ", "))
}
