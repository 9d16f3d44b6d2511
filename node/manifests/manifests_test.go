package manifests

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// follow lets the directory be watched and returns a function that waits until its files are those.
func follow(t *testing.T, d *Directory) func(want ...string) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return func(want ...string) {
		t.Helper()
		late := time.After(20 * time.Second)
		for {
			files, changed, err := d.Files()
			if err == nil && slices.Equal(slices.Sorted(maps.Keys(files)), want) {
				return
			}
			select {
			case <-changed:
			case <-late:
				t.Fatalf("files %v, %v, want %v", slices.Sorted(maps.Keys(files)), err, want)
			}
		}
	}
}

func TestFilesAreSeenAsTheyComeAndGo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pods")
	d := New(dir, nil)
	if files, _, err := d.Files(); err != nil || len(files) > 0 {
		t.Errorf("before there is a directory: %v, %v", files, err)
	}
	wait := follow(t, d)
	_, changed, _ := d.Files()
	<-changed // it is there now
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("a.yaml", "a")
	put(".hidden", "h")
	wait("a.yaml")
	put("b.yaml", "b")
	wait("a.yaml", "b.yaml")
	if err := os.Rename(filepath.Join(dir, "b.yaml"), filepath.Join(dir, "c.yaml")); err != nil {
		t.Fatal(err)
	}
	wait("a.yaml", "c.yaml")
	t.Log("the directory goes and comes back")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	wait()
	for range 100 {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		_, changed, _ := d.Files()
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		}
	}
	put("d.yaml", "d")
	wait("d.yaml")
}

func TestWhatIsNoFileIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	d := New(dir, nil)
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "good"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if files, _, err := d.Files(); err != nil || len(files) != 1 || string(files["good"]) != "x" {
		t.Errorf("%v, %v", files, err)
	}
	if err := os.Truncate(filepath.Join(dir, "good"), most+1); err != nil {
		t.Fatal(err)
	}
	if files, _, err := d.Files(); err == nil || !strings.Contains(err.Error(), "good is longer") || len(files) != 0 {
		t.Errorf("%v, %v", slices.Collect(maps.Keys(files)), err)
	}
}
