package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// redisPackages are redis-server and the packages of the libraries it loads, on Debian 12.
var redisPackages = []string{
	"redis-server", "redis-tools", "libc6", "libatomic1", "libgcc-s1", "libhiredis0.14", "libjemalloc2", "liblua5.1-0", "liblzf1", "libssl3",
	"libsystemd0", "lua-bitop", "lua-cjson", "libstdc++6", "libcap2", "libgcrypt20", "libgpg-error0", "liblz4-1", "liblzma5", "libzstd1",
}

// fromDebian unpacks the packages into a scratch directory and copies program and its libraries below root.
func fromDebian(ctx context.Context, root string, packages []string, program string) error {
	scratch, err := os.MkdirTemp("", "shoal-debian-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if err := os.Chmod(scratch, 0o777); err != nil { // apt drops privileges to download
		return err
	}
	if err := download(ctx, scratch, packages); err != nil {
		// A fresh machine has no list of packages, or an old one.
		update := exec.CommandContext(ctx, "apt-get", "update", "-q")
		if out, err := update.CombinedOutput(); err != nil {
			return fmt.Errorf("update the list of packages: %w: %s", err, out)
		}
		if err := download(ctx, scratch, packages); err != nil {
			return err
		}
	}
	debs, err := filepath.Glob(filepath.Join(scratch, "*.deb"))
	if err != nil {
		return err
	}
	tree := filepath.Join(scratch, "tree")
	for _, deb := range debs {
		if out, err := exec.CommandContext(ctx, "dpkg", "-x", deb, tree).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w: %s", filepath.Base(deb), err, out)
		}
	}
	return copyClosure(tree, root, program)
}

func download(ctx context.Context, dir string, packages []string) error {
	get := exec.CommandContext(ctx, "apt-get", append([]string{"download", "-q"}, packages...)...)
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		return fmt.Errorf("download packages: %w: %s", err, out)
	}
	return nil
}

// libraryDirs are where Debian keeps shared libraries, in the order they are looked up.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64", "/lib"}

// copyClosure copies an ELF program, its interpreter and, transitively, its libraries from tree to root.
func copyClosure(tree, root, program string) error {
	todo, done := []string{program}, map[string]bool{}
	for len(todo) > 0 {
		file := todo[0]
		todo = todo[1:]
		if done[file] {
			continue
		}
		done[file] = true
		needs, err := elfNeeds(filepath.Join(tree, file))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		data, err := os.ReadFile(filepath.Join(tree, file))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(file)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, file), data, 0o755); err != nil {
			return err
		}
		for _, need := range needs {
			path, err := findLibrary(tree, need)
			if err != nil {
				return fmt.Errorf("%s needs %s: %w", file, need, err)
			}
			todo = append(todo, path)
		}
	}
	return nil
}

func elfNeeds(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	needs, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	if s := f.Section(".interp"); s != nil {
		b, err := s.Data()
		if err != nil {
			return nil, err
		}
		needs = append(needs, string(b[:len(b)-1]))
	}
	return needs, nil
}

func findLibrary(tree, lib string) (string, error) {
	if filepath.IsAbs(lib) {
		if _, err := os.Stat(filepath.Join(tree, lib)); err == nil {
			return lib, nil
		}
		lib = filepath.Base(lib)
	}
	for _, dir := range libraryDirs {
		if _, err := os.Stat(filepath.Join(tree, dir, lib)); err == nil {
			return filepath.Join(dir, lib), nil
		}
	}
	return "", errors.New("not in any of the packages")
}
