package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// needed are the programs a peer runs, with the Debian package that has them.
var needed = []struct{ program, pkg, why string }{
	{"containerd", "containerd", "holds the containers"},
	{"runc", "runc", "starts the containers"},
	{"containerd-shim-runc-v2", "containerd", "stays with the containers"},
	{"iptables-restore", "iptables", "programs the Services' addresses"},
	{"iptables-save", "iptables", "audits them"},
}

type doctorCmd struct {
	Security bool   `help:"Go through a checklist of the cluster's security instead, after the CIS Kubernetes Benchmark."`
	Output   string `short:"o" enum:"text,json" default:"text" help:"Of --security: text or json."`
}

// Run checks what this machine needs, one line each, and fails when something is missing.
func (c doctorCmd) Run(ctx context.Context, g *Globals, std streams) error {
	if c.Security {
		return security(ctx, g, std, c.Output)
	}
	failed := false
	say := func(name string, err error) {
		verdict := "ok"
		if err != nil {
			verdict, failed = err.Error(), true
		}
		fmt.Fprintf(std.out, "%-26s %s\n", name, verdict)
	}
	say("root", checkRoot())
	for _, n := range needed {
		say(n.program, checkProgram(n.program, n.pkg, n.why, searchPath(os.Getenv("PATH"))))
	}
	say("overlayfs", checkListed("/proc/filesystems", "overlay", "the kernel has no overlayfs: containers' file systems need it"))
	say("cgroups", checkListed("/proc/mounts", "cgroup", "no cgroup file system is mounted"))
	if failed {
		return silentError{exitFailed}
	}
	return nil
}

// checkMachine is the doctor's verdict as one error, for commands that cannot work otherwise.
func checkMachine() error {
	return errors.Join(checkRoot(), checkPrograms(searchPath(os.Getenv("PATH"))))
}

// checkPrograms names what is missing from path, and the command that installs all of it.
func checkPrograms(path string) error {
	var missing, pkgs []string
	for _, n := range needed {
		if checkProgram(n.program, n.pkg, n.why, path) == nil {
			continue
		}
		missing = append(missing, n.program)
		if !slices.Contains(pkgs, n.pkg) {
			pkgs = append(pkgs, n.pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("missing: %s; install with: apt-get install -y --no-install-recommends %s",
		strings.Join(missing, ", "), strings.Join(pkgs, " "))
}

func checkRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("a peer makes namespaces, containers and rules: run it as root (sudo shoal …)")
	}
	return nil
}

// checkProgram looks for a program in the directories of path.
func checkProgram(program, pkg, why, path string) error {
	for _, dir := range filepath.SplitList(path) {
		if info, err := os.Stat(filepath.Join(dir, program)); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return nil
		}
	}
	return fmt.Errorf("missing (%s); install with: apt-get install -y --no-install-recommends %s", why, pkg)
}

// searchPath is a PATH with the directories of the system's programs: a shell of su has it without them.
func searchPath(path string) string {
	dirs := filepath.SplitList(path)
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(dirs, string(filepath.ListSeparator))
}

func checkListed(file, word, problem string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !strings.Contains(string(b), word) {
		return errors.New(problem)
	}
	return nil
}
