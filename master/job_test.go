package master_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

func newJob(completions, parallelism int32, change ...func(*batchv1.Job)) *batchv1.Job {
	spec := podSpec()
	spec.RestartPolicy = corev1.RestartPolicyNever
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "work"},
		Spec:       batchv1.JobSpec{Completions: &completions, Parallelism: &parallelism, Template: corev1.PodTemplateSpec{Spec: spec}},
	}
	for _, f := range change {
		f(j)
	}
	return j
}

// ends makes all pods end by themselves.
func ends(phase corev1.PodPhase) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Spec.Template.Annotations = map[string]string{"test/ends": string(phase)} }
}

func indexed(j *batchv1.Job) { j.Spec.CompletionMode = new(batchv1.IndexedCompletion) }

func (c *cluster) job() *batchv1.Job {
	c.Helper()
	return get[*batchv1.Job](c, api.Jobs, metav1.NamespaceDefault, "work")
}

// is tells the reason of a condition that is true.
func is(j *batchv1.Job, t batchv1.JobConditionType) string {
	for _, c := range j.Status.Conditions {
		if c.Type == t && c.Status == corev1.ConditionTrue {
			return c.Reason
		}
	}
	return ""
}

// running are the pods that have not ended and are not told to.
func (c *cluster) running() (pods []*corev1.Pod) {
	for _, p := range c.pods() {
		if api.IsPodActive(p) {
			pods = append(pods, p)
		}
	}
	return pods
}

// exit ends a pod.
func (c *cluster) exit(p *corev1.Pod, phase corev1.PodPhase, code int32) {
	c.Helper()
	p = p.DeepCopy()
	p.ResourceVersion = ""
	end(p, phase, code)
	if _, err := c.Update(c.Context(), api.Pods, p, client.UpdateOptions{Subresource: "status"}); err != nil {
		c.Fatal(err)
	}
	c.settle()
}

// untracked checks that no pod is held any more.
func (c *cluster) untracked() {
	c.Helper()
	for _, p := range c.pods() {
		if len(p.Finalizers) > 0 {
			c.Errorf("%s still has %v", p.Name, p.Finalizers)
		}
	}
}

func TestAJobRunsUntilEnoughHaveSucceeded(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		stop := c.observe(c.withinBounds(2, 0))
		c.create(api.Jobs, newJob(5, 2, ends(corev1.PodSucceeded)))
		c.settle()
		stop()
		j := c.job()
		if s := j.Status; s.Succeeded != 5 || s.Failed != 0 || s.Active != 0 || s.CompletionTime == nil || is(j, batchv1.JobComplete) != "CompletionsReached" || len(c.pods()) != 5 {
			t.Errorf("%d pods, status %+v", len(c.pods()), s)
		}
		c.untracked()
	})
}

func TestAJobThatFailsRestsLongerEachTimeAndGivesUp(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.Jobs, newJob(1, 1, ends(corev1.PodFailed), func(j *batchv1.Job) { j.Spec.BackoffLimit = new(int32(2)) }))
		c.settle()
		for _, at := range []struct {
			after time.Duration
			pods  int
		}{{0, 1}, {9 * time.Second, 1}, {time.Second, 2}, {19 * time.Second, 2}, {time.Second, 3}} {
			c.pass(at.after)
			if n := len(c.pods()); n != at.pods {
				t.Errorf("%v later there are %d pods, want %d", at.after, n, at.pods)
			}
		}
		c.pass(time.Hour)
		if j := c.job(); j.Status.Failed != 3 || is(j, batchv1.JobFailed) != "BackoffLimitExceeded" || len(c.pods()) != 3 {
			t.Errorf("%d pods, status %+v", len(c.pods()), j.Status)
		}
		c.untracked()
	})
}

func TestAnIndexedJobDoesEachPartOnce(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.Jobs, newJob(4, 2, indexed))
		c.settle()
		seen := map[string]bool{}
		for range 4 {
			p := c.running()[0]
			i := p.Annotations[batchv1.JobCompletionIndexAnnotation]
			if seen[i] || p.Spec.Hostname != "work-"+i || p.Labels[batchv1.JobCompletionIndexAnnotation] != i || p.Spec.Containers[0].Env[0].Name != "JOB_COMPLETION_INDEX" {
				t.Errorf("pod %s: index %s, host %s, env %v", p.Name, i, p.Spec.Hostname, p.Spec.Containers[0].Env)
			}
			seen[i] = true
			c.exit(p, corev1.PodSucceeded, 0)
		}
		if j := c.job(); j.Status.CompletedIndexes != "0-3" || j.Status.Succeeded != 4 || is(j, batchv1.JobComplete) == "" {
			t.Errorf("status %+v", j.Status)
		}
	})
}

func TestAnIndexMayFailByItself(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.Jobs, newJob(3, 3, indexed, func(j *batchv1.Job) { j.Spec.BackoffLimitPerIndex = new(int32(1)) }))
		c.settle()
		for range 10 {
			for _, p := range c.running() {
				if p.Annotations[batchv1.JobCompletionIndexAnnotation] == "1" {
					c.exit(p, corev1.PodFailed, 1)
				} else {
					c.exit(p, corev1.PodSucceeded, 0)
				}
			}
			c.pass(30 * time.Second)
		}
		j := c.job()
		if s := j.Status; s.CompletedIndexes != "0,2" || s.FailedIndexes == nil || *s.FailedIndexes != "1" || s.Failed != 2 || is(j, batchv1.JobFailed) != "FailedIndexes" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAPolicySaysWhatAFailureMeans(t *testing.T) {
	policy := func(j *batchv1.Job) {
		j.Spec.BackoffLimit = new(int32(0))
		j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
			{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}},
			{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
				Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42},
			}},
		}}
	}
	inCluster(t, 2, func(c *cluster) {
		c.create(api.Jobs, newJob(2, 2, policy))
		c.settle()
		// A machine that goes is no failure of what ran there.
		node := c.running()[0].Spec.NodeName
		c.live.set(node, api.Gone)
		c.pass(time.Minute)
		if j := c.job(); j.Status.Failed != 0 || len(c.running()) != 2 || len(on(node, c.running())) != 0 {
			t.Fatalf("%d run, status %+v", len(c.running()), j.Status)
		}
		c.exit(c.running()[0], corev1.PodFailed, 42)
		if j := c.job(); is(j, batchv1.JobFailed) != "PodFailurePolicy" || len(c.running()) != 0 {
			t.Errorf("%d run, status %+v", len(c.running()), j.Status)
		}
		c.live.set(node, api.Alive)
		c.settle()
		c.untracked()
	})
}

func TestAMachineThatGoesTakesNoJobAlong(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.create(api.Jobs, newJob(3, 3))
		c.settle()
		node := c.running()[0].Spec.NodeName
		lost := len(on(node, c.running()))
		c.live.set(node, api.Gone)
		c.pass(time.Minute)
		if j := c.job(); int(j.Status.Failed) != lost || len(c.running()) != 3 || len(on(node, c.running())) != 0 {
			t.Fatalf("%d run, %d were lost, status %+v", len(c.running()), lost, j.Status)
		}
		for _, p := range c.running() {
			c.exit(p, corev1.PodSucceeded, 0)
		}
		if j := c.job(); is(j, batchv1.JobComplete) == "" {
			t.Errorf("status %+v", j.Status)
		}
	})
}

func TestASuspendedJobHasNoPods(t *testing.T) {
	suspend := func(is bool) func(*batchv1.Job) { return func(j *batchv1.Job) { j.Spec.Suspend = &is } }
	inCluster(t, 1, func(c *cluster) {
		c.create(api.Jobs, newJob(2, 2, suspend(true)))
		c.settle()
		if j := c.job(); len(c.pods()) != 0 || is(j, batchv1.JobSuspended) == "" || j.Status.StartTime != nil {
			t.Errorf("%d pods, status %+v", len(c.pods()), j.Status)
		}
		for _, want := range []struct{ pods int }{{2}, {0}, {2}} {
			modify(c, api.Jobs, "work", suspend(want.pods == 0))
			if j := c.job(); len(c.pods()) != want.pods || j.Status.Failed != 0 || (is(j, batchv1.JobSuspended) != "") != (want.pods == 0) {
				t.Errorf("%d pods, want %d, status %+v", len(c.pods()), want.pods, j.Status)
			}
		}
	})
}

func TestAJobHasItsTime(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.Jobs, newJob(1, 1, func(j *batchv1.Job) {
			j.Spec.ActiveDeadlineSeconds, j.Spec.TTLSecondsAfterFinished = new(int64(60)), new(int32(100))
		}))
		c.pass(59 * time.Second)
		if j := c.job(); is(j, batchv1.JobFailed) != "" || len(c.running()) != 1 {
			t.Errorf("too early: %+v", j.Status)
		}
		c.pass(2 * time.Second)
		if j := c.job(); is(j, batchv1.JobFailed) != "DeadlineExceeded" || len(c.running()) != 0 {
			t.Errorf("after its time: %+v", j.Status)
		}
		c.stop()
		c.lead(2)
		c.pass(101 * time.Second)
		l, err := c.List(c.Context(), api.Jobs, client.ListOptions{})
		if err != nil || len(l.Items) != 0 || len(c.pods()) != 0 {
			t.Errorf("%d jobs and %d pods are left, %v", len(l.Items), len(c.pods()), err)
		}
	})
}

func TestAQueueOfWorkIsDoneWhenOneSaysSo(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.Jobs, newJob(0, 3, func(j *batchv1.Job) { j.Spec.Completions = nil }))
		c.settle()
		pods := c.running()
		c.exit(pods[0], corev1.PodSucceeded, 0)
		if n := len(c.running()); n != 2 {
			t.Errorf("%d run after the first has succeeded, want 2", n)
		}
		c.exit(pods[1], corev1.PodFailed, 1)
		c.exit(pods[2], corev1.PodSucceeded, 0)
		if j := c.job(); j.Status.Succeeded != 2 || j.Status.Failed != 1 || is(j, batchv1.JobComplete) == "" {
			t.Errorf("status %+v", j.Status)
		}
	})
}

func TestASuccessPolicyEndsAJobEarly(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.Jobs, newJob(3, 3, indexed, func(j *batchv1.Job) {
			j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: new("0")}}}
		}))
		c.settle()
		for _, p := range c.running() {
			if p.Annotations[batchv1.JobCompletionIndexAnnotation] == "0" {
				c.exit(p, corev1.PodSucceeded, 0)
			}
		}
		if j := c.job(); j.Status.Succeeded != 1 || j.Status.Failed != 0 || is(j, batchv1.JobComplete) != "SuccessPolicy" || len(c.running()) != 0 {
			t.Errorf("%d run, status %+v", len(c.running()), j.Status)
		}
	})
}

func TestADeletedPodOfAJobIsAFailureAndReplaced(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.Jobs, newJob(1, 1))
		c.settle()
		p := c.running()[0]
		if _, err := c.Delete(c.Context(), api.Pods, client.KeyOf(p), client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.pass(time.Minute)
		if j := c.job(); j.Status.Failed != 1 || len(c.running()) != 1 || c.running()[0].UID == p.UID || len(c.pods()) != 1 {
			t.Errorf("%d pods, status %+v", len(c.pods()), j.Status)
		}
	})
}

func TestDeletingAJob(t *testing.T) {
	for policy, left := range map[metav1.DeletionPropagation]int{
		metav1.DeletePropagationBackground: 0, metav1.DeletePropagationForeground: 0, metav1.DeletePropagationOrphan: 2,
	} {
		t.Run(string(policy), func(t *testing.T) {
			inCluster(t, 1, func(c *cluster) {
				c.create(api.Jobs, newJob(2, 2))
				c.settle()
				if _, err := c.Delete(c.Context(), api.Jobs, client.KeyOf(c.job()), client.DeleteOptions{Propagation: &policy}); err != nil {
					t.Fatal(err)
				}
				c.settle()
				if n := len(c.pods()); n != left {
					t.Errorf("%d pods are left, want %d", n, left)
				}
				c.untracked()
			})
		})
	}
}

// TestAMasterMayEndAtEveryWriteOfAJob: each end of a pod is counted once, by whichever Master.
func TestAMasterMayEndAtEveryWriteOfAJob(t *testing.T) {
	for _, most := range []int{1, 2, 3} {
		for _, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
			t.Run(fmt.Sprint(most, phase), func(t *testing.T) {
				inCluster(t, 2, func(c *cluster) {
					c.stop()
					c.create(api.Jobs, newJob(6, 2, ends(phase), func(j *batchv1.Job) { j.Spec.BackoffLimit = new(int32(3)) }))
					term := uint64(2)
					for quiet := 0; quiet < 20; term++ {
						l := &limited{Interface: c.Registry, left: most}
						c.leadAs(term, l)
						c.pass(5 * time.Second)
						c.stop()
						quiet++
						if l.left == 0 {
							quiet = 0
						}
						if term > 1000 {
							t.Fatal("the job does not end")
						}
					}
					// A pod that was let go to be deleted with the job may have ended before it was: that is no failure.
					j := c.job()
					if s := j.Status; phase == corev1.PodSucceeded && (s.Succeeded != 6 || s.Failed != 0 || is(j, batchv1.JobComplete) == "") ||
						phase == corev1.PodFailed && (s.Succeeded != 0 || int(s.Failed) > len(c.pods()) || s.Failed < 4 || is(j, batchv1.JobFailed) == "") {
						t.Errorf("after %d Masters %d pods, status %+v", term, len(c.pods()), s)
					}
					c.untracked()
				})
			})
		}
	}
}

func TestIndexesOfAJobThatShrinks(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.Jobs, newJob(4, 4, indexed))
		c.settle()
		modify(c, api.Jobs, "work", func(j *batchv1.Job) { j.Spec.Completions, j.Spec.Parallelism = new(int32(2)), new(int32(2)) })
		var left []string
		for _, p := range c.running() {
			left = append(left, p.Annotations[batchv1.JobCompletionIndexAnnotation])
		}
		slices.Sort(left)
		if !slices.Equal(left, []string{"0", "1"}) {
			t.Errorf("indexes %v run", left)
		}
	})
}
