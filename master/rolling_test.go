package master_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
	"shoal/internal/client"
)

func (c *cluster) alterRC(name string, change ...func(*corev1.ReplicationController)) {
	c.Helper()
	modify(c, api.ReplicationControllers, name, change...)
}

func rollingUpdate(u api.RollingUpdate) func(*corev1.ReplicationController) {
	return func(rc *corev1.ReplicationController) {
		text, _ := json.Marshal(u)
		if rc.Annotations == nil {
			rc.Annotations = map[string]string{}
		}
		rc.Annotations[api.RollingUpdateAnnotation] = string(text)
	}
}

// ofVersion is the template of a version.
func ofVersion(v int) func(*corev1.ReplicationController) {
	return func(rc *corev1.ReplicationController) {
		rc.Spec.Template.Annotations = map[string]string{api.VersionAnnotation: fmt.Sprint(v)}
		rc.Spec.Template.Spec.Containers[0].Image = fmt.Sprint("example.org/main:", v)
	}
}

func brokenRC(rc *corev1.ReplicationController) { rc.Spec.Template.Annotations["test/broken"] = "yes" }

// wantImages checks which versions the pods are of, and that all are ready.
func (c *cluster) wantImages(when string, want map[string]int) {
	c.Helper()
	got := map[string]int{}
	for _, p := range c.pods() {
		got[strings.TrimPrefix(p.Spec.Containers[0].Image, "example.org/main:")]++
		if api.IsPodReady(p) != (p.Annotations["test/broken"] == "") || api.PodCondition(p, corev1.DisruptionTarget) != nil && p.Annotations["test/broken"] != "" {
			c.Errorf("%s: %s is not ready, or marked: %+v", when, p.Name, p.Status.Conditions)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.Errorf("%s: pods of %v, want %v", when, got, want)
	}
}

// TestARollingUpdateStaysWithinItsBounds: never fewer ready pods than are wanted, never more pods than that and surge.
func TestARollingUpdateStaysWithinItsBounds(t *testing.T) {
	for _, surge := range []int{1, 3, 20} {
		t.Run(fmt.Sprint(surge), func(t *testing.T) {
			inCluster(t, 3, func(c *cluster) {
				c.create(api.ReplicationControllers, newController("web", 10))
				c.settle()
				stop := c.observe(c.withinBounds(10+surge, 10))
				c.alterRC("web", ofVersion(2), rollingUpdate(api.RollingUpdate{Surge: surge}))
				c.wantImages("rolled", map[string]int{"2": 10})
				stop()
			})
		})
	}
}

func TestARollingUpdateToAnotherControllerStaysWithinItsBounds(t *testing.T) {
	for _, surge := range []int{1, 3, 20} {
		t.Run(fmt.Sprint(surge), func(t *testing.T) {
			inCluster(t, 3, func(c *cluster) {
				c.create(api.ReplicationControllers, newController("web", 10))
				c.settle()
				stop := c.observe(c.withinBounds(10+surge, 10))
				next := newController("next", 0)
				ofVersion(2)(next)
				rollingUpdate(api.RollingUpdate{Surge: surge, From: "web", Replicas: 10})(next)
				c.create(api.ReplicationControllers, next)
				c.settle()
				c.wantImages("rolled", map[string]int{"2": 10})
				stop()
				if _, err := c.Get(c.Context(), api.ReplicationControllers, client.Key{Namespace: "default", Name: "web"}, client.GetOptions{}); !apierrors.IsNotFound(err) {
					t.Errorf("the old controller: %v", err)
				}
				c.pass(time.Second)
				if len(c.events("RollingUpdateComplete")) != 1 {
					t.Error("nobody says that it is complete")
				}
			})
		})
	}
}

// TestAMasterMayEndAtEveryWriteOfARollingUpdate lets each Master make a few writes only, up to the end.
func TestAMasterMayEndAtEveryWriteOfARollingUpdate(t *testing.T) {
	for _, most := range []int{1, 2, 3, 5} {
		for _, other := range []bool{false, true} {
			t.Run(fmt.Sprint(most, other), func(t *testing.T) {
				inCluster(t, 3, func(c *cluster) {
					c.create(api.ReplicationControllers, newController("web", 6))
					c.settle()
					stop := c.observe(c.withinBounds(8, 6))
					c.stop()
					if other {
						next := newController("next", 0)
						ofVersion(2)(next)
						rollingUpdate(api.RollingUpdate{Surge: 2, From: "web", Replicas: 6})(next)
						c.create(api.ReplicationControllers, next)
					} else {
						c.alterRC("web", ofVersion(2), rollingUpdate(api.RollingUpdate{Surge: 2}))
					}
					for term := uint64(2); ; term++ {
						l := &limited{Interface: c.Registry, left: most}
						c.leadAs(term, l)
						c.settle()
						c.stop()
						if l.left > 0 {
							break
						}
						if term > 400 {
							t.Fatal("it does not end")
						}
					}
					stop()
					c.wantImages("rolled", map[string]int{"2": 6})
				})
			})
		}
	}
}

func TestARollingUpdateThatCannotWorkStopsAndIsRolledBack(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.ReplicationControllers, newController("web", 5))
		c.settle()
		before := map[string]bool{}
		for _, p := range c.pods() {
			before[p.Name] = true
		}
		stop := c.observe(c.withinBounds(7, 5))
		c.alterRC("web", ofVersion(2), brokenRC, rollingUpdate(api.RollingUpdate{Surge: 2}))
		c.pass(time.Minute)
		c.wantImages("stuck", map[string]int{"1": 5, "2": 2})
		c.alterRC("web", func(rc *corev1.ReplicationController) { rc.Spec.Template = newController("web", 5).Spec.Template })
		c.pass(time.Minute)
		c.wantImages("rolled back", map[string]int{"1": 5})
		stop()
		for _, p := range c.pods() {
			if !before[p.Name] || api.PodCondition(p, corev1.DisruptionTarget) != nil {
				t.Errorf("%s is new, or marked", p.Name)
			}
		}
	})
}

func TestARollingUpdateRestsAndGoesOn(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.ReplicationControllers, newController("web", 5))
		c.settle()
		c.alterRC("web", ofVersion(2), rollingUpdate(api.RollingUpdate{Surge: 1, Paused: true}))
		c.pass(time.Minute)
		c.wantImages("paused", map[string]int{"1": 5})
		c.scale("web", 7)
		c.pass(time.Minute)
		c.wantImages("scaled while paused", map[string]int{"1": 5, "2": 2})
		c.alterRC("web", rollingUpdate(api.RollingUpdate{Surge: 1}))
		c.wantImages("resumed", map[string]int{"2": 7})
		c.alterRC("web", func(rc *corev1.ReplicationController) { rc.Annotations[api.RollingUpdateAnnotation] = `{"surge":0}` })
		c.pass(time.Second)
		if len(c.events("BadRollingUpdate")) != 1 {
			t.Error("nobody says that the annotation is wrong")
		}
	})
}
