package keeper

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEntries(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 60, time.UTC)
	const at = "2030-01-02T03:04:05.000000060Z "
	long := strings.Repeat("x", maxLine)
	for name, row := range map[string]struct {
		in   []string
		ends bool
		want string
	}{
		"whole lines":              {in: []string{"a\nb\n"}, want: at + "stdout F a\n" + at + "stdout F b\n"},
		"an empty line":            {in: []string{"\n"}, want: at + "stdout F \n"},
		"a line in pieces":         {in: []string{"he", "ll", "o\n"}, want: at + "stdout F hello\n"},
		"no newline at the end":    {in: []string{"bye"}, ends: true, want: at + "stdout F bye\n"},
		"cut short":                {in: []string{"bye"}, want: at + "stdout P bye\n"},
		"nothing":                  {in: []string{""}, ends: true},
		"a line as long as may be": {in: []string{long + "\n"}, want: at + "stdout F " + long + "\n"},
		"a line that is too long":  {in: []string{long, "yz\n"}, want: at + "stdout P " + long + "\n" + at + "stdout F yz\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := framer{stream: streamOut}
			var out []byte
			for _, s := range row.in {
				out = f.add(out, []byte(s), now)
			}
			out = f.flush(out, row.ends, now)
			if d := cmp.Diff(row.want, string(out)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestLogRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pod", "0.log")
	l := &logFile{path: path, limit: 10, files: 3}
	for _, s := range []string{"one\n", "two\n", "three\n", "four\n", "five\n", "six\n", "seven\n", "eight\n"} {
		if err := l.write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	files, _ := filepath.Glob(path + "*")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		got[filepath.Base(f)] = string(b)
	}
	want := map[string]string{"0.log": "eight\n", "0.log.1": "six\nseven\n", "0.log.2": "four\nfive\n"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFullDiskDropsEntries(t *testing.T) {
	l := &logFile{path: "/dev/full", limit: 1 << 20, files: 2}
	for range 3 {
		if err := l.write([]byte("lost\n")); err == nil {
			t.Fatal("a full disk took an entry")
		}
	}
	if l.size != 0 {
		t.Errorf("size %d", l.size)
	}
}
