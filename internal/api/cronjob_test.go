package api

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func goodCronJob() *batchv1.CronJob {
	return &batchv1.CronJob{ObjectMeta: goodMeta(), Spec: batchv1.CronJobSpec{Schedule: "*/5 * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: goodJob().Spec}}}
}

func TestDefaultsOfACronJob(t *testing.T) {
	c := goodCronJob()
	CronJobs.Default(c)
	s := &c.Spec
	if s.ConcurrencyPolicy != "Allow" || *s.Suspend || *s.SuccessfulJobsHistoryLimit != 3 || *s.FailedJobsHistoryLimit != 1 {
		t.Errorf("got %+v", s)
	}
	if s.JobTemplate.Spec.Template.Spec.DNSPolicy != corev1.DNSClusterFirst {
		t.Error("the pods' template lacks defaults")
	}
	if s.JobTemplate.Spec.Completions != nil || s.JobTemplate.Spec.BackoffLimit != nil {
		t.Error("what a job gets when it is made is in the template already")
	}
}

func TestNewCronJobs(t *testing.T) {
	schedule := func(text string) func(*batchv1.CronJob) {
		return func(c *batchv1.CronJob) { c.Spec.Schedule = text }
	}
	zone := func(name string) func(*batchv1.CronJob) {
		return func(c *batchv1.CronJob) { c.Spec.TimeZone = &name }
	}
	const tz = "spec.schedule: Invalid value: cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
	checkCreates(t, CronJobs, goodCronJob, []change[*batchv1.CronJob]{
		{rule: "names of days", do: schedule("0 4 * * MON-FRI")},
		{rule: "a word", do: schedule("@daily")},
		{rule: "an interval", do: schedule("@every 1h30m")},
		{rule: "a schedule is needed", do: schedule(""), want: []string{"spec.schedule: Required value"}},
		{rule: "five fields", do: schedule("* * * *"), want: []string{"spec.schedule: Invalid value: expected exactly 5 fields, found 4: [* * * *]"}},
		{rule: "values that exist", do: schedule("61 * * * *"), want: []string{"spec.schedule: Invalid value: end of range (61) above maximum (59): 61"}},
		{rule: "a time zone has its field", do: schedule("TZ=UTC 0 * * * *"), want: []string{tz}},
		{
			rule: "a time zone and nothing else", do: schedule("TZ=UTC"),
			want: []string{tz, "spec.schedule: Invalid value: invalid schedule format: runtime error: slice bounds out of range [:-1]"},
		},
		{rule: "time zones", do: zone("America/New_York")},
		{rule: "a time zone has a name", do: zone(""), want: []string{"spec.timeZone: Invalid value: timeZone must be nil or non-empty string"}},
		{rule: "a time zone exists", do: zone("Moon/Sea"), want: []string{"spec.timeZone: Invalid value: unknown time zone Moon/Sea"}},
		{rule: "a time zone is not a path", do: zone("../Etc/UTC"), want: []string{"spec.timeZone: Invalid value: unknown time zone ../Etc/UTC"}},
		{
			rule: "a time zone is the same everywhere", do: zone("Local"),
			want: []string{"spec.timeZone: Invalid value: timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"},
		},
		{
			rule: "room for the time in the jobs' names", do: func(c *batchv1.CronJob) { c.Name = strings.Repeat("a", 53) },
			want: []string{"metadata.name: Invalid value: must be no more than 52 characters"},
		},
		{
			rule: "known policies", do: func(c *batchv1.CronJob) { c.Spec.ConcurrencyPolicy = "Perhaps" },
			want: []string{`spec.concurrencyPolicy: Unsupported value: supported values: "Allow", "Forbid", "Replace"`},
		},
		{
			rule: "numbers from 0 on", do: func(c *batchv1.CronJob) {
				n := new(int32(-1))
				c.Spec.StartingDeadlineSeconds, c.Spec.SuccessfulJobsHistoryLimit, c.Spec.FailedJobsHistoryLimit = new(int64(-1)), n, n
			},
			want: []string{"spec.startingDeadlineSeconds" + negative, "spec.successfulJobsHistoryLimit" + negative, "spec.failedJobsHistoryLimit" + negative},
		},
		{
			rule: "jobs select their pods themselves", do: func(c *batchv1.CronJob) {
				c.Spec.JobTemplate.Spec.Selector, c.Spec.JobTemplate.Spec.ManualSelector = goodSelector(), new(true)
			},
			want: []string{
				"spec.jobTemplate.spec.selector: Invalid value: `selector` will be auto-generated",
				`spec.jobTemplate.spec.manualSelector: Unsupported value: supported values: "nil", "false"`,
			},
		},
		{
			rule: "jobs are checked", do: func(c *batchv1.CronJob) {
				c.Spec.JobTemplate.Spec.Parallelism, c.Spec.JobTemplate.Spec.Template.Spec.RestartPolicy = new(int32(-1)), ""
			},
			want: []string{
				"spec.jobTemplate.spec.parallelism" + negative,
				`spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"`,
			},
		},
	})
}

func TestUpdatesOfCronJobs(t *testing.T) {
	old := func(c *batchv1.CronJob) { c.Spec.Schedule = "CRON_TZ=UTC 0 * * * *" }
	checkUpdates(t, CronJobs, goodCronJob, []change[*batchv1.CronJob]{
		{rule: "everything may change", do: func(c *batchv1.CronJob) {
			c.Spec.Schedule = "@hourly"
			c.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Image = "nginx:2"
		}},
		{
			rule: "a schedule that was good stays good", do: func(c *batchv1.CronJob) { c.Spec.Schedule = "never" },
			want: []string{"spec.schedule: Invalid value: expected exactly 5 fields, found 1: [never]"},
		},
		{rule: "a time zone that was in the schedule may stay there", was: old, do: func(c *batchv1.CronJob) { c.Spec.Schedule = "CRON_TZ=UTC 1 * * * *" }},
		{
			rule: "but not in both", was: old, do: func(c *batchv1.CronJob) { c.Spec.TimeZone = new("Etc/UTC") },
			want: []string{"spec.schedule: Invalid value: cannot use both timeZone field and TZ or CRON_TZ in schedule"},
		},
		{
			rule: "a time zone that is gone from the world stays", was: func(c *batchv1.CronJob) { c.Spec.TimeZone = new("Old/Zone") },
			do: func(c *batchv1.CronJob) { c.Spec.Suspend = new(true) },
		},
		{rule: "a long name that is stored does not stand in the way", was: func(c *batchv1.CronJob) { c.Name = strings.Repeat("a", 53) }, do: func(*batchv1.CronJob) {}},
	})
	checkStatuses(t, CronJobs, goodCronJob, nil)
}

func TestCellsOfACronJob(t *testing.T) {
	c := created(CronJobs, goodCronJob())
	checkCells(t, CronJobs, c, "web", "*/5 * * * *", "<none>", "False", int64(0), "<none>", "3h", "c", "nginx:1", "<none>")
	c.Spec.TimeZone, c.Spec.Suspend = new("Etc/UTC"), new(true)
	c.Status = batchv1.CronJobStatus{Active: []corev1.ObjectReference{{}, {}}, LastScheduleTime: new(metav1.NewTime(time.Unix(1_000_000-90, 0)))}
	checkCells(t, CronJobs, c, "web", "*/5 * * * *", "Etc/UTC", "True", int64(2), "90s", "3h", "c", "nginx:1", "<none>")
}

func TestSchedules(t *testing.T) {
	s, err := ParseSchedule("30 4 * * *")
	if err != nil {
		t.Fatal(err)
	}
	got := s.Next(time.Date(2026, 1, 2, 4, 30, 0, 0, time.UTC))
	if want := time.Date(2026, 1, 3, 4, 30, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("got %s, want %s", got, want)
	}
}
