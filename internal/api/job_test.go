package api

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func goodJob() *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: goodMeta(), Spec: batchv1.JobSpec{Template: goodTemplate()}}
	j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	return j
}

// indexedJob has three pods with an index each, all at once.
func indexedJob() *batchv1.Job {
	j := goodJob()
	j.Spec.CompletionMode, j.Spec.Completions, j.Spec.Parallelism = new(batchv1.IndexedCompletion), new(int32(3)), new(int32(3))
	return j
}

func TestDefaultsOfAJob(t *testing.T) {
	type numbers struct{ parallelism, completions, backoff *int32 }
	for _, c := range []struct {
		rule string
		do   func(*batchv1.JobSpec)
		want numbers
	}{
		{"one pod, six times more", func(*batchv1.JobSpec) {}, numbers{new(int32(1)), new(int32(1)), new(int32(6))}},
		{"workers until one succeeds", func(s *batchv1.JobSpec) { s.Parallelism = new(int32(4)) }, numbers{new(int32(4)), nil, new(int32(6))}},
		{"one after the other", func(s *batchv1.JobSpec) { s.Completions = new(int32(4)) }, numbers{new(int32(1)), new(int32(4)), new(int32(6))}},
		{"a limit for each index is enough", func(s *batchv1.JobSpec) { s.BackoffLimitPerIndex = new(int32(2)) }, numbers{new(int32(1)), new(int32(1)), new(int32(1<<31 - 1))}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			j := goodJob()
			c.do(&j.Spec)
			Jobs.Default(j)
			s := &j.Spec
			if diff := cmp.Diff(c.want, numbers{s.Parallelism, s.Completions, s.BackoffLimit}, cmp.AllowUnexported(numbers{})); diff != "" {
				t.Error(diff)
			}
			if *s.CompletionMode != "NonIndexed" || *s.Suspend || *s.ManualSelector || *s.PodReplacementPolicy != "TerminatingOrFailed" {
				t.Errorf("got %+v", s)
			}
		})
	}
	j := goodJob()
	j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "A"}}}}}
	Jobs.Default(j)
	if *j.Spec.PodReplacementPolicy != "Failed" || j.Spec.PodFailurePolicy.Rules[0].OnPodConditions[0].Status != "True" {
		t.Errorf("with a policy on failures: got %+v", j.Spec)
	}
}

func TestAJobSelectsItsPodsByUID(t *testing.T) {
	j := created(Jobs, goodJob())
	labels := map[string]string{"app": "web", "job-name": "web", "controller-uid": "u", "batch.kubernetes.io/job-name": "web", "batch.kubernetes.io/controller-uid": "u"}
	if diff := cmp.Diff(labels, j.Spec.Template.Labels); diff != "" {
		t.Errorf("the pods' labels: %s", diff)
	}
	if diff := cmp.Diff(labels, j.Labels); diff != "" {
		t.Errorf("the job's labels, when it had none: %s", diff)
	}
	if diff := cmp.Diff(&metav1.LabelSelector{MatchLabels: map[string]string{"batch.kubernetes.io/controller-uid": "u"}}, j.Spec.Selector); diff != "" {
		t.Errorf("the selector: %s", diff)
	}
	j.Labels["own"] = "yes"
	if j.Spec.Template.Labels["own"] != "" {
		t.Error("the job and its pods share their labels")
	}

	j = goodJob()
	j.Labels = map[string]string{"app": "web"}
	if j = created(Jobs, j); len(j.Labels) != 1 {
		t.Errorf("labels of its own became %v", j.Labels)
	}
	j = goodJob()
	j.Spec.ManualSelector, j.Spec.Selector = new(true), goodSelector()
	if j = created(Jobs, j); len(j.Spec.Template.Labels) != 1 || len(j.Spec.Selector.MatchLabels) != 1 {
		t.Errorf("a selector made by hand became %v", j.Spec)
	}
}

func TestNewJobs(t *testing.T) {
	checkCreates(t, Jobs, goodJob, []change[*batchv1.Job]{
		{rule: "pods may be tried again in place", do: func(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = "OnFailure" }},
		{
			rule: "pods end", do: func(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = "" },
			want: []string{`spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"`},
		},
		{
			rule: "numbers from 0 on", do: func(j *batchv1.Job) {
				s, n := &j.Spec, new(int32(-1))
				s.Parallelism, s.Completions, s.BackoffLimit, s.TTLSecondsAfterFinished, s.ActiveDeadlineSeconds = n, n, n, n, new(int64(-1))
			},
			want: []string{
				"spec.parallelism" + negative, "spec.completions" + negative, "spec.backoffLimit" + negative, "spec.ttlSecondsAfterFinished" + negative,
				"spec.activeDeadlineSeconds" + negative,
			},
		},
		{
			rule: "a selector by hand is given", do: func(j *batchv1.Job) { j.Spec.ManualSelector = new(true) },
			want: []string{"spec.selector: Required value", mismatched},
		},
		{
			rule: "no selector of one's own otherwise", do: func(j *batchv1.Job) { j.Spec.Selector = goodSelector() },
			want: []string{"spec.selector: Invalid value: `selector` not auto-generated"},
		},
		{
			rule: "no name of another job", do: func(j *batchv1.Job) { j.Spec.Template.Labels["job-name"] = "other" },
			want: []string{"spec.template.metadata.labels[job-name]: Invalid value: must be 'web'"},
		},
		{
			rule: "who manages it has a domain", do: func(j *batchv1.Job) { j.Spec.ManagedBy = new("me") },
			want: []string{`spec.managedBy: Invalid value: must be a domain-prefixed path (such as "acme.io/foo")`},
		},
		{
			rule: "who manages it has a short name", do: func(j *batchv1.Job) { j.Spec.ManagedBy = new("a.b/" + strings.Repeat("c", 60)) },
			want: []string{"spec.managedBy: Too long: may not be more than 63 bytes"},
		},
		{
			rule: "known modes and policies", do: func(j *batchv1.Job) {
				j.Spec.CompletionMode, j.Spec.PodReplacementPolicy = new(batchv1.CompletionMode("Sorted")), new(batchv1.PodReplacementPolicy("Never"))
			},
			want: []string{
				`spec.completionMode: Unsupported value: supported values: "NonIndexed", "Indexed"`,
				`spec.podReplacementPolicy: Unsupported value: supported values: "Failed", "TerminatingOrFailed"`,
			},
		},
		{
			rule: "limits of indexes need indexes", do: func(j *batchv1.Job) { j.Spec.MaxFailedIndexes = new(int32(1)) },
			want: []string{
				"spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified", "spec.maxFailedIndexes: Invalid value: requires indexed completion mode",
			},
		},
		{
			rule: "a policy on success needs indexes", do: func(j *batchv1.Job) { j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{} },
			want: []string{"spec.successPolicy: Invalid value: requires indexed completion mode"},
		},
		{rule: "no scheduling as a group yet", do: func(j *batchv1.Job) { j.Spec.Scheduling = &batchv1.JobSchedulingConfiguration{} }},
	})
}

func TestNewIndexedJobs(t *testing.T) {
	checkCreates(t, Jobs, indexedJob, []change[*batchv1.Job]{
		{
			rule: "how many there are is known", do: func(j *batchv1.Job) { j.Spec.Completions = nil },
			want: []string{"spec.completions: Required value: when completion mode is Indexed"},
		},
		{
			rule: "names with an index are host names", do: func(j *batchv1.Job) { j.Name = strings.Repeat("a", 62) },
			want: []string{"metadata.name: Invalid value: will not able to create pod with invalid DNS label: " + strings.Repeat("a", 62) + "-2"},
		},
		{
			rule: "no more failures than indexes", do: func(j *batchv1.Job) {
				j.Spec.BackoffLimitPerIndex, j.Spec.MaxFailedIndexes = new(int32(1)), new(int32(4))
			},
			want: []string{"spec.maxFailedIndexes: Invalid value: must be less than or equal to completions"},
		},
		{
			rule: "not too many at once", do: func(j *batchv1.Job) { j.Spec.Parallelism = new(int32(100_001)) },
			want: []string{"spec.parallelism: Invalid value: must be less than or equal to 100000 when completion mode is Indexed"},
		},
		{
			rule: "very many with a limit each", do: func(j *batchv1.Job) {
				j.Spec.Completions, j.Spec.Parallelism, j.Spec.BackoffLimitPerIndex = new(int32(100_001)), new(int32(10_001)), new(int32(1))
			},
			want: []string{
				"spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
				"spec.parallelism: Invalid value: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index",
			},
		},
	})
}

func TestPoliciesOfJobs(t *testing.T) {
	onFailure := func(r batchv1.PodFailurePolicyRule) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{r}}
		}
	}
	onExit := func(c batchv1.PodFailurePolicyOnExitCodesRequirement) func(*batchv1.Job) {
		return onFailure(batchv1.PodFailurePolicyRule{Action: "FailJob", OnExitCodes: &c})
	}
	onSuccess := func(r batchv1.SuccessPolicyRule) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{r}}
		}
	}
	const (
		rule  = "spec.podFailurePolicy.rules[0]"
		codes = rule + ".onExitCodes"
		ok    = "spec.successPolicy.rules[0]"
		parse = ".succeededIndexes: Invalid value: error parsing succeededIndexes: "
	)
	checkCreates(t, Jobs, indexedJob, []change[*batchv1.Job]{
		{rule: "an exit code that ends all", do: onExit(batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{1, 42}, ContainerName: new("c")})},
		{
			rule: "a rule does something about something", do: onFailure(batchv1.PodFailurePolicyRule{}),
			want: []string{
				rule + `.action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]`,
				rule + ": Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
			},
		},
		{
			rule: "exit codes are ordered, each once and none is success", do: onExit(batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{3, 3, 0}, ContainerName: new("d")}),
			want: []string{
				codes + ".containerName: Invalid value: must be one of the container or initContainer names in the pod template",
				codes + ".values[1]: Duplicate value", codes + ".values[2]: Invalid value: must not be 0 for the In operator", codes + ".values: Invalid value: must be ordered",
			},
		},
		{
			rule: "exit codes are needed", do: onExit(batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "Near"}),
			want: []string{
				codes + `.operator: Unsupported value: supported values: "In", "NotIn"`, codes + ".values: Invalid value: at least one value is required",
			},
		},
		{
			rule: "conditions have a name and a state", do: onFailure(batchv1.PodFailurePolicyRule{Action: "Ignore", OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "A", Status: "Perhaps"}}}),
			want: []string{rule + `.onPodConditions[0].status: Unsupported value: supported values: "False", "True", "Unknown"`},
		},
		{
			rule: "an index fails only with a limit", do: onFailure(batchv1.PodFailurePolicyRule{Action: "FailIndex", OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "A"}}}),
			want: []string{rule + ".action: Invalid value: requires the backoffLimitPerIndex to be set"},
		},
		{
			rule: "pods are not tried again in place", do: func(j *batchv1.Job) {
				onExit(batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{1}})(j)
				j.Spec.Template.Spec.RestartPolicy, j.Spec.PodReplacementPolicy = "OnFailure", new(batchv1.TerminatingOrFailed)
			},
			want: []string{
				`spec.template.spec.restartPolicy: Invalid value: only "Never" is supported when podFailurePolicy is specified`,
				`spec.podReplacementPolicy: Unsupported value: supported values: "Failed"`,
			},
		},
		{rule: "some indexes are enough", do: onSuccess(batchv1.SuccessPolicyRule{SucceededIndexes: new("0-2"), SucceededCount: new(int32(2))})},
		{rule: "a rule wants something", do: onSuccess(batchv1.SuccessPolicyRule{}), want: []string{ok + ": Required value: at least one of succeededCount or succeededIndexes must be specified"}},
		{
			rule: "rules are needed", do: func(j *batchv1.Job) { j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{} },
			want: []string{"spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified"},
		},
		{
			rule: "no more than there are", do: onSuccess(batchv1.SuccessPolicyRule{SucceededIndexes: new("0,2"), SucceededCount: new(int32(4))}),
			want: []string{
				ok + ".succeededCount: Invalid value: must be less than or equal to 3 (the number of specified completions)",
				ok + ".succeededCount: Invalid value: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
			},
		},
		{rule: "indexes that exist", do: onSuccess(batchv1.SuccessPolicyRule{SucceededIndexes: new("1-3")}), want: []string{ok + parse + `too large index: "3"`}},
		{rule: "indexes that rise", do: onSuccess(batchv1.SuccessPolicyRule{SucceededIndexes: new("1,0")}), want: []string{ok + parse + "non-increasing order, previous: 1, current: 0"}},
		{rule: "spans that rise", do: onSuccess(batchv1.SuccessPolicyRule{SucceededIndexes: new("1-1")}), want: []string{ok + parse + "non-increasing order, previous: 1, current: 1"}},
		{rule: "indexes are numbers", do: onSuccess(batchv1.SuccessPolicyRule{SucceededIndexes: new("a")}), want: []string{ok + parse + `cannot convert string to integer for index: "a"`}},
	})
}

func TestUpdatesOfJobs(t *testing.T) {
	image := func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "nginx:2" }
	place := func(j *batchv1.Job) {
		j.Spec.Template.Spec.NodeSelector = map[string]string{"disk": "fast"}
		j.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}
		j.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{}
		j.Spec.Template.Labels["size"] = "l"
	}
	suspended := func(j *batchv1.Job) { j.Spec.Suspend = new(true) }
	checkUpdates(t, Jobs, goodJob, []change[*batchv1.Job]{
		{rule: "more at once", do: func(j *batchv1.Job) { j.Spec.Parallelism = new(int32(5)) }},
		{rule: "not more in all", do: func(j *batchv1.Job) { j.Spec.Completions = new(int32(5)) }, want: []string{"spec.completions" + immutable}},
		{rule: "suspended", do: suspended},
		{rule: "not other pods", do: image, want: []string{"spec.template" + immutable}},
		{rule: "not elsewhere", do: place, want: []string{"spec.template" + immutable}},
		{rule: "elsewhere while it rests", was: suspended, do: place},
		{rule: "not other pods even then", was: suspended, do: image, want: []string{"spec.template.spec" + immutable}},
		{
			rule: "not elsewhere while pods still run", was: func(j *batchv1.Job) { suspended(j); j.Status.Active = 1 }, do: place,
			want: []string{"spec.template" + immutable},
		},
		{
			rule: "not elsewhere before it is known to rest", was: func(j *batchv1.Job) { suspended(j); j.Status.StartTime = &metav1.Time{} }, do: place,
			want: []string{"spec.template" + immutable},
		},
		{
			rule: "elsewhere once it rests again", do: place, was: func(j *batchv1.Job) {
				suspended(j)
				j.Status = batchv1.JobStatus{StartTime: &metav1.Time{}, Conditions: []batchv1.JobCondition{{Type: "Suspended", Status: "True"}}}
			},
		},
		{
			rule: "what pods are for stays", do: func(j *batchv1.Job) {
				j.Spec.ManagedBy, j.Spec.CompletionMode = new("a.b/c"), new(batchv1.IndexedCompletion)
			},
			want: []string{"spec.managedBy" + immutable, "spec.completionMode" + immutable},
		},
		{
			rule: "the selector stays", do: func(j *batchv1.Job) { j.Spec.Selector = nil },
			want: []string{"spec.selector: Required value", "spec.selector" + immutable, mismatched},
		},
	})
	checkUpdates(t, Jobs, indexedJob, []change[*batchv1.Job]{
		{rule: "as wide as long", do: func(j *batchv1.Job) { j.Spec.Completions, j.Spec.Parallelism = new(int32(5)), new(int32(5)) }},
		{
			rule: "not only longer", do: func(j *batchv1.Job) { j.Spec.Completions = new(int32(5)) },
			want: []string{"spec.completions: Invalid value: can only be modified in tandem with spec.parallelism"},
		},
	})
}

func TestCellsOfAJob(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	at := func(before time.Duration) *metav1.Time { return new(metav1.NewTime(now.Add(-before))) }
	condition := func(t batchv1.JobConditionType) []batchv1.JobCondition {
		return []batchv1.JobCondition{{Type: t, Status: "True"}}
	}
	const uid = "batch.kubernetes.io/controller-uid=u"
	for _, c := range []struct {
		rule                          string
		do                            func(*batchv1.Job)
		status, completions, duration string
	}{
		{"waiting", func(*batchv1.Job) {}, "Running", "0/1", ""},
		{"running", func(j *batchv1.Job) { j.Status.StartTime = at(time.Minute) }, "Running", "0/1", "60s"},
		{"complete", func(j *batchv1.Job) {
			j.Status = batchv1.JobStatus{StartTime: at(time.Hour), CompletionTime: at(time.Minute), Succeeded: 1, Conditions: condition("Complete")}
		}, "Complete", "1/1", "59m"},
		{"failed", func(j *batchv1.Job) { j.Status.Conditions = condition("Failed") }, "Failed", "0/1", ""},
		{"suspended", func(j *batchv1.Job) { j.Status.Conditions = condition("Suspended") }, "Suspended", "0/1", ""},
		{"going to fail", func(j *batchv1.Job) { j.Status.Conditions = condition("FailureTarget") }, "FailureTarget", "0/1", ""},
		{"going to be complete", func(j *batchv1.Job) { j.Status.Conditions = condition("SuccessCriteriaMet") }, "SuccessCriteriaMet", "0/1", ""},
		{"being deleted", func(j *batchv1.Job) { j.DeletionTimestamp, j.Status.Conditions = at(0), condition("Suspended") }, "Terminating", "0/1", ""},
		{"any one success", func(j *batchv1.Job) { j.Spec.Completions = nil }, "Running", "0/1", ""},
		{"one success of many", func(j *batchv1.Job) { j.Spec.Completions, j.Spec.Parallelism = nil, new(int32(4)) }, "Running", "0/1 of 4", ""},
	} {
		t.Run(c.rule, func(t *testing.T) {
			j := created(Jobs, goodJob())
			c.do(j)
			checkCells(t, Jobs, j, "web", c.status, c.completions, c.duration, "3h", "c", "nginx:1", uid)
		})
	}
}
