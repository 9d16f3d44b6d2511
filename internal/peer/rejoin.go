package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"slices"

	"shoal/consensus"
	"shoal/consensus/store"
	"shoal/internal/config"
	"shoal/internal/pki"
)

// leftBehind ends the peer when another one shows that the cluster was recovered without this machine. What it has of the state then
// is not the cluster's, and it could not become Master of anything but others that were left behind.
func (p *Peer) leftBehind(ctx context.Context) error {
	select {
	case err := <-p.transport.outdated:
		return err
	case <-ctx.Done():
		return nil
	}
}

// noteEpoch remembers why a peer that was left behind has ended, and says what to do. Nothing else runs any more.
func (p *Peer) noteEpoch(err error) error {
	var epoch *pki.EpochError
	if !errors.As(err, &epoch) {
		return err
	}
	p.memory.Superseded = epoch.Theirs
	return errors.Join(superseded(err), p.dir.write(p.memory))
}

func superseded(err error) error {
	return fmt.Errorf("%w: it is not let in any more; its pods run on. To give up what only its disk holds and come back: "+
		"shoal recover --rejoin, then start it again", err)
}

// Rejoin makes a peer that does not run give up its copy of the state at its next start, and ask to be let in again. The copy is
// set aside, not deleted.
func Rejoin(c *config.Config) error {
	dir, err := openDataDir(c.DataDir)
	if err != nil {
		return err
	}
	known, was, err := dir.read()
	switch {
	case err != nil:
	case !was:
		err = fmt.Errorf("%s holds no peer: to join a cluster, run: shoal up --join HOST --token TOKEN", c.DataDir)
	default:
		known.Rejoin, known.Recovering = true, false
		err = dir.write(known)
	}
	return errors.Join(err, dir.Close())
}

// rejoin sets the state aside and asks to be let in, with the certificate of before, or with a token when one was given: it is needed
// when that certificate has expired, or the cluster has a new CA.
func (p *Peer) rejoin(ctx context.Context, self hello) error {
	for n := 0; ; n++ {
		aside := p.dir.join(fmt.Sprintf("raft.aside-%d", n))
		if _, err := os.Lstat(aside); err == nil {
			continue
		}
		err := os.Rename(p.dir.join("raft"), aside)
		if err == nil {
			p.log.Warn("this peer's copy of the state is set aside", "at", aside)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		break
	}
	c := credential{id: p.id, epoch: p.memory.Superseded}
	if p.cfg.Token != "" {
		token, err := pki.ParseToken(p.cfg.Token)
		if err != nil {
			return err
		}
		c.caHash, c.bearer = token.CAHash, token.Bearer()
	}
	addrs := p.joinAddresses()
	for _, addr := range slices.Sorted(maps.Values(p.memory.Peers)) { // of their gossip
		addrs = append(addrs, hostPort(cmp.Or(host(addr), addr), p.cfg.API.Port))
	}
	addrs = slices.DeleteFunc(addrs, func(a string) bool { return a == self.Address })
	if len(addrs) == 0 {
		return errors.New("no address of another peer is known: say where the cluster is, with --join HOST")
	}
	was := p.id.CA()
	if err := p.join(ctx, self, addrs, c); err != nil || p.id.CA().Equal(was) {
		return err
	}
	return p.forgetAdmin()
}

// forgetAdmin deletes the administrator's certificate, after the CA that signed it.
func (p *Peer) forgetAdmin() error {
	for _, name := range []string{"admin.crt", "admin.key"} {
		if err := os.Remove(p.dir.join("pki", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// answering returns which of the addresses take a connection, by name.
func answering(ctx context.Context, addrs map[string]string) []string {
	found := make(chan string, len(addrs))
	for name, addr := range addrs {
		go func() {
			conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", addr)
			if err != nil {
				found <- ""
				return
			}
			_ = conn.Close()
			found <- name
		}()
	}
	var names []string
	for range addrs {
		if name := <-found; name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// damaged says what to do about a copy of the state that cannot be read.
func damaged(err error) error {
	if errors.Is(err, consensus.ErrDamaged) || errors.Is(err, store.ErrSnapshot) {
		return fmt.Errorf("%w: this machine's copy of the cluster's state is damaged. If other peers have it: shoal recover --rejoin, and start again; else: shoal restore", err)
	}
	return err
}
