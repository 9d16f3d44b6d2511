package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"filippo.io/age"
	"golang.org/x/term"

	"shoal/internal/api"
	"shoal/internal/backup"
	"shoal/internal/peer"
)

type backupCmd struct {
	File           string   `arg:"" help:"The file to write."`
	PassphraseFile string   `placeholder:"FILE" help:"Encrypt with the passphrase in this file. Asked for on a terminal by default."`
	Recipient      []string `placeholder:"KEY" help:"Encrypt for this public key, of a pair that age-keygen made; may be given several times."`
	Stale          bool     `help:"Take what the peer has, though it cannot tell whether that is the newest: without a quorum."`
	Force          bool     `short:"f" help:"Replace the file if it is there."`
}

// Run takes the state of the peer that is asked, encrypts it here and writes the file wholly or not at all.
func (c backupCmd) Run(ctx context.Context, g *Globals, std streams) error {
	if _, err := os.Stat(c.File); err == nil && !c.Force {
		return usagef("%s is there already: give another name, or --force to replace it", c.File)
	}
	to, err := c.recipients(std)
	if err != nil {
		return err
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	query := url.Values{}
	if c.Stale {
		query.Set("stale", "true")
	}
	resp, err := conn.do(ctx, request{method: "GET", path: "/shoal/v1/backup", query: query})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	h, rest, err := backup.ReadHeader(resp.Body)
	if err != nil {
		return err
	}
	if err := backup.WriteFile(c.File, to, func(w io.Writer) error {
		if err := backup.WriteHeader(w, h); err != nil {
			return err
		}
		_, err := io.Copy(w, rest)
		return err
	}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%s: revision %d of cluster %s, from %s\n", c.File, h.Revision, h.ClusterID, h.Peer)
	return err
}

func (c backupCmd) recipients(std streams) ([]age.Recipient, error) {
	if len(c.Recipient) > 0 {
		if c.PassphraseFile != "" {
			return nil, usagef("a backup has either a passphrase or recipients: give --passphrase-file or --recipient")
		}
		to, err := backup.Recipients(c.Recipient)
		if err != nil {
			return nil, usageError{err}
		}
		return to, nil
	}
	to, _, err := passphrase(c.PassphraseFile, true, std)
	if err != nil {
		return nil, err
	}
	return []age.Recipient{to}, nil
}

// passphrase reads one from a file or asks for it, twice when it is new.
func passphrase(file string, fresh bool, std streams) (age.Recipient, age.Identity, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, err
		}
		to, with, err := backup.Passphrase(text)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		return to, with, nil
	}
	in, ok := std.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, nil, usagef("a backup is encrypted, and there is no terminal to ask for the passphrase: give --passphrase-file FILE, or a key")
	}
	text, err := ask(in, std, "Passphrase of the backup: ")
	if err != nil {
		return nil, nil, err
	}
	if fresh {
		again, err := ask(in, std, "Once more: ")
		if err != nil {
			return nil, nil, err
		}
		if again != text {
			return nil, nil, errors.New("the two passphrases differ")
		}
	}
	return backup.Passphrase([]byte(text))
}

func ask(in *os.File, std streams, what string) (string, error) {
	fmt.Fprint(std.err, what)
	text, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(std.err)
	return string(text), err
}

type restoreCmd struct {
	File           string `arg:"" type:"existingfile" help:"What shoal backup, or a peer by itself, wrote."`
	Only           string `placeholder:"NAMESPACE" help:"Only this namespace; everything by default."`
	Yes            bool   `help:"Do it. Without it, restore only says what it would change."`
	New            bool   `help:"Instead: make this machine, on which no peer has been yet, the first of a new cluster with all that is in the backup."`
	Config         string `placeholder:"FILE" help:"With --new: this machine's configuration; /etc/shoal/config.toml when it exists."`
	Name           string `help:"With --new: name of this peer; the host name by default."`
	PassphraseFile string `placeholder:"FILE" help:"The passphrase that the backup was made with. Asked for on a terminal by default."`
	IdentityFile   string `placeholder:"FILE" help:"A private key that the backup was made for, as age-keygen wrote it."`
}

// Run restores into the running cluster, or makes a new one.
func (c restoreCmd) Run(ctx context.Context, g *Globals, std streams) error {
	if c.New && c.Only != "" {
		return usagef("--new brings everything: leave --only out")
	}
	if g.Namespace != "default" && c.Only != g.Namespace {
		return usagef("-n %s does not say what to restore: --only %s restores that namespace, and without it everything is restored", g.Namespace, g.Namespace)
	}
	if !c.New && (c.Config != "" || c.Name != "") {
		return usagef("--config and --name are for --new")
	}
	plain, err := c.open(std)
	if err != nil {
		return err
	}
	if c.New {
		return c.found(g, std, plain)
	}
	body, err := io.ReadAll(plain)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	conn, err := g.connect()
	if err != nil {
		return err
	}
	query := url.Values{"dryRun": {fmt.Sprint(!c.Yes)}, "namespace": {c.Only}}
	var r api.Restored
	if err := conn.json(ctx, request{method: "POST", path: "/shoal/v1/restore", query: query, ctype: "application/octet-stream", body: body}, &r); err != nil {
		return err
	}
	return c.tell(std, r)
}

// open decrypts the file.
func (c restoreCmd) open(std streams) (io.Reader, error) {
	data, err := os.Open(c.File) // read to the end or given up with the process
	if err != nil {
		return nil, err
	}
	var with []age.Identity
	if c.IdentityFile != "" {
		text, err := os.ReadFile(c.IdentityFile)
		if err != nil {
			return nil, err
		}
		if with, err = backup.Identities(text); err != nil {
			return nil, fmt.Errorf("%s: %w", c.IdentityFile, err)
		}
	} else {
		_, one, err := passphrase(c.PassphraseFile, false, std)
		if err != nil {
			return nil, err
		}
		with = append(with, one)
	}
	plain, err := backup.Decrypt(data, with...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.File, err)
	}
	return plain, nil
}

func (c restoreCmd) found(g *Globals, std streams, plain io.Reader) error {
	cfg, err := upCmd{Config: c.Config, Name: c.Name}.load(g)
	if err != nil {
		return err
	}
	h, err := peer.Found(cfg, plain, version)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%s is the first peer of a new cluster, with what cluster %s had at revision %d, on %s.\n"+
		"Start it, and let the others join: shoal token create. The CA is new: users need a new kubeconfig.\n",
		cfg.Name, h.ClusterID, h.Revision, h.Time.Local().Format(time.DateTime))
	return err
}

// tell says what was done, or would be.
func (c restoreCmd) tell(std streams, r api.Restored) error {
	where := "the cluster"
	if c.Only != "" {
		where = "namespace " + c.Only
	}
	for _, t := range r.Taken {
		fmt.Fprintln(std.err, t)
	}
	if len(r.Taken) > 0 {
		return fmt.Errorf("%s is as it was: what the backup's Services had is in use. Delete the Services that have it, or restore fewer namespaces", where)
	}
	did, next := "Restored", ""
	if !r.Done {
		did, next = "Would restore", " Nothing has been changed; to do it, add --yes."
	}
	_, err := fmt.Fprintf(std.out, "%s %s: %d made, %d replaced, %d deleted, %d as they are.%s\n", did, where, r.Created, r.Replaced, r.Deleted, r.Same, next)
	return err
}
