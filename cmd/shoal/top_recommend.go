package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// What is recommended, as by Kubernetes' Vertical Pod Autoscaler: of CPU what was enough nine times in ten, of memory the most that was used, and
// 15 % more of each, but no less than this.
const (
	enoughCPU    = 0.9
	margin       = 1.15
	leastMilli   = 25
	leastMemory  = 32 << 20 // VPA's 250 MiB is for all containers of a pod, whatever they do
	betweenLooks = time.Second
)

// advice is what the containers of one name of one owner's pods should request.
type advice struct {
	Namespace string `json:"namespace"`
	Owner     string `json:"owner"`
	Container string `json:"container"`
	Pods      int    `json:"pods"`
	Samples   int    `json:"samples"`
	// Now is what one requests, empty for nothing.
	CPUNow    string `json:"cpuRequest,omitempty"`
	MemoryNow string `json:"memoryRequest,omitempty"`
	CPU       string `json:"cpu"`
	Memory    string `json:"memory"`

	milli, bytes []int64
	seen         map[string]bool
}

// recommend watches what pods use, and says what they should request.
func (c topCmd) recommend(ctx context.Context, m *meter, std streams) error {
	pods, err := m.podObjects(ctx)
	if err != nil {
		return err
	}
	all := map[string]*advice{}
	end := time.Now().Add(c.For)
	fmt.Fprintf(std.err, "watching for %v; more is known after a day of work than after a minute of rest\n", c.For)
	for looks := 0; looks == 0 || time.Now().Before(end); looks++ {
		usage, err := m.podUsage(ctx)
		if err != nil && looks > 0 && errors.Is(err, context.Canceled) {
			break // interrupted: what was seen until now is said
		}
		if err != nil {
			return err
		}
		for i := range usage {
			sample(all, &usage[i], pods[usage[i].Namespace+"/"+usage[i].Name])
		}
		select {
		case <-time.After(min(betweenLooks, time.Until(end))):
		case <-ctx.Done():
			end = time.Now()
		}
	}
	var lines []*advice
	for _, a := range all {
		a.decide()
		lines = append(lines, a)
	}
	slices.SortFunc(lines, func(a, b *advice) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Owner, b.Owner), strings.Compare(a.Container, b.Container))
	})
	if c.Output == "json" {
		return encode(std.out, lines)
	}
	if len(lines) == 0 {
		fmt.Fprintln(std.err, "No resources found.")
		return nil
	}
	return printAdvice(std.out, lines, c.All)
}

// sample takes one of each container of a pod.
func sample(all map[string]*advice, u *metricsv1beta1.PodMetrics, p *corev1.Pod) {
	if p == nil {
		return // it came after we began
	}
	owner := "pod/" + p.Name
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		owner = strings.ToLower(ref.Kind) + "/" + ref.Name
	}
	for _, used := range u.Containers {
		i := slices.IndexFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == used.Name })
		if i < 0 {
			continue
		}
		key := strings.Join([]string{p.Namespace, owner, used.Name}, " ")
		a := all[key]
		if a == nil {
			a = &advice{Namespace: p.Namespace, Owner: owner, Container: used.Name, seen: map[string]bool{}}
			if q, ok := p.Spec.Containers[i].Resources.Requests[corev1.ResourceCPU]; ok {
				a.CPUNow = q.String()
			}
			if q, ok := p.Spec.Containers[i].Resources.Requests[corev1.ResourceMemory]; ok {
				a.MemoryNow = q.String()
			}
			all[key] = a
		}
		if !a.seen[p.Name] {
			a.seen[p.Name] = true
			a.Pods++
		}
		a.Samples++
		a.milli = append(a.milli, used.Usage.Cpu().MilliValue())
		a.bytes = append(a.bytes, used.Usage.Memory().Value())
	}
}

// decide works out what to request from the samples.
func (a *advice) decide() {
	slices.Sort(a.milli)
	cpu := a.milli[min(int(enoughCPU*float64(len(a.milli))), len(a.milli)-1)]
	a.CPU = cores(max(leastMilli, int64(float64(cpu)*margin+.5)))
	a.Memory = mebibytes(max(leastMemory, int64(float64(slices.Max(a.bytes))*margin)))
}

func printAdvice(out io.Writer, lines []*advice, all bool) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	head := "OWNER\tCONTAINER\tPODS\tSAMPLES\tCPU REQUEST\tBETTER\tMEMORY REQUEST\tBETTER"
	if all {
		head = "NAMESPACE\t" + head
	}
	fmt.Fprintln(w, head)
	for _, a := range lines {
		if all {
			fmt.Fprintf(w, "%s\t", a.Namespace)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", a.Owner, a.Container, a.Pods, a.Samples, cmp.Or(a.CPUNow, "-"), a.CPU, cmp.Or(a.MemoryNow, "-"), a.Memory)
	}
	return w.Flush()
}
