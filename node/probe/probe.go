// Package probe asks containers how they are: by HTTP, a TCP connection, gRPC, or a command that the caller runs. It
// keeps the count; what follows from an answer is the caller's to decide.
package probe

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Config describes one probe of one container.
type Config struct {
	Spec *corev1.Probe
	// Started is when the container started: the initial delay counts from there.
	Started time.Time
	Now     func() time.Time
	// Good is what is believed before the first answer.
	Good bool
	// Check asks once. It must end when its context does.
	Check func(ctx context.Context) error
	// Changed is told when enough answers in a row say otherwise than was believed. It returns false to end the probe.
	Changed func(good bool, err error) bool
	// Failed is told of every bad answer; nil for nobody.
	Failed func(err error)
}

// Run probes until ctx ends, or Changed returns false.
func Run(ctx context.Context, c Config) {
	period := time.Duration(max(1, c.Spec.PeriodSeconds)) * time.Second
	timeout := time.Duration(max(1, c.Spec.TimeoutSeconds)) * time.Second
	first := c.Started.Add(time.Duration(c.Spec.InitialDelaySeconds) * time.Second)
	timer := time.NewTimer(max(0, first.Sub(c.Now())))
	defer timer.Stop()
	good, row := c.Good, int32(0) // row: answers in a row that say otherwise
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		begun := c.Now()
		err := ask(ctx, c.Check, timeout)
		if ctx.Err() != nil {
			return
		}
		if err != nil && c.Failed != nil {
			c.Failed(err)
		}
		if (err == nil) == good {
			row = 0
		} else {
			row++
		}
		need := c.Spec.FailureThreshold
		if err == nil {
			need = c.Spec.SuccessThreshold
		}
		if row >= max(1, need) {
			good, row = !good, 0
			if !c.Changed(good, err) {
				return
			}
		}
		timer.Reset(max(0, begun.Add(period).Sub(c.Now())))
	}
}

func ask(ctx context.Context, check func(context.Context) error, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return check(ctx)
}
