//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestGuestbookOutlivesTheMaster runs the three-tier example under Pod Security's strictest standard, kills the Master's machine, and asks for the page all along.
func TestGuestbookOutlivesTheMaster(t *testing.T) {
	c := startLab(t, 3)
	shoal(t, "image", "import", filepath.Join(repo(), "build/images/redis.tar"), filepath.Join(repo(), "build/images/guestbook.tar"))
	shoal(t, "label", "ns", "default", "pod-security.kubernetes.io/enforce=restricted")
	shoal(t, "apply", "-f", filepath.Join(repo(), "examples/guestbook/guestbook.yaml"))
	for app, n := range map[string]int{"guestbook": 3, "redis": 3} {
		running(t, c.api, app, n, 60*time.Second)
	}
	vip := shoal(t, "get", "svc", "frontend", "-o", "jsonpath={.spec.clusterIP}")
	from := c.others(master(t))[0]
	curl := func(ctx context.Context, args ...string) (string, error) {
		return tryShoal(ctx, append([]string{"lab", "exec", from, "--", "curl", "-sS", "--fail", "--max-time", "3"}, args...)...)
	}
	signed := func(text string) {
		t.Helper()
		within(t, 30*time.Second, "sign", func(ctx context.Context) error {
			_, err := curl(ctx, "--data-urlencode", "message="+text, "http://"+vip+"/messages")
			return err
		})
		within(t, 30*time.Second, "read back "+text, func(ctx context.Context) error {
			out, err := curl(ctx, "http://"+vip+"/messages")
			if err == nil && !strings.Contains(out, text) {
				err = fmt.Errorf("answer %s", out)
			}
			return err
		})
	}
	signed("before the Master dies")
	victim := master(t)
	shoal(t, "lab", "kill", victim)
	signed("after the Master died")
	living := clientFor(t, c.others(victim)...)
	for app, n := range map[string]int{"guestbook": 3, "redis": 3} {
		running(t, living, app, n, 20*time.Second, victim)
	}
	signed("after all is well again")
}
