package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"shoal/internal/api"
)

type logsCmd struct {
	Args       []string      `arg:"" optional:"" help:"POD, pod/NAME, deploy/NAME, rc/NAME, svc/NAME and the like."`
	Selector   string        `short:"l" help:"Label selector: the logs of every matching pod."`
	Container  string        `short:"c" help:"Container; needed when the pod has several."`
	Follow     bool          `short:"f" help:"Go on with what is written."`
	Previous   bool          `short:"p" help:"Of the run before the container's last restart."`
	Tail       int64         `default:"-1" help:"Only the last lines; -1 is all."`
	Since      time.Duration `help:"Only lines newer than this."`
	Timestamps bool          `help:"Put the time before each line."`
}

func (c logsCmd) Run(ctx context.Context, g *Globals, std streams) error {
	conn, err := g.connect()
	if err != nil {
		return err
	}
	pods, err := c.pods(ctx, g, conn)
	if err != nil {
		return err
	}
	if len(pods) == 1 {
		return c.one(ctx, g, conn, pods[0], std.out)
	}
	var (
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
	)
	for _, pod := range pods {
		wg.Go(func() {
			pr, pw := io.Pipe()
			go func() { pw.CloseWithError(c.one(ctx, g, conn, pod, pw)) }()
			lines := bufio.NewScanner(pr)
			for lines.Scan() {
				mu.Lock()
				fmt.Fprintf(std.out, "[%s] %s\n", pod, lines.Text())
				mu.Unlock()
			}
			if err := lines.Err(); err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("pod %s: %w", pod, err))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// pods resolves the arguments to pod names.
func (c logsCmd) pods(ctx context.Context, g *Globals, conn *conn) ([]string, error) {
	selector := c.Selector
	switch {
	case len(c.Args) == 0 && selector == "":
		return nil, usagef("whose logs? shoal logs POD, shoal logs rc/NAME or shoal logs -l app=web")
	case len(c.Args) > 0:
		kind := api.Pods
		name := c.Args[len(c.Args)-1]
		if len(c.Args) > 2 {
			return nil, usagef("logs of one pod at a time, or of all with -l SELECTOR")
		}
		targets, err := parseTargets(c.Args)
		if err == nil && targets[0].name != "" {
			kind, name = targets[0].kind, targets[0].name
		} else if len(c.Args) == 2 {
			return nil, err
		}
		if kind == api.Pods {
			return []string{name}, nil
		}
		if selector, err = selectorOf(ctx, g, conn, target{kind, name}); err != nil {
			return nil, err
		}
	}
	var list corev1.PodList
	q := url.Values{"labelSelector": {selector}}
	if err := conn.json(ctx, request{method: "GET", path: path(api.Pods, g.Namespace, ""), query: q}, &list); err != nil {
		return nil, err
	}
	var names []string
	for _, p := range list.Items {
		names = append(names, p.Name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no pods match %s in namespace %s", selector, g.Namespace)
	}
	return names, nil
}

// selectorOf returns the label selector of an object that has one: just labels, as ReplicationControllers and Services have it, or the
// newer form.
func selectorOf(ctx context.Context, g *Globals, conn *conn, t target) (string, error) {
	var o struct {
		Spec struct {
			Selector json.RawMessage `json:"selector"`
		} `json:"spec"`
	}
	if err := conn.json(ctx, request{method: "GET", path: path(t.kind, g.Namespace, t.name)}, &o); err != nil {
		return "", err
	}
	var plain map[string]string
	if json.Unmarshal(o.Spec.Selector, &plain) == nil && len(plain) > 0 {
		return labels.SelectorFromSet(plain).String(), nil
	}
	var newer metav1.LabelSelector
	if json.Unmarshal(o.Spec.Selector, &newer) == nil {
		if s, err := metav1.LabelSelectorAsSelector(&newer); err == nil && !s.Empty() {
			return s.String(), nil
		}
	}
	return "", fmt.Errorf("%s selects no pods", shown(t.kind, t.name))
}

func (c logsCmd) one(ctx context.Context, g *Globals, conn *conn, pod string, w io.Writer) error {
	q := url.Values{}
	set := func(key string, on bool, value string) {
		if on {
			q.Set(key, value)
		}
	}
	set("container", c.Container != "", c.Container)
	set("follow", c.Follow, "true")
	set("previous", c.Previous, "true")
	set("timestamps", c.Timestamps, "true")
	set("tailLines", c.Tail >= 0, strconv.FormatInt(c.Tail, 10))
	set("sinceSeconds", c.Since > 0, strconv.FormatInt(max(1, int64(c.Since.Seconds())), 10))
	resp, err := conn.do(ctx, request{method: "GET", path: path(api.Pods, g.Namespace, pod, "log"), query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	if ctx.Err() != nil {
		return nil
	}
	return err
}
