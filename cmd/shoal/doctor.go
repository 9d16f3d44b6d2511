package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
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

type doctorCmd struct{}

// Run checks what this machine needs, one line each, and fails when something is missing.
func (doctorCmd) Run(std streams) error {
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
		say(n.program, checkProgram(n.program, n.pkg, n.why))
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
	errs := []error{checkRoot()}
	var missing []string
	for _, n := range needed {
		if checkProgram(n.program, n.pkg, n.why) != nil && !contains(missing, n.pkg) {
			missing = append(missing, n.pkg)
		}
	}
	if len(missing) > 0 {
		errs = append(errs, fmt.Errorf("missing: %s; install with: apt-get install -y --no-install-recommends %s",
			strings.Join(missing, ", "), strings.Join(missing, " ")))
	}
	return errors.Join(errs...)
}

func checkRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("a peer makes namespaces, containers and rules: run it as root (sudo shoal …)")
	}
	return nil
}

func checkProgram(program, pkg, why string) error {
	if _, err := exec.LookPath(program); err == nil {
		return nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/local/sbin/"} {
		if _, err := os.Stat(dir + program); err == nil {
			return nil
		}
	}
	return fmt.Errorf("missing (%s); install with: apt-get install -y --no-install-recommends %s", why, pkg)
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

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
