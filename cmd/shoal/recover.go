package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"shoal/internal/peer"
)

type recoverCmd struct {
	Config string `placeholder:"FILE" help:"This machine's configuration; /etc/shoal/config.toml when it exists."`
	Yes    bool   `help:"Do it. Without it, recover only says what it would do."`
	Force  bool   `help:"Do it although a majority of the voters' machines answers."`
	Rejoin bool   `help:"Instead: give up this machine's copy of the state, and let it ask to come back when it starts next."`
	Output string `short:"o" enum:"text,json" default:"text" help:"text or json."`
}

// Run works on the disk of a peer that does not run.
func (c recoverCmd) Run(ctx context.Context, g *Globals, std streams) error {
	cfg, err := upCmd{Config: c.Config}.load(g)
	if err != nil {
		return err
	}
	if c.Rejoin {
		if c.Yes || c.Force {
			return usagef("--rejoin gives a copy up, --yes makes it the cluster's: give one of them")
		}
		if err := peer.Rejoin(cfg); err != nil {
			return err
		}
		_, err := fmt.Fprintln(std.out, "At its next start this peer sets its copy of the state aside and asks the cluster to let it in again.")
		return err
	}
	r, err := peer.Recover(ctx, cfg, c.Yes, c.Force, slog.New(slog.DiscardHandler))
	if err != nil && !errors.Is(err, peer.ErrNotLost) {
		return err
	}
	if c.Output == "json" {
		return errors.Join(err, json.NewEncoder(std.out).Encode(r))
	}
	tellRecovery(std.out, r)
	if err != nil {
		return fmt.Errorf("%w (%s): start this peer, and the cluster mends itself. If what those machines had is gone, add --force", err,
			strings.Join(r.Answering, ", "))
	}
	return nil
}

// tellRecovery says what is kept, what is lost, and what to do next.
func tellRecovery(w io.Writer, r peer.Recovery) {
	part := "a replica without a vote"
	if slices.Contains(r.Voters, r.Peer) {
		part = fmt.Sprintf("one of %d voters", len(r.Voters))
	}
	fmt.Fprintf(w, "Cluster %s, epoch %d, as the disk of %s has it (%s):\n", r.ClusterID, r.Epoch, r.Peer, part)
	age := ""
	if !r.Written.IsZero() {
		age = fmt.Sprintf(", written %s ago", duration.HumanDuration(time.Since(r.Written)))
	}
	fmt.Fprintf(w, "  Kept:  revision %d%s, with %d objects and records.\n", r.Revision, age, r.Keys)
	if n := r.Revision - r.Committed; n > 0 {
		fmt.Fprintf(w, "         Of its changes, %d may never have been acknowledged; kept, too.\n", n)
	}
	fmt.Fprintf(w, "  Lost:  what others acknowledged and this machine never received. Nothing here can tell whether there is any;\n"+
		"         a voter misses at most what was written while it was away.\n")
	if lost := r.Lost(); len(lost) > 0 {
		fmt.Fprintf(w, "  Left:  %s. Their copies do not count any more. Their pods run on until they come back.\n", strings.Join(lost, ", "))
	}
	if len(r.Answering) > 0 {
		fmt.Fprintf(w, "  Note:  %s answer now. Look there first: the machine with the highest revision loses least.\n", strings.Join(r.Answering, ", "))
	}
	if r.NewCA {
		fmt.Fprintf(w, "  Note:  this machine has no copy of the CA's key, which only voters have. The cluster gets a new CA: everybody needs a new\n"+
			"         kubeconfig, and the machines that come back need a token.\n")
	}
	if r.Secrets > 0 {
		fmt.Fprintf(w, "  Lost:  %d of the Secrets: they are sealed with a key that only voters have. Apply them again, or recover at a machine that voted.\n", r.Secrets)
	}
	if !r.Done {
		fmt.Fprintf(w, "Nothing has been changed. To make this machine a cluster of one: shoal recover --yes\n")
		return
	}
	fmt.Fprintf(w, "%s is now a cluster of one. Start it. On each of the other machines: shoal recover --rejoin, and start it.\n", r.Peer)
}
