//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"shoal/internal/lab"
)

// TestKubectl types the tour at a follower, with a kubectl of long ago and with the current one.
func TestKubectl(t *testing.T) {
	c := startLab(t, 3)
	shoal(t, "image", "import", filepath.Join(repo(), "build/images/busybox.tar"))
	follower := c.others(master(t))[0]
	steps := tourSteps(t)
	for _, version := range []string{"1.20", "current"} {
		t.Run(version, func(t *testing.T) {
			shell := tourShell(t, filepath.Join(repo(), "build/tools", "kubectl-"+version), follower)
			if out, err := shell("kubectl create namespace tour"); err != nil {
				t.Fatal(err, out)
			}
			ran := 0
			for _, s := range steps {
				if s.only != "" && s.only != version {
					continue
				}
				ran++
				out, err := shell(s.command)
				if failed := err != nil; failed != s.fails {
					t.Errorf("tour.txt:%d: %s: %v\n%s", s.line, s.command, err, out)
				} else if s.wants != nil && !s.wants.MatchString(strings.TrimRight(out, "\n")+"\n") {
					t.Errorf("tour.txt:%d: %s\nsaid:\n%s\nwant:\n%s", s.line, s.command, out, s.text)
				}
			}
			t.Logf("%d commands", ran)
		})
	}
}

// tourShell returns what runs a command line in the folder of the tour, with bin as kubectl. It returns all that was said.
func tourShell(t *testing.T, bin, peer string) func(string) (string, error) {
	path := t.TempDir()
	if err := os.Symlink(bin, filepath.Join(path, "kubectl")); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(lab.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(path, "kubeconfig")
	if err := os.WriteFile(kubeconfig, config, 0o600); err != nil {
		t.Fatal(err)
	}
	shell := func(line string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-c", line)
		cmd.Dir = "testdata/tour"
		cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "PATH="+path+":"+os.Getenv("PATH"), "HOME="+path)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := shell("kubectl config use-context " + peer + " && kubectl config set-context --current --namespace=tour"); err != nil {
		t.Fatal(err, out)
	}
	// A kubeconfig that says where the cluster is, but not who asks.
	if out, err := shell("kubectl config view --raw --minify >$HOME/nobody && kubectl --kubeconfig=$HOME/nobody config unset users"); err != nil {
		t.Fatal(err, out)
	}
	return shell
}

// tourStep is one command of the tour.
type tourStep struct {
	line    int
	only    string // the kubectl that is meant
	command string
	fails   bool
	text    string
	wants   *regexp.Regexp // nil: anything
}

// tourSteps reads the tour, whose first lines explain its form.
func tourSteps(t *testing.T) []tourStep {
	t.Helper()
	const file = "testdata/tour/tour.txt"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`^(?:\[([^\]]+)\] )?([$!]) (.*)$`)
	var steps []tourStep
	for i, line := range strings.Split(string(b), "\n") {
		switch m := command.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "#"):
		case m != nil:
			steps = append(steps, tourStep{line: i + 1, only: m[1], fails: m[2] == "!", command: m[3]})
		case line != "" && len(steps) > 0:
			steps[len(steps)-1].text += line + "\n"
		case line != "":
			t.Fatalf("%s:%d: no command above", file, i+1)
		}
	}
	for i := range steps {
		if s := &steps[i]; s.text != "" {
			s.wants = tourPattern(s.text)
		}
	}
	return steps
}

// tourPattern makes "*" match within a line, "..." any lines, and the blanks between columns any number of blanks.
func tourPattern(text string) *regexp.Regexp {
	var p strings.Builder
	p.WriteString("^")
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "..." {
			p.WriteString(`(?:[^\n]*\n)*?`)
			continue
		}
		line = regexp.QuoteMeta(strings.TrimRight(line, " "))
		line = regexp.MustCompile(`\s\s+`).ReplaceAllString(line, `\s+`)
		fmt.Fprintf(&p, "%s[ ]*\n", strings.ReplaceAll(line, `\*`, `[^\n]*`))
	}
	p.WriteString("$")
	return regexp.MustCompile(p.String())
}
