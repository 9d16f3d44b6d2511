package store

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/google/btree"
)

// A snapshot is the magic, the format's version, then as uvarints the revision and the number of keys, then for each key
// in order: length, key, length, value, create, mod; and last the CRC-32C of all this, big endian. What was before follows it: see past.go.
const (
	magic   = "SHOALKV\n"
	version = 1
)

// ErrSnapshot means that a snapshot is damaged, cut off, or of a version this program does not know.
var ErrSnapshot = errors.New("unreadable snapshot")

// Image is the state at one revision, to be written at leisure while the store goes on.
type Image struct {
	view *view
	past past
}

// Capture returns the newest state, and the changes that led there last. It costs about as much as a few Gets.
func (s *Store) Capture() *Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Image{s.currentLocked(), s.pastLocked()}
}

// Rev returns the image's revision.
func (m *Image) Rev() Rev { return m.view.rev }

// Snapshot writes the newest state to w; Restore reads it.
func (s *Store) Snapshot(w io.Writer) error { return s.Capture().Write(w) }

// Write writes the image to w as a snapshot.
func (m *Image) Write(w io.Writer) error {
	if err := m.WriteState(w, func(_ Key, value []byte) ([]byte, error) { return value, nil }); err != nil {
		return err
	}
	return m.past.write(w)
}

// WriteState writes the image to w as a snapshot without a past, with what as makes of each value. An error of as ends it.
func (m *Image) WriteState(w io.Writer, as func(key Key, value []byte) ([]byte, error)) error {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	b := bufio.NewWriterSize(io.MultiWriter(w, sum), 1<<16)
	b.WriteString(magic)
	buf := make([]byte, 0, 4*binary.MaxVarintLen64)
	buf = append(buf, version)
	buf = binary.AppendUvarint(buf, uint64(m.view.rev))
	buf = binary.AppendUvarint(buf, uint64(m.view.live))
	b.Write(buf)
	var failed error
	m.view.each(func(e *entry) {
		value, err := as(e.key, e.value)
		if failed = cmp.Or(failed, err); failed != nil {
			return
		}
		buf = binary.AppendUvarint(buf[:0], uint64(len(e.key)))
		b.Write(buf)
		b.WriteString(string(e.key))
		buf = binary.AppendUvarint(buf[:0], uint64(len(value)))
		b.Write(buf)
		b.Write(value)
		buf = binary.AppendUvarint(buf[:0], uint64(e.create))
		buf = binary.AppendUvarint(buf, uint64(e.mod))
		b.Write(buf)
	})
	// A bufio.Writer remembers its first error.
	if err := cmp.Or(failed, b.Flush()); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := binary.Write(w, binary.BigEndian, sum.Sum32()); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// each calls f with the existing keys' newest versions, in order.
func (v *view) each(f func(*entry)) {
	v.tree.Ascend(func(it item) bool {
		if !it.head.deleted {
			f(it.head)
		}
		return true
	})
}

// Restore replaces everything by the snapshot in r, which ends with it. After an error, always an ErrSnapshot, the
// store is as before. The history begins where the snapshot's past does, so watches that were not there yet end with
// ErrCompacted.
func (s *Store) Restore(r io.Reader) error {
	tree := btree.NewG(degree, less)
	in := bufio.NewReaderSize(r, 1<<16)
	rev, err := read(in, tree)
	live := tree.Len()
	var h *history
	if err == nil {
		h, err = readPast(in, tree, rev)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.hist.Load()
	h.rewinds = old.rewinds
	switch {
	case rev < old.rev():
		h.rewinds++
		s.watches.reset(h.floor)
	case h.floor > old.rev():
		s.watches.reset(h.floor) // what was in between is not known here
	case h.floor > old.floor:
		s.watches.losing(old.entries[:h.floor-old.floor])
	}
	s.tree, s.live = tree, live
	s.hist.Store(h)
	s.view.Store(nil)
	s.reached.Advance(uint64(rev))
	s.watches.wakeAll()
	return nil
}

// Jump raises the revision by n without a change, and forgets the history: for a state which others may have taken further than
// this one ever went. What is written next then has a revision that nobody has seen, and watches and reads at a revision from before end
// with ErrCompacted.
func (s *Store) Jump(n Rev) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compactLocked(s.hist.Load().rev())
	h := s.hist.Load()
	h = &history{floor: h.rev() + n, rewinds: h.rewinds}
	s.watches.reset(h.floor)
	s.hist.Store(h)
	s.view.Store(nil)
	s.reached.Advance(uint64(h.floor))
	s.watches.wakeAll()
}

// summed reads and adds up what was read. Its first error stays, and reads then give zeros.
type summed struct {
	r   *bufio.Reader
	sum hash.Hash32
	one [1]byte
	err error
}

func read(r *bufio.Reader, tree *btree.BTreeG[item]) (Rev, error) {
	in := &summed{r: r, sum: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	head := in.bytes(uint64(len(magic) + 1))
	if in.err != nil {
		return 0, in.err
	}
	if string(head[:len(magic)]) != magic {
		return 0, errors.New("not a snapshot")
	}
	if v := head[len(magic)]; v != version {
		return 0, fmt.Errorf("version %d is not known here, only %d", v, version)
	}
	rev, count := Rev(in.number()), in.number()
	var last Key
	for i := uint64(0); i < count && in.err == nil; i++ {
		e := &entry{last: true}
		e.key = Key(in.bytes(in.number()))
		e.value = in.bytes(in.number())
		e.create, e.mod = Rev(in.number()), Rev(in.number())
		if in.err == nil && (i > 0 && e.key <= last || e.create > e.mod || e.mod > rev) {
			return 0, fmt.Errorf("impossible record %q", e.key)
		}
		last = e.key
		tree.ReplaceOrInsert(item{key: e.key, head: e})
	}
	want := in.sum.Sum32()
	got := in.bytes(4)
	if in.err != nil {
		return 0, in.err
	}
	if binary.BigEndian.Uint32(got) != want {
		return 0, errors.New("checksum does not match")
	}
	return rev, nil
}

func (in *summed) number() uint64 {
	if in.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(in)
	in.fail(err)
	return n
}

// ReadByte implements io.ByteReader for number.
func (in *summed) ReadByte() (byte, error) {
	c, err := in.r.ReadByte()
	if err == nil {
		in.one[0] = c
		in.sum.Write(in.one[:])
	}
	return c, err
}

// bytes reads n bytes, growing as they come: a damaged length must not allocate more than there is.
func (in *summed) bytes(n uint64) []byte {
	const step = 1 << 20
	out := []byte{}
	for in.err == nil && n > 0 {
		part := make([]byte, min(n, step))
		_, err := io.ReadFull(in.r, part)
		in.fail(err)
		n -= uint64(len(part))
		if len(out) == 0 {
			out = part
		} else {
			out = append(out, part...)
		}
	}
	in.sum.Write(out)
	return out
}

func (in *summed) fail(err error) {
	if err != nil && in.err == nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		in.err = err
	}
}
