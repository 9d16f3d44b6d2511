package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// debian is what an image takes from Debian's packages.
type debian struct {
	packages []string // with all that they depend on
	without  []string // but these, which are large and are not asked for anything here
	keep     []string // patterns: programs, with every library they load, and directories, as a whole
}

// fromDebian unpacks the packages into a scratch directory and copies what is to be kept below root.
func fromDebian(ctx context.Context, root string, d debian) error {
	scratch, err := os.MkdirTemp("", "shoal-debian-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if err := os.Chmod(scratch, 0o777); err != nil { // apt drops privileges to download
		return err
	}
	if err := download(ctx, scratch, d); err != nil {
		// A fresh machine has no list of packages, or an old one.
		if _, err := run(ctx, "", "apt-get", "update", "-q"); err != nil {
			return fmt.Errorf("update the list of packages: %w", err)
		}
		if err := download(ctx, scratch, d); err != nil {
			return err
		}
	}
	debs, err := filepath.Glob(filepath.Join(scratch, "*.deb"))
	if err != nil {
		return err
	}
	tree := filepath.Join(scratch, "tree")
	for _, deb := range debs {
		if _, err := run(ctx, "", "dpkg", "-x", deb, tree); err != nil {
			return fmt.Errorf("unpack %s: %w", filepath.Base(deb), err)
		}
	}
	return keep(tree, root, d.keep)
}

// download puts the packages into dir, and what they depend on, whatever of it this machine has installed.
func download(ctx context.Context, dir string, d debian) error {
	nothing := filepath.Join(dir, "installed")
	if err := os.WriteFile(nothing, nil, 0o644); err != nil {
		return err
	}
	list, err := run(ctx, dir, "apt-get", append([]string{
		"install", "--print-uris", "-qq", "--no-install-recommends", "-o", "Dir::State::status=" + nothing, "-o", "Dir::Cache::archives=" + dir,
	}, d.packages...)...)
	if err != nil {
		return fmt.Errorf("ask what %v depend on: %w", d.packages, err)
	}
	get := []string{"download", "-q"}
	for line := range strings.Lines(list) { // 'URI' NAME_VERSION_ARCH.deb SIZE SUM
		if f := strings.Fields(line); len(f) > 1 {
			if name, _, _ := strings.Cut(f[1], "_"); !slices.Contains(d.without, name) {
				get = append(get, name)
			}
		}
	}
	if _, err := run(ctx, dir, "apt-get", get...); err != nil {
		return fmt.Errorf("download packages: %w", err)
	}
	return nil
}

// run returns what a program prints.
func run(ctx context.Context, dir, program string, args ...string) (string, error) {
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stderr = dir, &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, errs.Bytes())
	}
	return string(out), nil
}

// libraryDirs are where Debian keeps shared libraries, in the order they are looked up.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64", "/lib"}

// keep copies what the patterns match from tree to root; of an ELF file that is kept also its interpreter and, transitively, its libraries.
func keep(tree, root string, patterns []string) error {
	var todo []string
	for _, p := range patterns {
		found, err := filepath.Glob(filepath.Join(tree, p))
		if err != nil || len(found) == 0 {
			return fmt.Errorf("%s: nothing of that name is in the packages (%w)", p, err)
		}
		for _, f := range found {
			err := filepath.WalkDir(f, func(path string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					todo = append(todo, strings.TrimPrefix(path, tree))
				}
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	done := map[string]bool{}
	for len(todo) > 0 {
		file := todo[0]
		todo = todo[1:]
		if done[file] {
			continue
		}
		done[file] = true
		needs, err := keepFile(tree, root, file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
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

// keepFile copies one file, a link as what it leads to, and returns the libraries it loads. A link that leads to a package that is not had is left out.
func keepFile(tree, root, file string) (needs []string, err error) {
	from, to := filepath.Join(tree, file), filepath.Join(root, file)
	if link, err := os.Readlink(from); err == nil && filepath.IsAbs(link) {
		from = filepath.Join(tree, link)
	}
	data, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		if needs, err = elfNeeds(data); err != nil {
			return nil, err
		}
	}
	info, err := os.Stat(from)
	if err != nil {
		return nil, err
	}
	mode := info.Mode().Perm()
	if len(needs) > 0 { // Debian's libraries cannot be executed, the interpreter among them
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return nil, err
	}
	return needs, os.WriteFile(to, data, mode)
}

func elfNeeds(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
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
