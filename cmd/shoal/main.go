// Command shoal is the whole of Shoal: the peer, its keeper, the command line and the lab.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set at build time.
var version = "dev"

// grammar is the command line: one field a verb, each in a file of its own.
type grammar struct {
	Globals

	Up      upCmd      `cmd:"" group:"peer" help:"Start this machine's peer."`
	Install installCmd `cmd:"" group:"peer" help:"Write the systemd unit for this machine's peer."`
	Doctor  doctorCmd  `cmd:"" group:"peer" help:"Check what this machine needs, or with --security how safe the cluster is."`
	Recover recoverCmd `cmd:"" group:"peer" help:"After a majority is lost for good: make a cluster of one out of this machine's copy, or rejoin one."`

	Peers      peersCmd      `cmd:"" group:"cluster" help:"List the cluster's peers, their roles and their health."`
	Status     statusCmd     `cmd:"" group:"cluster" help:"Say how the cluster is."`
	Token      tokenCmd      `cmd:"" group:"cluster" help:"Make, list and revoke join tokens."`
	Rotate     rotateCmd     `cmd:"" group:"cluster" help:"Replace the cluster's keys while it runs, and show how far that is."`
	Tenant     tenantCmd     `cmd:"" group:"cluster" help:"Make tenants, each with a namespace and its share of the cluster, and show what they use."`
	User       userCmd       `cmd:"" group:"cluster" help:"Give users tokens, list and revoke them."`
	Remove     removeCmd     `cmd:"" group:"cluster" help:"Take a machine out of the cluster for good: its certificate is refused at once."`
	Audit      auditCmd      `cmd:"" group:"cluster" help:"Show what this machine's peer was asked for, and whether its record is whole."`
	WhoCan     whoCanCmd     `cmd:"" group:"cluster" help:"List who may do something, and by which binding."`
	Kubeconfig kubeconfigCmd `cmd:"" group:"cluster" help:"Print a kubeconfig that names every peer."`
	Simulate   simulateCmd   `cmd:"" group:"cluster" help:"Say what would happen: if machines were lost, or if more had to fit. Nothing is changed."`
	Backup     backupCmd     `cmd:"" group:"cluster" help:"Write all that the cluster knows into an encrypted file."`
	Restore    restoreCmd    `cmd:"" group:"cluster" help:"Make the cluster, a namespace of it or a new cluster what a backup says."`
	Image      imageCmd      `cmd:"" group:"cluster" help:"Import, pull and list the peers' images."`

	Get           getCmd           `cmd:"" group:"objects" help:"Show objects."`
	Describe      describeCmd      `cmd:"" group:"objects" help:"Show an object in full, with its events."`
	Apply         applyCmd         `cmd:"" group:"objects" help:"Make objects what a file says."`
	Create        createCmd        `cmd:"" group:"objects" help:"Create objects from a file, or a namespace."`
	Delete        deleteCmd        `cmd:"" group:"objects" help:"Delete objects."`
	Scale         scaleCmd         `cmd:"" group:"objects" help:"Set the number of replicas."`
	Rollout       rolloutCmd       `cmd:"" group:"objects" help:"Follow, undo, restart and pause rollouts."`
	RollingUpdate rollingUpdateCmd `cmd:"" group:"objects" help:"Replace the pods of a ReplicationController by new ones, little by little."`
	Cordon        cordonCmd        `cmd:"" group:"cluster" help:"Keep new pods off a machine."`
	Uncordon      uncordonCmd      `cmd:"" group:"cluster" help:"Let new pods on a machine again."`
	Taint         taintCmd         `cmd:"" group:"cluster" help:"Keep pods that do not tolerate it off a machine, or have them leave."`
	Drain         drainCmd         `cmd:"" group:"cluster" help:"Empty a machine for maintenance, within the pods' disruption budgets."`
	Label         labelCmd         `cmd:"" group:"objects" help:"Set and remove labels."`
	Patch         patchCmd         `cmd:"" group:"objects" help:"Change fields of an object."`
	Wait          waitCmd          `cmd:"" group:"objects" help:"Wait for a condition of objects."`
	History       historyCmd       `cmd:"" group:"objects" help:"Show what changed in an object, and when: as far back as revisions are kept."`
	Events        eventsCmd        `cmd:"" group:"objects" help:"List what happened."`
	Logs          logsCmd          `cmd:"" group:"pods" help:"Print a container's output."`
	Exec          execCmd          `cmd:"" group:"pods" help:"Run a command in a container."`
	Why           whyCmd           `cmd:"" group:"pods" help:"Say where a pod is or why it is nowhere, and what each node is worth to it."`
	Top           topCmd           `cmd:"" group:"pods" help:"Show what machines or pods use now, and what pods should request."`

	Lab     labCmd     `cmd:"" group:"lab" help:"Run a cluster on this machine, to try, show and break it."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// exit codes
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		os.Exit(keep(ctx, os.Args[2:]))
	}
	code := run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// streams are a command's standard streams.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func run(ctx context.Context, args []string, std streams) int {
	var g grammar
	code := -1
	parser, err := kong.New(&g,
		kong.Name("shoal"),
		kong.Description("A container cluster in which no machine is special. Every verb works against every peer."),
		kong.Writers(std.out, std.err),
		kong.Exit(func(c int) { code = c }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "peer", Title: "This machine's peer:"},
			{Key: "cluster", Title: "The cluster:"},
			{Key: "objects", Title: "Objects:"},
			{Key: "pods", Title: "Pods:"},
			{Key: "lab", Title: "Trying it out:"},
		}),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		panic(err) // the grammar itself is wrong
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if code >= 0 { // --help was given and printed
		return code
	}
	if err != nil {
		fmt.Fprintf(std.err, "shoal: %v\nSee: %s --help\n", err, verb(err))
		return exitUsage
	}
	g.warnings = std.err
	if err := parsed.Run(&g.Globals, std); err != nil {
		return report(std.err, err)
	}
	return 0
}

// verb returns the command up to the verb at which parsing failed.
func verb(err error) string {
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil {
		if n := wrong.Context.Selected(); n != nil {
			words := []string{n.Name}
			for p := n.Parent; p != nil; p = p.Parent {
				words = append([]string{p.Name}, words...)
			}
			return strings.Join(words, " ")
		}
	}
	return "shoal"
}

// usageError is a mistake in how a command was called.
type usageError struct{ error }

// silentError ends the command with a code and prints nothing: the command has spoken.
type silentError struct{ code int }

func (e silentError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func report(w io.Writer, err error) int {
	var quiet silentError
	if errors.As(err, &quiet) {
		return quiet.code
	}
	fmt.Fprintf(w, "shoal: %v\n", err)
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

type versionCmd struct{}

func (versionCmd) Run(std streams) error {
	_, err := fmt.Fprintln(std.out, "shoal", version)
	return err
}
