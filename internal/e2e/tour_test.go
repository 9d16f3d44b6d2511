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
	for _, version := range []string{"1.20", "current"} {
		t.Run(version, func(t *testing.T) {
			takeTour(t, "testdata/tour/tour.txt", version, follower, map[string]string{"kubectl": "kubectl-" + version})
		})
	}
}

// TestHelm installs, upgrades, rolls back and uninstalls a chart with hooks at a follower, by Helm's command line and by its Go library.
func TestHelm(t *testing.T) {
	c := startLab(t, 3)
	shoal(t, "image", "import", filepath.Join(repo(), "build/images/busybox.tar"))
	follower := c.others(master(t))[0]
	for _, tool := range []string{"helm", "helm-library"} {
		t.Run(tool, func(t *testing.T) {
			takeTour(t, "testdata/helm/"+tool+".txt", "", follower, map[string]string{"kubectl": "kubectl-current", tool: tool})
		})
	}
}

// takeTour runs the commands of a file in its folder, with tools from build/tools under the names that the file knows.
func takeTour(t *testing.T, file, version, peer string, tools map[string]string) {
	shell := tourShell(t, filepath.Dir(file), peer, tools)
	if out, err := shell("kubectl create namespace tour"); err != nil {
		t.Fatal(err, out)
	}
	ran := 0
	for _, s := range tourSteps(t, file) {
		if s.only != "" && s.only != version {
			continue
		}
		ran++
		out, err := shell(s.command)
		if failed := err != nil; failed != s.fails {
			t.Errorf("%s:%d: %s: %v\n%s", file, s.line, s.command, err, out)
		} else if s.wants != nil && !s.wants.MatchString(strings.TrimRight(out, "\n")+"\n") {
			t.Errorf("%s:%d: %s\nsaid:\n%s\nwant:\n%s", file, s.line, s.command, out, s.text)
		}
	}
	t.Logf("%d commands", ran)
}

// tourShell returns what runs a command line in a folder and returns all that was said.
func tourShell(t *testing.T, dir, peer string, tools map[string]string) func(string) (string, error) {
	path := t.TempDir()
	for name, tool := range tools {
		if err := os.Symlink(filepath.Join(repo(), "build/tools", tool), filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
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
		cmd.Dir = dir
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

// tourSteps reads a tour; tour.txt's first lines explain its form.
func tourSteps(t *testing.T, file string) []tourStep {
	t.Helper()
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
