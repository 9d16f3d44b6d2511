package server

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestFilesAreThoseOfOneMoment lists a log while it is rotated: no file may be missed, met twice or come too early.
func TestFilesAreThoseOfOneMoment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	const kept = 4
	put := func(n int) {
		if err := os.WriteFile(path, []byte(strconv.Itoa(n)), 0o600); err != nil {
			t.Error(err)
		}
	}
	name := func(i int) string {
		if i == 0 {
			return path
		}
		return path + "." + strconv.Itoa(i)
	}
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		for n := range 1000 {
			for i := kept - 1; i > 0; i-- {
				if err := os.Rename(name(i-1), name(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
			put(n)
			<-time.After(200 * time.Microsecond)
		}
	}()
	for newest := 0; ; {
		list, err := files(path)
		if err != nil {
			t.Fatal(err)
		}
		var numbers []int
		for _, f := range list {
			b, err := io.ReadAll(f)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := strconv.Atoi(string(b)); err == nil { // the newest may be empty yet
				numbers = append(numbers, n)
			}
		}
		closeAll(list)
		for i := range numbers {
			if i > 0 && numbers[i] != numbers[i-1]+1 {
				t.Fatalf("files %v", numbers)
			}
		}
		if n := len(numbers); n > 0 {
			if numbers[n-1] < newest {
				t.Fatalf("files %v, after %d was there", numbers, newest)
			}
			newest = numbers[n-1]
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// TestAFarNumberIsAFileLikeAnother: somebody's own rotation names files by their date.
func TestAFarNumberIsAFileLikeAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	for i, suffix := range []string{".9223372036854775806", ".20260101", ".1", ".gz", ""} {
		write(t, path+suffix, entries(i, i+1))
	}
	list, err := files(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(list)
	var got []string
	for _, f := range list {
		got = append(got, filepath.Ext(f.Name()))
	}
	if want := []string{".9223372036854775806", ".20260101", ".1", ".log"}; !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
}

// TestWhatWasRemovedIsReadToItsEnd: a file is removed before its last entries were read.
func TestWhatWasRemovedIsReadToItsEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	var got bytes.Buffer
	c := newCopier(&got, logOptions{tail: -1, limit: -1})
	defer c.close()
	for _, step := range []func(){
		func() { write(t, path, entries(0, 2)) },
		func() {
			write(t, path, entries(2, 3))
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			write(t, path, entries(3, 4))
		},
		func() { _ = os.Remove(path) },
	} {
		step()
		if err := c.catchUp(path); err != nil {
			t.Fatal(err)
		}
	}
	if want := lines(0, 4); got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
}
