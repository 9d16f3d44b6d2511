//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// TestFiveHundredPodsLeaveNothing creates and deletes 500 pods and compares what every machine holds before and after. What a peer keeps
// on purpose is left out: the newest changes, from which watches resume, are a fixed number that the rounds before the first look
// fill; Events stay for an hour, so they are deleted before each look.
func TestFiveHundredPodsLeaveNothing(t *testing.T) {
	c := startLab(t, 3)
	apply(t, web(3))
	running(t, c.api, "web", 3, 30*time.Second)
	scale := func(n string, up int) {
		shoal(t, "scale", "rc", "web", "--replicas", n)
		running(t, c.api, "web", up, 5*time.Minute)
		if up == 3 {
			settle(t, c)
		}
	}
	scale("128", 128) // what is made once is made now
	scale("3", 3)
	deleteEvents(t, c)
	before, wasMaster := map[string]usage{}, master(t)
	for _, p := range labPeers(t) {
		collect(t, p)
		before[p.Name] = usageOf(t, p)
	}
	for range 4 {
		scale("128", 128)
		scale("3", 3)
	}
	deleteEvents(t, c)
	isMaster := master(t)
	for _, p := range labPeers(t) {
		was, is := before[p.Name], usageOf(t, p)
		if p.Name == isMaster { // on a busy machine the Master may move, and what it holds moves with it
			was = before[wasMaster]
		}
		t.Logf("%s before %+v\nafter %+v", p.Name, was, is)
		// The three that stay may have moved: one pod has about four links, mounts and cgroups more or less.
		near := func(what string, was, is, slack int) {
			if is > was+slack {
				t.Errorf("%s: %s grew from %d to %d", p.Name, what, was, is)
			}
		}
		near("goroutines", was.goroutines, is.goroutines, 60)
		near("open files", was.files, is.files, 25)
		near("mounts", was.mounts, is.mounts, 36)
		near("cgroups", was.cgroups, is.cgroups, 6)
		near("chains", was.chains, is.chains, 6)
		near("links", was.links, is.links, 3)
		t.Logf("%s: memory is back after %v", p.Name, within(t, 2*time.Minute, "memory of "+p.Name+" is back", func(ctx context.Context) error {
			// What was freed goes back to the kernel step by step after a collection, which this asks for.
			collect(t, p)
			if rss := usageOf(t, p).rss; rss > was.rss+rssSlack {
				return fmt.Errorf("RSS grew from %d to %d MiB", was.rss>>20, rss>>20)
			}
			return nil
		}))
	}
}

// rssSlack is what one collection more or less makes of a heap of about 20 MiB that the collector lets double.
const rssSlack = 24 << 20

// deleteEvents deletes the Events of the pods, all at once.
func deleteEvents(t *testing.T, c *cluster) {
	t.Helper()
	resp, err := c.api.Do(t.Context(), "DELETE", "/api/v1/namespaces/default/events", nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// settle waits until exactly the three pods are left and every machine has let go of the others.
func settle(t *testing.T, c *cluster) {
	t.Helper()
	running(t, c.api, "web", 3, time.Minute)
	within(t, time.Minute, "three pods left", func(ctx context.Context) error {
		all, err := pods(ctx, c.api, "web")
		if err == nil && len(all) != 3 {
			err = fmt.Errorf("%d pods are left", len(all))
		}
		return err
	})
}
