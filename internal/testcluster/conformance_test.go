package testcluster_test

import (
	"testing"

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
