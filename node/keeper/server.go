package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// errShutdown ends a keeper that was asked to end.
var errShutdown = errors.New("asked to shut down")

type server struct {
	config Config
	drains *drains
	daemon *daemon // nil when containerd is someone else's
	stop   context.CancelCauseFunc
	keep   bool // leave containerd running at shutdown; written before stop is called
}

func (s *server) serve(ctx context.Context, l net.Listener, g *errgroup.Group) error {
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		g.Go(func() error {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			if err := s.handle(ctx, conn); err != nil && ctx.Err() == nil {
				s.config.Log.Debug("connection ended", "err", err)
			}
			return nil
		})
	}
}

func (s *server) handle(ctx context.Context, conn net.Conn) error {
	cred, err := peer(conn)
	if err != nil {
		return err
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("refused process %d of user %d", cred.Pid, cred.Uid)
	}
	var q request
	if err := receive(conn, &q); err != nil {
		return err
	}
	if q.Op == opFollow {
		return s.follow(conn, q.ID)
	}
	var r response
	if err := s.do(ctx, q, &r); err != nil {
		r.Error = err.Error()
	}
	err = send(conn, r)
	if q.Op == opShutdown {
		s.stop(errShutdown)
	}
	return err
}

func (s *server) do(ctx context.Context, q request, r *response) error {
	switch q.Op {
	case opStatus:
		r.Status = s.status()
		return nil
	case opDrain:
		if q.Drain == nil {
			return errors.New("drain of nothing")
		}
		return s.drains.add(ctx, *q.Drain)
	case opUndrain:
		return s.drains.remove(ctx, q.ID)
	case opCloseStdin:
		return s.drains.closeStdin(q.ID)
	case opShutdown:
		s.keep = q.Keep
		return nil
	}
	return fmt.Errorf("unknown request %q", q.Op)
}

func (s *server) status() *Status {
	st := &Status{
		Version: version,
		Pid:     os.Getpid(),
		Socket:  s.config.containerdSocket(),
		Drains:  s.drains.count(),
		Dropped: s.drains.dropped.Load(),
	}
	if s.daemon != nil {
		s.daemon.report(st)
	}
	return st
}

// follow sends a container's output from now on, until it is over or the follower hangs up.
func (s *server) follow(conn net.Conn, id string) error {
	x := s.drains.get(id)
	if x == nil {
		return send(conn, response{Error: fmt.Sprintf("%s is not drained", id)})
	}
	f := x.follow()
	defer x.unfollow(f)
	if err := send(conn, response{}); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() {
		// A follower never sends anything: reading returns when it hangs up, at the latest when handle closes conn.
		defer close(gone)
		_, _ = conn.Read(make([]byte, 1))
	}()
	for {
		select {
		case <-gone:
			return nil
		case b, ok := <-f.frames:
			if !ok {
				return nil
			}
			if _, err := conn.Write(b); err != nil {
				return err
			}
		}
	}
}

// finish ends what a keeper that was asked to shut down leaves behind.
func (s *server) finish(ctx context.Context) error {
	err := errors.Join(remove(s.config.socket()), remove(s.config.identity()))
	if s.daemon != nil && !s.keep {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		err = errors.Join(err, s.daemon.end(ctx))
	}
	return err
}

// patience is how long containerd may take to end by itself.
const patience = 5 * time.Second

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// peer returns who is at the other end; at a client's end that is the process that listens.
func peer(conn net.Conn) (*unix.Ucred, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.New("not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return cred, errors.Join(err, cerr)
}
