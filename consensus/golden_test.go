package consensus

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"shoal/consensus/store"
)

var update = flag.Bool("update", false, "write testdata/directory.txt anew; only when no release has written the old one")

// golden is a directory that a peer of before left, as text: what was written must be read for ever.
const golden = "testdata/directory.txt"

// TestADirectoryOfBeforeIsRead opens what an earlier build wrote: a snapshot, entries behind it, members, history and all.
func TestADirectoryOfBeforeIsRead(t *testing.T) {
	if *update {
		write(t)
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unpack(text, dir); err != nil {
		t.Fatal(err)
	}
	for _, k1 := range []string{"10", "100"} { // and then what reopen wrote behind it
		reopen(t, dir, func(p *Peer) {
			for key, want := range map[store.Key]string{"k0": "12", "k1": k1, "k2": "11"} {
				if kv, _, err := p.Store().Get(key, 0); err != nil || string(kv.Value) != want {
					t.Errorf("%s is %q, want %s; %v", key, kv.Value, want, err)
				}
			}
			if !p.isMember("p2") || p.votes("p2") {
				t.Errorf("members are %v", p.members())
			}
			if kv, ok, err := p.Store().Get("binary", 0); err != nil || !ok || !bytes.Equal(kv.Value, every()) || kv.Create >= kv.Mod {
				t.Errorf("binary: %d bytes, made at %d, changed at %d, %v", len(kv.Value), kv.Create, kv.Mod, err)
			}
			if _, ok, err := p.Store().Get("deleted", 0); err != nil || ok {
				t.Errorf("what was deleted is there: %v", err)
			}
		})
	}
}

// every is each byte once.
func every() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// write makes the directory.
func write(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, stop, err := alone(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	do := func(txn store.Txn) {
		t.Helper()
		if err := insist(ctx, p, func() error { _, err := p.Propose(ctx, txn); return err }); err != nil {
			t.Fatal(err)
		}
	}
	do(putTxn("binary", "first"))
	do(putTxn("deleted", "x"))
	for i := 1; i <= 12; i++ {
		do(putTxn(fmt.Sprint("k", i%3), fmt.Sprint(i)))
		switch i {
		case 3:
			do(putTxn("binary", string(every())))
			if err := insist(ctx, p, func() error { return p.AddPeer(ctx, "p2") }); err != nil {
				t.Fatal(err)
			}
		case 6:
			if err := p.raft.Load().Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		case 9:
			do(store.Txn{Ops: []store.Op{{Key: "deleted", Delete: true}}})
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	text, err := pack(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(golden, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

const line = 32 // bytes of a file in a line of text

// pack writes the files below dir as text: "file NAME SIZE", then an offset and bytes for each piece that is not all zero.
func pack(dir string) ([]byte, error) {
	var text bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "file %s %d\n", name, len(b))
		for at := 0; at < len(b); at += line {
			if piece := b[at:min(at+line, len(b))]; len(bytes.Trim(piece, "\x00")) > 0 {
				fmt.Fprintf(&text, "%d %x\n", at, piece)
			}
		}
		return nil
	})
	return text.Bytes(), err
}

func unpack(text []byte, dir string) (err error) {
	var f *os.File
	defer func() {
		if f != nil {
			_ = f.Close()
		}
	}()
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		words := strings.Fields(s.Text())
		size, err := strconv.ParseInt(words[len(words)-1], 10, 64)
		if words[0] == "file" {
			if err != nil {
				return err
			}
			path := filepath.Join(dir, words[1])
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			if f != nil {
				_ = f.Close()
			}
			if f, err = os.Create(path); err != nil {
				return err
			}
			if err := f.Truncate(size); err != nil {
				return err
			}
			continue
		}
		at, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil {
			return err
		}
		b, err := hex.DecodeString(words[1])
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
	}
	return nil
}
