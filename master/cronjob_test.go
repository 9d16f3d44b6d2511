package master_test

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

func newCronJob(schedule string, change ...func(*batchv1.CronJob)) *batchv1.CronJob {
	o := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "tick"},
		Spec: batchv1.CronJobSpec{Schedule: schedule, JobTemplate: batchv1.JobTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"of": "tick"}}, Spec: newJob(1, 1).Spec,
		}},
	}
	for _, f := range change {
		f(o)
	}
	return o
}

// succeeding makes the Jobs' pods end well by themselves.
func succeeding(o *batchv1.CronJob) {
	o.Spec.JobTemplate.Spec.Template.Annotations = map[string]string{"test/ends": string(corev1.PodSucceeded)}
}

func (c *cluster) ticks() (jobs []*batchv1.Job) {
	c.Helper()
	l, err := c.List(c.Context(), api.Jobs, client.ListOptions{Namespace: metav1.NamespaceDefault})
	if err != nil {
		c.Fatal(err)
	}
	for _, o := range l.Items {
		jobs = append(jobs, o.(*batchv1.Job))
	}
	return jobs
}

func (c *cluster) cronJob() *batchv1.CronJob {
	c.Helper()
	return get[*batchv1.CronJob](c, api.CronJobs, metav1.NamespaceDefault, "tick")
}

// The clock of a bubble begins at midnight UTC.
func TestACronJobRunsAtItsTimes(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.CronJobs, newCronJob("*/10 * * * *", succeeding))
		c.pass(9 * time.Minute)
		if n := len(c.ticks()); n != 0 {
			t.Errorf("%d jobs before the time", n)
		}
		c.pass(time.Minute)
		jobs := c.ticks()
		if len(jobs) != 1 || is(jobs[0], batchv1.JobComplete) == "" || jobs[0].Labels["of"] != "tick" || jobs[0].Annotations[batchv1.CronJobScheduledTimestampAnnotation] != "2000-01-01T00:10:00Z" {
			t.Fatalf("jobs %v", jobs)
		}
		o := c.cronJob()
		if s := o.Status; len(s.Active) != 0 || s.LastScheduleTime == nil || s.LastScheduleTime.Minute() != 10 || s.LastSuccessfulTime == nil {
			t.Errorf("status %+v", s)
		}
		c.pass(time.Hour)
		if n := len(c.ticks()); n != 3 { // successfulJobsHistoryLimit
			t.Errorf("%d jobs are kept, want 3", n)
		}
		if _, err := c.Delete(c.Context(), api.CronJobs, client.KeyOf(c.cronJob()), client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if n := len(c.ticks()) + len(c.pods()); n != 0 {
			t.Errorf("%d jobs and pods are left", n)
		}
	})
}

func TestConcurrencyOfACronJob(t *testing.T) {
	for policy, want := range map[batchv1.ConcurrencyPolicy]int{batchv1.AllowConcurrent: 3, batchv1.ForbidConcurrent: 1, batchv1.ReplaceConcurrent: 1} {
		t.Run(string(policy), func(t *testing.T) {
			inCluster(t, 1, func(c *cluster) {
				c.create(api.CronJobs, newCronJob("0 * * * *", func(o *batchv1.CronJob) { o.Spec.ConcurrencyPolicy = policy }))
				c.pass(3*time.Hour + time.Minute)
				jobs := c.ticks()
				if len(jobs) != want || len(c.running()) != want || len(c.cronJob().Status.Active) != want {
					t.Fatalf("%d jobs, %d pods, status %+v", len(jobs), len(c.running()), c.cronJob().Status)
				}
				at := jobs[len(jobs)-1].Annotations[batchv1.CronJobScheduledTimestampAnnotation]
				if latest := strings.Contains(at, "T03:00"); latest == (policy == batchv1.ForbidConcurrent) {
					t.Errorf("the last job is of %s", at)
				}
				if policy == batchv1.ForbidConcurrent { // what was missed is made up for as soon as it can be
					c.exit(c.running()[0], corev1.PodSucceeded, 0)
					if n := len(c.ticks()); n != 2 {
						t.Errorf("%d jobs after the first has ended", n)
					}
				}
			})
		})
	}
}

func TestACronJobHasATimeZone(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.CronJobs, newCronJob("30 5 * * *", succeeding, func(o *batchv1.CronJob) { o.Spec.TimeZone = new("Asia/Kolkata") })) // 00:00 UTC
		c.pass(23 * time.Hour)
		if n := len(c.ticks()); n != 0 {
			t.Errorf("%d jobs before the time", n)
		}
		c.pass(time.Hour)
		if jobs := c.ticks(); len(jobs) != 1 || jobs[0].Annotations[batchv1.CronJobScheduledTimestampAnnotation] != "2000-01-02T05:30:00+05:30" {
			t.Errorf("jobs %v", jobs)
		}
	})
}

func TestTimesThatWereMissed(t *testing.T) {
	for deadline, want := range map[int64]int{0: 1, 60: 0, 7200: 1} {
		inCluster(t, 1, func(c *cluster) {
			c.create(api.CronJobs, newCronJob("0 * * * *", func(o *batchv1.CronJob) {
				if deadline > 0 {
					o.Spec.StartingDeadlineSeconds = &deadline
				}
			}))
			c.settle()
			c.stop()
			c.pass(200*time.Hour + 30*time.Minute) // nobody was Master
			c.lead(2)
			c.settle()
			if jobs := c.ticks(); len(jobs) != want || want == 1 && !strings.Contains(jobs[0].Annotations[batchv1.CronJobScheduledTimestampAnnotation], "09T08:00:00") {
				t.Errorf("with a deadline of %d s: jobs %v", deadline, jobs)
			}
		})
	}
}

func TestASuspendedCronJobRests(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.CronJobs, newCronJob("0 * * * *", succeeding, func(o *batchv1.CronJob) { o.Spec.Suspend = new(true) }))
		c.pass(5 * time.Hour)
		if n := len(c.ticks()); n != 0 {
			t.Errorf("%d jobs of one that is suspended", n)
		}
	})
}
