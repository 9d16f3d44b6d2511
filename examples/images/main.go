// Command images builds the example images into docker archives without any registry: Redis and a shell from Debian's
// packages, the guestbook's frontend and the tests' probe from this module's source. Run by "make images"; with -servers, the servers that
// everybody has, from Debian's packages. Run by "make servers".
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// image is one archive to build, of a Go package or of Debian's.
type image struct {
	file   string // below the output directory
	ref    string
	config v1.Config
	source string // Go package, built static and put at /app
	module string // directory of the module that names the package as a tool; empty: this one
	debian debian
	links  []string          // names of busybox, in /bin
	files  map[string]string // what else is in it
}

const busybox = "/bin/busybox"

func images() []image {
	return []image{
		{
			file: "redis.tar", ref: "shoal.local/redis:7",
			config: v1.Config{Entrypoint: []string{"/usr/bin/redis-server"}, WorkingDir: "/data", User: "10001:10001", Env: []string{"PATH=/usr/bin"}},
			debian: debian{packages: []string{"redis-server", "redis-tools"}, keep: []string{"/usr/bin/redis-server", "/usr/bin/redis-cli", "/usr/bin/redis-benchmark"}},
		},
		{
			file: "busybox.tar", ref: "shoal.local/busybox:1",
			config: v1.Config{Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}},
			debian: debian{packages: []string{"busybox-static"}, keep: []string{busybox}},
			links: []string{
				"sh", "cat", "cut", "date", "dd", "echo", "env", "grep", "head", "hostname", "id", "ls", "nc", "nslookup", "ps", "rm", "sleep", "stat", "tail", "tar", "test", "touch", "tr", "wget",
			},
		},
		{
			file: "guestbook.tar", ref: "shoal.local/guestbook:1",
			config: v1.Config{Entrypoint: []string{"/app"}, User: "10001:10001"},
			source: "./examples/guestbook/frontend",
		},
		{
			file: "probe.tar", ref: "shoal.local/probe:1",
			config: v1.Config{Entrypoint: []string{"/app"}},
			source: "./internal/e2e/probe",
		},
	}
}

func main() {
	out := flag.String("out", "build/images", "directory to write the archives to")
	more := flag.Bool("servers", false, "build what the tests run instead: PostgreSQL, MariaDB, nginx, memcached and Prometheus, each with its client, and a CSI driver")
	flag.Parse()
	list := images()
	if *more {
		list = servers()
	}
	if err := buildAll(context.Background(), list, *out); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func buildAll(ctx context.Context, list []image, out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, img := range list {
		path := filepath.Join(out, img.file)
		if img.source == "" {
			if _, err := os.Stat(path); err == nil {
				fmt.Println(img.ref, "is already at", path)
				continue
			}
		}
		if err := build(ctx, img, path); err != nil {
			return fmt.Errorf("build %s: %w", img.ref, err)
		}
		fmt.Println(img.ref, "written to", path)
	}
	return nil
}

func build(ctx context.Context, img image, path string) error {
	root, err := os.MkdirTemp("", "shoal-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	if img.source != "" {
		err = goBinary(ctx, img.module, img.source, filepath.Join(root, "app"))
	} else {
		err = fromDebian(ctx, root, img.debian)
	}
	if err != nil {
		return err
	}
	for _, link := range img.links {
		if err := os.Symlink(busybox, filepath.Join(root, "bin", link)); err != nil {
			return err
		}
	}
	for name, text := range img.files {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for dir, mode := range map[string]os.FileMode{"tmp": 0o777 | os.ModeSticky, "data": 0o777, "etc": 0o755, "proc": 0o755, "sys": 0o755, "dev": 0o755} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(root, dir), mode); err != nil {
			return err
		}
	}
	built, err := fromDirectory(root, img.config)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(img.ref)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := tarball.WriteToFile(tmp, tag, built); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func goBinary(ctx context.Context, module, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return cmd.Run()
}
