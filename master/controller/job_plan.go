package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
)

// Pauses before a pod that failed is replaced: doubled with each failure since the last success, as in Kubernetes.
const (
	jobRest    = 10 * time.Second
	jobRestMax = 10 * time.Minute
)

// maxJobPods is how many pods are made at a time.
const maxJobPods = 500

// jobPlan is what a Job's status should say now, and what is to be done after it does. It depends on its arguments alone.
type jobPlan struct {
	job       *batchv1.Job
	now       time.Time
	active    []*corev1.Pod
	ending    []*corev1.Pod // told to end, and not at their end yet
	finished  []*corev1.Pod // the earliest first
	completed indexes
	failedAt  indexes // indexes that have failed for good

	status  batchv1.JobStatus
	counted []*corev1.Pod // their ends are in status
	create  []*corev1.Pod
	held    bool          // not all that are missing are made
	remove  []*corev1.Pod // which is nobody's failure
	evict   []*corev1.Pod // on a machine that is gone: deleted as by anybody else
	after   time.Duration // when to look again, unless something happens; 0: never
}

func newJobPlan(job *batchv1.Job, pods []*corev1.Pod, now time.Time) *jobPlan {
	p := &jobPlan{job: job, now: now, status: *job.Status.DeepCopy(), completed: indexes{}, failedAt: indexes{}}
	for _, pod := range pods {
		switch {
		case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || forsaken(pod):
			p.finished = append(p.finished, pod)
		case pod.DeletionTimestamp != nil:
			p.ending = append(p.ending, pod)
		case api.IsPodDisrupted(pod):
			p.evict = append(p.evict, pod)
		default:
			p.active = append(p.active, pod)
		}
	}
	slices.SortFunc(p.finished, func(a, b *corev1.Pod) int {
		return cmp.Or(endOfPod(a).Compare(endOfPod(b)), cmp.Compare(a.Name, b.Name))
	})
	if p.indexed() {
		p.completed = parseIndexes(p.status.CompletedIndexes, p.wantIndexes())
		if p.status.FailedIndexes != nil {
			p.failedAt = parseIndexes(*p.status.FailedIndexes, p.wantIndexes())
		}
	}
	p.begin()
	refused := p.count(pods)
	p.decide(refused)
	p.tell()
	return p
}

// forsaken is a pod that will never say how it ended: nobody waits for its machine any more.
func forsaken(p *corev1.Pod) bool {
	return p.DeletionTimestamp != nil && p.DeletionGracePeriodSeconds != nil && *p.DeletionGracePeriodSeconds == 0
}

func (p *jobPlan) indexed() bool {
	return p.job.Spec.CompletionMode != nil && *p.job.Spec.CompletionMode == batchv1.IndexedCompletion
}

func (p *jobPlan) wantIndexes() int { return int(deref(p.job.Spec.Completions)) }

func (p *jobPlan) suspended() bool { return deref(p.job.Spec.Suspend) }

// replacesOnlyFailed: a pod that is told to end is replaced, and counted, when it has ended.
func (p *jobPlan) replacesOnlyFailed() bool {
	return p.job.Spec.PodReplacementPolicy != nil && *p.job.Spec.PodReplacementPolicy == batchv1.Failed
}

// begin notes when the Job started, or that it rests.
func (p *jobPlan) begin() {
	s := &p.status
	was := jobCondition(s, batchv1.JobSuspended) != nil
	switch {
	case p.suspended() && !was:
		p.set(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended")
	case !p.suspended() && was:
		p.set(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed")
		s.StartTime = &metav1.Time{Time: p.now}
	}
	if s.StartTime == nil && !p.suspended() {
		s.StartTime = &metav1.Time{Time: p.now}
	}
}

func (p *jobPlan) set(t batchv1.JobConditionType, is corev1.ConditionStatus, reason, message string) {
	c := batchv1.JobCondition{Type: t, Status: is, Reason: reason, Message: message, LastProbeTime: metav1.NewTime(p.now), LastTransitionTime: metav1.NewTime(p.now)}
	for i := range p.status.Conditions {
		if p.status.Conditions[i].Type == t {
			p.status.Conditions[i] = c
			return
		}
	}
	p.status.Conditions = append(p.status.Conditions, c)
}

// again asks for another look.
func (p *jobPlan) again(in time.Duration) {
	if p.after == 0 || in < p.after {
		p.after = max(in, time.Millisecond)
	}
}

// count writes the ends of pods down: by UID while they have the finalizer, as numbers when they have not. It returns the pod that fails the
// whole Job by its policy, if there is one.
func (p *jobPlan) count(pods []*corev1.Pod) (refused *refusal) {
	s := &p.status
	if s.UncountedTerminatedPods == nil {
		s.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	u := s.UncountedTerminatedPods
	held := map[types.UID]bool{}
	for _, pod := range pods {
		if tracked(pod) {
			held[pod.UID] = true
		}
	}
	settle := func(uids []types.UID, n *int32) []types.UID {
		kept := slices.DeleteFunc(uids, func(uid types.UID) bool { return !held[uid] })
		*n += int32(len(uids) - len(kept))
		if len(kept) == 0 {
			return nil
		}
		return kept
	}
	u.Succeeded, u.Failed = settle(u.Succeeded, &s.Succeeded), settle(u.Failed, &s.Failed)
	ends := p.finished
	if !p.replacesOnlyFailed() {
		ends = slices.Concat(ends, p.ending)
	}
	for _, pod := range ends {
		if !tracked(pod) {
			continue
		}
		p.counted = append(p.counted, pod)
		if slices.Contains(u.Succeeded, pod.UID) || slices.Contains(u.Failed, pod.UID) {
			continue
		}
		if pod.Status.Phase == corev1.PodSucceeded {
			if !p.indexed() {
				u.Succeeded = append(u.Succeeded, pod.UID)
			} else if i := indexOf(pod); i >= 0 && i < p.wantIndexes() && !p.failedAt[i] {
				p.completed[i] = true
			}
			continue
		}
		action, why := failurePolicy(p.job, pod)
		switch action {
		case batchv1.PodFailurePolicyActionIgnore:
			continue
		case batchv1.PodFailurePolicyActionFailJob:
			refused = &refusal{batchv1.JobReasonPodFailurePolicy, why}
		case batchv1.PodFailurePolicyActionFailIndex:
			p.failIndex(pod)
		default:
			if limit := p.job.Spec.BackoffLimitPerIndex; limit != nil && failuresOf(pod) > *limit {
				p.failIndex(pod)
			}
		}
		u.Failed = append(u.Failed, pod.UID)
	}
	if p.indexed() {
		p.completed.keepBelow(p.wantIndexes()) // of one that became smaller
		s.Succeeded, s.CompletedIndexes = int32(len(p.completed)), p.completed.String()
		if p.job.Spec.BackoffLimitPerIndex != nil {
			s.FailedIndexes = new(p.failedAt.String())
		}
	}
	return refused
}

func (p *jobPlan) failIndex(pod *corev1.Pod) {
	if i := indexOf(pod); i >= 0 && i < p.wantIndexes() && !p.completed[i] {
		p.failedAt[i] = true
	}
}

// failuresAnnotation of a pod is how often its index had failed before it.
const failuresAnnotation = batchv1.JobIndexFailureCountAnnotation

// failuresOf is how often a failed pod's index has failed, with it.
func failuresOf(pod *corev1.Pod) int32 {
	n, _ := strconv.ParseInt(pod.Annotations[failuresAnnotation], 10, 32)
	return int32(n) + 1
}

// refusal is why a Job fails.
type refusal struct{ reason, message string }

// succeeded and failed are the numbers with those that are written down by UID.
func (p *jobPlan) succeeded() int32 {
	if p.indexed() {
		return int32(len(p.completed))
	}
	return p.status.Succeeded + int32(len(p.status.UncountedTerminatedPods.Succeeded))
}

func (p *jobPlan) failed() int32 {
	return p.status.Failed + int32(len(p.status.UncountedTerminatedPods.Failed))
}

// decide ends the Job, or makes and removes pods.
func (p *jobPlan) decide(refused *refusal) {
	s := &p.status
	target, met := jobCondition(s, batchv1.JobFailureTarget), jobCondition(s, batchv1.JobSuccessCriteriaMet)
	if target == nil && met == nil {
		if refused == nil {
			refused = p.failure()
		}
		if refused != nil {
			p.set(batchv1.JobFailureTarget, corev1.ConditionTrue, refused.reason, refused.message)
		} else if reason, message := p.success(); reason != "" {
			p.set(batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, reason, message)
		}
		target, met = jobCondition(s, batchv1.JobFailureTarget), jobCondition(s, batchv1.JobSuccessCriteriaMet)
	}
	if target == nil && met == nil {
		p.manage()
		return
	}
	p.remove = p.active
	u := s.UncountedTerminatedPods
	if len(p.active)+len(p.evict)+len(p.ending)+len(u.Succeeded)+len(u.Failed)+len(p.counted) > 0 {
		return // their going brings us back
	}
	if target != nil {
		p.set(batchv1.JobFailed, corev1.ConditionTrue, target.Reason, target.Message)
		return
	}
	p.set(batchv1.JobComplete, corev1.ConditionTrue, met.Reason, met.Message)
	s.CompletionTime = &metav1.Time{Time: p.now}
}

// failure is why the Job has failed by its numbers or its time.
func (p *jobPlan) failure() *refusal {
	spec, s := p.job.Spec, p.status
	if limit := spec.BackoffLimit; limit != nil {
		restarts := int32(0)
		if spec.Template.Spec.RestartPolicy == corev1.RestartPolicyOnFailure {
			for _, pod := range p.active {
				for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
					restarts += c.RestartCount
				}
			}
		}
		if p.failed() > *limit || restarts > 0 && restarts >= max(*limit, 1) {
			return &refusal{batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit"}
		}
	}
	if d := spec.ActiveDeadlineSeconds; d != nil && s.StartTime != nil && !p.suspended() {
		left := s.StartTime.Add(time.Duration(*d) * time.Second).Sub(p.now)
		if left <= 0 {
			return &refusal{batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline"}
		}
		p.again(left)
	}
	if m := spec.MaxFailedIndexes; m != nil && len(p.failedAt) > int(*m) {
		return &refusal{batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes"}
	}
	if len(p.failedAt) > 0 && len(p.completed)+len(p.failedAt) >= p.wantIndexes() {
		return &refusal{batchv1.JobReasonFailedIndexes, "Job has failed indexes"}
	}
	return nil
}

// success is why the Job has succeeded; empty: not yet.
func (p *jobPlan) success() (reason, message string) {
	if policy := p.job.Spec.SuccessPolicy; policy != nil && p.indexed() {
		for i, rule := range policy.Rules {
			of := p.completed
			if rule.SucceededIndexes != nil {
				want := parseIndexes(*rule.SucceededIndexes, p.wantIndexes())
				of = maps.Clone(p.completed)
				maps.DeleteFunc(of, func(i int, _ bool) bool { return !want[i] })
				if rule.SucceededCount == nil && len(of) < len(want) {
					continue
				}
			}
			if rule.SucceededCount == nil || len(of) >= int(*rule.SucceededCount) {
				return batchv1.JobReasonSuccessPolicy, fmt.Sprintf("Matched rules at index %d", i)
			}
		}
	}
	done := false
	if n := p.job.Spec.Completions; n != nil {
		done = p.succeeded() >= *n
	} else { // a queue of work is empty when one pod has said so and the others have ended
		done = p.succeeded() > 0 && len(p.active)+len(p.ending) == 0
	}
	if !done {
		return "", ""
	}
	return batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods"
}

// manage makes as many pods active as should be.
func (p *jobPlan) manage() {
	if p.suspended() {
		p.remove = p.active
		return
	}
	want := int(deref(p.job.Spec.Parallelism))
	if n := p.job.Spec.Completions; n != nil {
		want = min(want, int(*n)-int(p.succeeded()))
	} else if p.succeeded() > 0 {
		want = min(want, len(p.active))
	}
	if most := len(p.active) + room(p.active); want > most {
		want, p.held = most, true
	}
	if p.indexed() {
		p.manageIndexes(want)
		return
	}
	if over := len(p.active) - want; over > 0 {
		pods := slices.Clone(p.active)
		rankForDeletion(pods, p.active)
		p.remove = pods[:over]
		return
	}
	short := want - len(p.active)
	if p.replacesOnlyFailed() {
		short -= len(p.ending)
	}
	if short <= 0 {
		return
	}
	failures, last := 0, time.Time{}
	for _, pod := range p.finished {
		if pod.Status.Phase == corev1.PodSucceeded {
			failures = 0
			continue
		}
		if action, _ := failurePolicy(p.job, pod); action != batchv1.PodFailurePolicyActionIgnore {
			failures, last = failures+1, endOfPod(pod)
		}
	}
	if p.rests(failures, last) {
		return
	}
	for range min(short, maxJobPods) {
		p.create = append(p.create, newJobPod(p.job, -1, 0))
	}
}

// rests reports whether to wait after so many failures, the last of which was then.
func (p *jobPlan) rests(failures int, last time.Time) bool {
	if failures == 0 {
		return false
	}
	wait := last.Add(min(jobRest<<min(failures-1, 10), jobRestMax)).Sub(p.now)
	if wait <= 0 {
		return false
	}
	p.again(wait)
	return true
}

// manageIndexes makes pods for the smallest indexes that have none, have not succeeded and have not failed for good.
func (p *jobPlan) manageIndexes(want int) {
	taken := indexes{}
	pods := slices.SortedFunc(slices.Values(p.active), func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(indexOf(a), indexOf(b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, pod := range pods {
		i := indexOf(pod)
		if i < 0 || i >= p.wantIndexes() || taken[i] || p.completed[i] || p.failedAt[i] || len(taken) >= want {
			p.remove = append(p.remove, pod)
			continue
		}
		taken[i] = true
	}
	n := len(taken)
	if p.replacesOnlyFailed() {
		for _, pod := range p.ending {
			taken[indexOf(pod)] = true
		}
	}
	failed := map[int]*corev1.Pod{} // the last of each index
	failures, last := 0, time.Time{}
	for _, pod := range p.finished {
		switch action, _ := failurePolicy(p.job, pod); {
		case pod.Status.Phase == corev1.PodSucceeded:
			failures = 0
		case action != batchv1.PodFailurePolicyActionIgnore:
			failed[indexOf(pod)] = pod
			failures, last = failures+1, endOfPod(pod)
		}
	}
	for i := 0; i < p.wantIndexes() && n < want && len(p.create) < maxJobPods; i++ {
		if taken[i] || p.completed[i] || p.failedAt[i] {
			continue
		}
		n++
		before := int32(0)
		if p.job.Spec.BackoffLimitPerIndex == nil {
			if p.rests(failures, last) {
				return
			}
		} else if pod := failed[i]; pod != nil {
			before = failuresOf(pod)
			if p.rests(int(before), endOfPod(pod)) {
				continue
			}
		}
		p.create = append(p.create, newJobPod(p.job, i, before))
	}
}

// tell fills in how many pods there are.
func (p *jobPlan) tell() {
	s := &p.status
	ready := int32(0)
	for _, pod := range p.active {
		if api.IsPodReady(pod) {
			ready++
		}
	}
	s.Active, s.Ready, s.Terminating = int32(len(p.active)), &ready, new(int32(len(p.ending)))
	if jobCondition(s, batchv1.JobComplete) != nil || jobCondition(s, batchv1.JobFailed) != nil {
		s.Active, s.Ready, s.Terminating = 0, new(int32), new(int32)
	}
}

// endOfPod is when a pod ended: with the last of its containers, or as far as is known.
func endOfPod(p *corev1.Pod) time.Time {
	var end time.Time
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if t := c.State.Terminated; t != nil && t.FinishedAt.After(end) {
			end = t.FinishedAt.Time
		}
	}
	if !end.IsZero() {
		return end
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionFalse {
			return c.LastTransitionTime.Time
		}
	}
	if p.DeletionTimestamp != nil {
		return p.DeletionTimestamp.Time
	}
	return p.CreationTimestamp.Time
}
