package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"shoal/consensus"
	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/backup"
	"shoal/internal/config"
	"shoal/master/registry"
	"shoal/master/scheduler/simulate"
)

// serveBackup answers with the state of this peer's replica, in clear: a backup's header and a snapshot. It has every write that was
// acknowledged before the request, unless whoever asks is content with what the peer has.
func (p *Peer) serveBackup(w http.ResponseWriter, r *http.Request) {
	if p.vault.Locked() {
		p.onHolder(p.serveBackup, w, r)
		return
	}
	if r.URL.Query().Get("stale") != "true" {
		if err := p.upToDate(r.Context()); err != nil {
			fail(w, failf(http.StatusServiceUnavailable, "%s cannot tell whether it has the newest state: %v; --stale takes what it has", p.cfg.Name, err))
			return
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := p.writeBackup(w); err != nil {
		p.log.Warn("a backup was cut off", "err", err)
		panic(http.ErrAbortHandler) // so that the client does not take it for whole
	}
}

func (p *Peer) upToDate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, masterWait)
	defer cancel()
	_, err := p.raft.ReadIndex(ctx)
	return err
}

func (p *Peer) writeBackup(w io.Writer) error {
	image := p.raft.Store().Capture()
	h := backup.Header{
		ClusterID: p.memory.ClusterID, Epoch: p.memory.Epoch, Peer: p.cfg.Name, Revision: uint64(image.Rev()), Time: p.now(), Version: p.version,
	}
	if err := backup.WriteHeader(w, h); err != nil {
		return err
	}
	return image.WriteState(w, func(key store.Key, value []byte) ([]byte, error) {
		plain, whole, err := p.vault.Open(key, value)
		if err == nil && !whole {
			err = fmt.Errorf("%s: sealed with a key that the cluster does not have any more; delete it, and make it anew", key)
		}
		return plain, err
	})
}

// readBackup loads a backup in clear.
func readBackup(from io.Reader) (backup.Header, *store.Store, error) {
	h, rest, err := backup.ReadHeader(from)
	if err != nil {
		return h, nil, err
	}
	s := store.New()
	if err := s.Restore(rest); err != nil {
		return h, nil, fmt.Errorf("the backup of revision %d: %w", h.Revision, err)
	}
	return h, s, nil
}

// Placed returns what of a backup in clear matters for where pods run.
func Placed(from io.Reader) (simulate.Objects, error) {
	_, st, err := readBackup(from)
	if err != nil {
		return simulate.Objects{}, err
	}
	return simulate.Gather(func(k *api.Kind) ([]api.Object, error) { return registry.Stored(st, k) })
}

// serveRestore makes the objects of a namespace, or all, those of a backup that the request brings in clear.
func (p *Peer) serveRestore(w http.ResponseWriter, r *http.Request) {
	_, from, err := readBackup(r.Body)
	if err != nil {
		fail(w, failf(http.StatusBadRequest, "%v", err))
		return
	}
	q := r.URL.Query()
	out, err := p.registry.Restore(r.Context(), from, q.Get("namespace"), q.Get("dryRun") == "true")
	answer(w, out, err)
}

// Found makes the peer of c, which must never have been in a cluster, the only one of a new cluster that has the objects of a backup. It
// is started like any other, and the others join it.
func Found(c *config.Config, from io.Reader, version string) (h backup.Header, err error) {
	p := New(Config{Config: c, Version: version, Log: slog.New(slog.DiscardHandler)})
	if p.dir, err = openDataDir(c.DataDir); err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, p.dir.Close()) }()
	if _, was, err := p.dir.read(); err != nil || was {
		return h, cmp.Or(err, fmt.Errorf("the data directory %s is that of a peer: a new cluster needs an empty one (--data-dir). "+
			"To restore into the cluster of that peer, leave --new out", c.DataDir))
	}
	if err := os.RemoveAll(p.dir.join("raft")); err != nil { // of an earlier try
		return h, err
	}
	h, was, err := readBackup(from)
	if err != nil {
		return h, err
	}
	objects, err := registry.Restorable(was, "")
	if err != nil {
		return h, err
	}
	ring, err := p.newVaultKey()
	if err != nil {
		return h, err
	}
	for key, value := range objects {
		if isSecret(key) {
			if objects[key], err = sealSecret(ring, key, value); err != nil {
				return h, err
			}
		}
	}
	if p.advertise, err = advertised(c.AdvertiseAddress); err != nil {
		return h, err
	}
	if err := consensus.Plant(consensus.Config{ID: peerID(c.Name), Dir: p.dir.join("raft")}, was.Rev(), objects); err != nil {
		return h, err
	}
	return h, p.found(hello{Name: c.Name, Address: p.address()})
}

// backups writes a backup whenever one is due, as the configuration says, until ctx ends. Peers that cannot open Secrets write none: the others do.
func (p *Peer) backups(ctx context.Context) error {
	b := &p.cfg.Backup
	if b.Every == 0 {
		return nil
	}
	for {
		if changed := p.raft.Changed(); p.vault.Locked() {
			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		held, err := backupsIn(b.Directory)
		wait := time.Duration(0)
		if n := len(held); n > 0 {
			wait = held[n-1].made.Add(b.Every).Sub(p.now())
		}
		if err == nil && wait <= 0 {
			err = p.backup(ctx)
			wait = b.Every
		}
		if err != nil && ctx.Err() == nil {
			p.log.Warn("cannot write a backup, will retry", "directory", b.Directory, "err", err)
			wait = min(b.Every, time.Minute)
		}
		timer := time.NewTimer(min(wait, 12*time.Hour)) // a clock may jump
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// backup writes one backup, all or nothing, and deletes those that are too many.
func (p *Peer) backup(ctx context.Context) error {
	b := &p.cfg.Backup
	to, err := backup.Recipients(b.Recipients)
	if err != nil {
		return err
	}
	if err := p.upToDate(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(b.Directory, 0o700); err != nil {
		return err
	}
	name := backupPrefix + p.now().UTC().Format(backupTime) + backupSuffix
	if err := backup.WriteFile(filepath.Join(b.Directory, name), to, p.writeBackup); err != nil {
		return err
	}
	p.log.Info("wrote a backup", "file", filepath.Join(b.Directory, name))
	held, err := backupsIn(b.Directory)
	for len(held) > b.Keep && err == nil {
		err = os.Remove(filepath.Join(b.Directory, held[0].name))
		held = held[1:]
	}
	return err
}

// Backups that a peer writes by itself are named after their time.
const (
	backupPrefix = "shoal-"
	backupSuffix = ".age"
	backupTime   = "20060102T150405Z"
)

type heldBackup struct {
	name string
	made time.Time
}

// backupsIn lists the backups of a directory, the oldest first, by their names. Other files are not looked at.
func backupsIn(dir string) ([]heldBackup, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var all []heldBackup
	for _, e := range entries {
		text, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), backupSuffix), backupPrefix)
		if made, err := time.Parse(backupTime, text); ok && err == nil && strings.HasSuffix(e.Name(), backupSuffix) {
			all = append(all, heldBackup{e.Name(), made})
		}
	}
	slices.SortFunc(all, func(a, b heldBackup) int { return a.made.Compare(b.made) })
	return all, nil
}
