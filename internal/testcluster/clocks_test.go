package testcluster_test

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/testcluster"
)

// TestWrongClocksDelayNothing: a machine dies and is marked by a Master whose clock is an hour off, and then that dies as well. The next Master,
// whose clock says otherwise, must go by what it saw itself.
func TestWrongClocksDelayNothing(t *testing.T) {
	clocks := map[string]time.Duration{"peer-1": time.Hour, "peer-2": -time.Hour, "peer-4": time.Hour, "peer-5": -time.Hour}
	inCluster(t, 5, testcluster.Options{Clocks: clocks}, func(c *cluster) {
		c.nodes()
		c.create("peer-3", api.Services, newService("web"))
		c.create("peer-3", api.ReplicationControllers, newController("web", 10))
		c.run("peer-3", "web", 10)
		for range 6 {
			master := c.Master()
			others := c.others(master)
			victim, at := others[0], others[1]
			began := time.Now()
			c.Kill(victim)
			c.Until(victim+" is marked", func() bool {
				for _, n := range list[*corev1.Node](c, at, api.Nodes, "") {
					if n.Name == victim && len(n.Spec.Taints) > 0 {
						return true
					}
				}
				return false
			})
			c.Kill(master)
			c.Until("nothing is left on "+victim+" and "+master, func() bool {
				return !slices.ContainsFunc(list[*corev1.Pod](c, at, api.Pods, "default"), func(p *corev1.Pod) bool {
					return p.Spec.NodeName == victim || p.Spec.NodeName == master
				})
			})
			c.run(at, "web", 10)
			if took := time.Since(began); took > 20*time.Second {
				c.Errorf("after the deaths of %s and of %s, Master with a clock %v off, all ran again after %v", victim, master, clocks[master], took)
			}
			c.Restart(victim, master)
			c.nodes()
			c.Until("another Master", func() bool { return c.Master() != "" })
		}
	})
}
