package controller

import (
	"math"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// pace is what one autoscaler has recommended and done lately. A new Master begins with what it finds as its first
// recommendation, as a restarted kube-controller-manager does: it takes a whole window before it scales down.
type pace struct {
	recommended []moment // how many replicas the metrics asked for
	done        []moment // by how many the number was changed
}

type moment struct {
	at       time.Time
	replicas int32
}

// forget drops what is older than any window or period of the rules.
func (p *pace) forget(rules behavior, now time.Time) {
	longest := max(rules.up.window, rules.down.window)
	for _, r := range [...]rate{rules.up, rules.down} {
		for _, policy := range r.policies {
			longest = max(longest, period(policy))
		}
	}
	old := func(m moment) bool { return now.Sub(m.at) > longest }
	p.recommended = slices.DeleteFunc(p.recommended, old)
	p.done = slices.DeleteFunc(p.done, old)
}

// behavior is how fast replicas may become more and fewer.
type behavior struct{ up, down rate }

type rate struct {
	window   time.Duration // over which the most cautious recommendation counts
	choose   autoscalingv2.ScalingPolicySelect
	policies []autoscalingv2.HPAScalingPolicy
}

// behaviorOf is what the autoscaler says, or Kubernetes' default: down within five minutes' lowest need, up at once, by at most double
// or four, whichever is more, every 15 s.
func behaviorOf(a *autoscalingv2.HorizontalPodAutoscaler) behavior {
	all := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15}
	few := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15}
	out := behavior{
		up:   rate{choose: autoscalingv2.MaxChangePolicySelect, policies: []autoscalingv2.HPAScalingPolicy{few, all}},
		down: rate{window: scaleDownWindow, choose: autoscalingv2.MaxChangePolicySelect, policies: []autoscalingv2.HPAScalingPolicy{all}},
	}
	if b := a.Spec.Behavior; b != nil {
		out.up.set(b.ScaleUp)
		out.down.set(b.ScaleDown)
	}
	return out
}

func (r *rate) set(rules *autoscalingv2.HPAScalingRules) {
	if rules == nil {
		return
	}
	if w := rules.StabilizationWindowSeconds; w != nil {
		r.window = time.Duration(*w) * time.Second
	}
	if rules.SelectPolicy != nil {
		r.choose = *rules.SelectPolicy
	}
	if rules.Policies != nil {
		r.policies = rules.Policies
	}
}

func period(p autoscalingv2.HPAScalingPolicy) time.Duration {
	return time.Duration(p.PeriodSeconds) * time.Second
}

// stabilize notes a recommendation and returns the most cautious one of late, with the condition's reason and words for it.
func (p *pace) stabilize(b behavior, current, wanted int32, now time.Time) (n int32, reason, message string) {
	up, down := wanted, wanted
	for _, r := range p.recommended {
		if age := now.Sub(r.at); age <= b.up.window {
			up = min(up, r.replicas)
		}
		if age := now.Sub(r.at); age <= b.down.window {
			down = max(down, r.replicas)
		}
	}
	p.recommended = append(p.recommended, moment{now, wanted})
	n = min(max(current, up), down)
	switch {
	case wanted > current && n != wanted:
		return n, "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"
	case wanted < current && n != wanted:
		return n, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"
	}
	return n, "ReadyForNewScale", "recommended size matches current size"
}

// limit keeps a number within the autoscaler's bounds and the rates, with the reason if it does not fit.
func (p *pace) limit(b behavior, a *autoscalingv2.HorizontalPodAutoscaler, current, wanted int32, now time.Time) (n int32, reason, message string) {
	least, most := deref(a.Spec.MinReplicas), a.Spec.MaxReplicas
	switch {
	case wanted > current:
		bound := max(current, p.bound(b.up, current, now, 1))
		if bound < most && wanted > bound {
			return bound, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"
		}
		if wanted > most {
			return most, "TooManyReplicas", "the desired replica count is more than the maximum replica count"
		}
	case wanted < current:
		bound := min(current, p.bound(b.down, current, now, -1))
		if bound > least && wanted < bound {
			return bound, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"
		}
		if wanted < least {
			return least, "TooFewReplicas", "the desired replica count is less than the minimum replica count"
		}
	case wanted > most:
		return most, "TooManyReplicas", "the desired replica count is more than the maximum replica count"
	case wanted < least:
		return least, "TooFewReplicas", "the desired replica count is less than the minimum replica count"
	}
	return wanted, "", ""
}

// bound is how far the policies let the number go in a direction: 1 up, -1 down.
func (p *pace) bound(r rate, current int32, now time.Time, way float64) int32 {
	if r.choose == autoscalingv2.DisabledPolicySelect {
		return current
	}
	var bounds []int32
	for _, policy := range r.policies {
		start := float64(current) // at the beginning of the period
		for _, d := range p.done {
			if now.Sub(d.at) < period(policy) {
				start -= float64(d.replicas)
			}
		}
		to := start + way*float64(policy.Value)
		if policy.Type == autoscalingv2.PercentScalingPolicy {
			to = start * (1 + way*float64(policy.Value)/100)
			if way > 0 {
				to = math.Ceil(to)
			}
		}
		bounds = append(bounds, atMostInt32(max(0, to)))
	}
	if len(bounds) == 0 {
		return current
	}
	if (way > 0) == (r.choose == autoscalingv2.MaxChangePolicySelect) {
		return slices.Max(bounds)
	}
	return slices.Min(bounds)
}
