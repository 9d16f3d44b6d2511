//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shoal/internal/e2e/etcd"
)

// etcdKept is three members of etcd.
type etcdKept struct {
	cluster      *etcd.Cluster
	conns, other []*etcd.Conn
}

func startEtcd(t *testing.T) kept {
	t.Helper()
	dir, err := os.MkdirTemp("/var/lib", "shoal-etcd-") // the same disk as the lab's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := etcd.Start(ctx, filepath.Join(repo(), "build/tools/etcd"), dir, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	followers, err := c.Followers(ctx)
	if err != nil || len(followers) != 2 {
		t.Fatal(followers, err)
	}
	k := &etcdKept{cluster: c}
	for range connections {
		for i, to := range []*[]*etcd.Conn{&k.conns, &k.other} {
			conn, err := c.Dial(followers[i])
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conn.Close)
			*to = append(*to, conn)
		}
	}
	return k
}

const etcdPrefix = "/registry/configmaps/bench/"

func (k *etcdKept) create(ctx context.Context, client int, name string, size int) error {
	return k.conns[client%connections].Put(ctx, etcdPrefix+name, bytes.Repeat([]byte("x"), size))
}

func (k *etcdKept) get(ctx context.Context, client int, name string) error {
	n, err := k.conns[client%connections].Get(ctx, etcdPrefix+name)
	if err == nil && n < objectSize {
		err = fmt.Errorf("%s is %d bytes", name, n)
	}
	return err
}

func (k *etcdKept) list(ctx context.Context) (int, error) { return k.conns[0].List(ctx, etcdPrefix) }

func (k *etcdKept) watch(ctx context.Context, client int, created func(), f func(string)) error {
	return k.other[client%connections].Watch(ctx, etcdPrefix, created, func(key string) { f(strings.TrimPrefix(key, etcdPrefix)) })
}

func (k *etcdKept) cpu(t *testing.T) time.Duration {
	t.Helper()
	var all time.Duration
	for _, m := range k.cluster.Members {
		all += ran(t, m.Pid)
	}
	return all
}
