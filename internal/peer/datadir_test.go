package peer

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDataDirectoryIsHeldByOne(t *testing.T) {
	path := t.TempDir()
	d, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openDataDir(path); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a second peer on the directory: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := openDataDir(path)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	_ = again.Close()
}

func TestMemorySurvives(t *testing.T) {
	d, err := openDataDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, was, err := d.read(); was || err != nil {
		t.Errorf("an empty directory: %v %v", was, err)
	}
	want := memory{Name: "a", ClusterID: "c", Epoch: 2, Keys: [][]byte{{1, 2}}, Peers: map[string]string{"b": "10.0.0.2:7946"}}
	if err := d.write(want); err != nil {
		t.Fatal(err)
	}
	got, was, err := d.read()
	if diff := cmp.Diff(want, got); diff != "" || !was || err != nil {
		t.Errorf("%v %v %s", was, err, diff)
	}
	if err := os.WriteFile(d.join("peer.json"), []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.read(); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged file: %v", err)
	}
}

// TestADirectoryThatIsHeldForAMoment: a peer that is killed while it starts a program leaves a process that holds its directory a moment longer.
func TestADirectoryThatIsHeldForAMoment(t *testing.T) {
	dir := t.TempDir()
	first, err := openDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(lockWait/20, func() { _ = first.Close() })
	second, err := openDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := openDataDir(dir); err == nil || !strings.Contains(err.Error(), "another peer runs") {
		t.Errorf("two peers on one directory: %v", err)
	}
}
