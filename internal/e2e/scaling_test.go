//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// scaling is what was measured of one round.
type scaling struct{ up, down, rolled time.Duration }

// TestScalingBesideSwarm takes a service from none to 50 replicas on three machines and back, and replaces ten replicas, three more than ten at a time and
// never fewer than ten: here, at a follower, and in a swarm of Debian's docker on the same cores. The image is on every machine, and no replica is slow to
// start or to end.
func TestScalingBesideSwarm(t *testing.T) {
	runs, err := strconv.Atoi(os.Getenv("SHOAL_SCALING_RUNS"))
	dockerd := filepath.Join(repo(), "build/tools/dockerd")
	if _, missing := os.Stat(dockerd); err != nil || missing != nil {
		t.Skip("only a comparison: make scaling-beside-swarm runs it")
	}
	t.Run("shoal", func(t *testing.T) {
		c := startLab(t, 3)
		at := clientFor(t, c.others(master(t))[0])
		var all []scaling
		for round := range runs {
			all = append(all, scaleShoal(t, at, round))
		}
		reportScaling(t, "shoal", all)
	})
	t.Run("swarm", func(t *testing.T) {
		s := startSwarm(t, dockerd)
		var all []scaling
		for round := range runs {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			var x scaling
			must(t, s.Serve(ctx, "web", swarmImage, 0, "serve"))
			began := time.Now()
			must(t, s.Scale(ctx, "web", 50))
			must(t, s.AwaitRunning(ctx, s.Machines[0], "web", 50, nil))
			x.up, began = time.Since(began), time.Now()
			t.Logf("50 run after %v", x.up)
			must(t, s.Scale(ctx, "web", 0))
			must(t, s.AwaitNone(ctx, "web"))
			x.down = time.Since(began)
			t.Logf("none is left after %v", x.down)
			must(t, s.Scale(ctx, "web", 10))
			must(t, s.AwaitRunning(ctx, s.Machines[0], "web", 10, nil))
			began = time.Now()
			must(t, s.Roll(ctx, "web", 1, 3))
			must(t, s.AwaitRound(ctx, "web", 1, 10))
			x.rolled = time.Since(began)
			must(t, s.Remove(ctx, "web"))
			t.Logf("round %d: %+v", round, x)
			all = append(all, x)
		}
		reportScaling(t, "swarm", all)
	})
}

func scaleShoal(t *testing.T, at client.Interface, round int) (x scaling) {
	manifest := strings.Replace(deployed(0, 1), "  replicas: 0\n", "  replicas: 0\n  strategy: {rollingUpdate: {maxSurge: 3, maxUnavailable: 0}}\n", 1)
	manifest = strings.Replace(manifest, "        lifecycle: {preStop: {sleep: {seconds: 1}}}\n", "", 1) // a swarm has none
	apply(t, manifest)
	edit := func(change func(*appsv1.Deployment)) {
		within(t, 10*time.Second, "the Deployment is changed", func(ctx context.Context) error {
			o, err := at.Get(ctx, api.Deployments, client.Key{Namespace: "default", Name: "web"}, client.GetOptions{})
			if err != nil {
				return err
			}
			d := o.DeepCopyObject().(*appsv1.Deployment)
			change(d)
			_, err = at.Update(ctx, api.Deployments, d, client.UpdateOptions{})
			return err
		})
	}
	replicas := func(n int32) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) { d.Spec.Replicas = &n }
	}
	began := time.Now()
	edit(replicas(50))
	running(t, at, "web", 50, time.Minute)
	x.up, began = time.Since(began), time.Now()
	edit(replicas(0))
	gone(t, at, "web", time.Minute)
	x.down = time.Since(began)
	edit(replicas(10))
	running(t, at, "web", 10, time.Minute)
	began = time.Now()
	version := fmt.Sprint("round-", round)
	edit(func(d *appsv1.Deployment) { d.Spec.Template.Labels["version"] = version })
	within(t, time.Minute, "ten new pods and no others", func(ctx context.Context) error {
		all, err := pods(ctx, at, "web")
		if err != nil {
			return err
		}
		n := 0
		for _, p := range all {
			if p.Labels["version"] == version && api.IsPodReady(p) {
				n++
			}
		}
		if n != 10 || len(all) != 10 {
			return fmt.Errorf("%d of %d pods are new", n, len(all))
		}
		return nil
	})
	x.rolled = time.Since(began)
	shoal(t, "delete", "deploy", "web")
	gone(t, at, "web", time.Minute)
	t.Logf("round %d: %+v", round, x)
	return x
}

func reportScaling(t *testing.T, what string, all []scaling) {
	t.Helper()
	of := func(get func(scaling) time.Duration) string {
		var v []time.Duration
		for _, x := range all {
			v = append(v, get(x).Round(10*time.Millisecond))
		}
		slices.Sort(v)
		return fmt.Sprintf("%v (%v)", v[len(v)/2], v[len(v)-1])
	}
	t.Logf("FIGURES %s, median (worst) of %d: 0 → 50 %s; 50 → 0 %s; ten replaced %s", what, len(all),
		of(func(x scaling) time.Duration { return x.up }), of(func(x scaling) time.Duration { return x.down }), of(func(x scaling) time.Duration { return x.rolled }))
}
