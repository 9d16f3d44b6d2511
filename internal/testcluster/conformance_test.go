package testcluster_test

import (
	"context"
	"testing"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/client/clienttest"
	"shoal/internal/testcluster"
)

// TestEveryPathToTheAPIObeysTheSameLaws runs each law over the three ways to the same cluster.
func TestEveryPathToTheAPIObeysTheSameLaws(t *testing.T) {
	clienttest.Each(t, func(t *testing.T, law func(*testing.T, clienttest.Backend)) {
		inCluster(t, 3, testcluster.Options{NoNodes: true}, func(c *cluster) {
			master := c.Master()
			follower := c.others(master)[0]
			for _, path := range []struct {
				name   string
				client client.Interface
			}{
				{"in the Master's process", c.Registry(master)},
				{"over HTTP at the Master", c.Client(master)},
				{"over HTTP at a follower", c.Client(follower)},
			} {
				c.Log(path.name)
				law(c.T, clienttest.Backend{Client: path.client, Compact: func(*testing.T) { c.Compact() }})
				c.Sync()
			}
		})
	})
}

// TestTheLawsHoldWhileLeadershipMoves runs each law at a peer while the others hand leadership to one another before every call.
func TestTheLawsHoldWhileLeadershipMoves(t *testing.T) {
	clienttest.Each(t, func(t *testing.T, law func(*testing.T, clienttest.Backend)) {
		inCluster(t, 3, testcluster.Options{NoNodes: true}, func(c *cluster) {
			follower := c.others(c.Master())[0]
			m := &moving{Interface: c.Client(follower), c: c}
			defer m.settle()
			law(c.T, clienttest.Backend{Client: m, Compact: func(*testing.T) { m.settle(); c.Compact() }})
		})
	})
}

// moving is a client whose every call finds the Master on its way out.
type moving struct {
	client.Interface
	c     *cluster
	moves errgroup.Group
}

// move begins to hand leadership over, once the last handover is done, and does not wait for it.
func (m *moving) move() {
	m.settle()
	master := m.c.Peer(m.c.Master())
	m.moves.Go(func() error { return master.Raft.TransferLeadership(m.c.Context()) })
}

func (m *moving) settle() {
	if err := m.moves.Wait(); err != nil {
		m.c.Log("leadership stays:", err)
	}
}

func (m *moving) Get(ctx context.Context, k *api.Kind, key client.Key, o client.GetOptions) (api.Object, error) {
	m.move()
	return m.Interface.Get(ctx, k, key, o)
}

func (m *moving) List(ctx context.Context, k *api.Kind, o client.ListOptions) (*client.List, error) {
	m.move()
	return m.Interface.List(ctx, k, o)
}

func (m *moving) Watch(ctx context.Context, k *api.Kind, o client.ListOptions) (client.Watch, error) {
	m.move()
	return m.Interface.Watch(ctx, k, o)
}

func (m *moving) Create(ctx context.Context, k *api.Kind, obj runtime.Object, o client.CreateOptions) (runtime.Object, error) {
	m.move()
	return m.Interface.Create(ctx, k, obj, o)
}

func (m *moving) Update(ctx context.Context, k *api.Kind, obj runtime.Object, o client.UpdateOptions) (runtime.Object, error) {
	m.move()
	return m.Interface.Update(ctx, k, obj, o)
}

func (m *moving) Patch(ctx context.Context, k *api.Kind, key client.Key, p client.Patch, o client.PatchOptions) (runtime.Object, error) {
	m.move()
	return m.Interface.Patch(ctx, k, key, p, o)
}

func (m *moving) Delete(ctx context.Context, k *api.Kind, key client.Key, o client.DeleteOptions) (api.Object, error) {
	m.move()
	return m.Interface.Delete(ctx, k, key, o)
}
