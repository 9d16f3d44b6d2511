package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/google/btree"
)

// After a snapshot's state comes its past: the newest changes, so that watches go on at a peer that was started again, or was
// given the snapshot because it had been away. Programs from before that read the state and stop there. It is pastMagic, then as
// uvarints the revision after which it begins and the number of changes, then each change: flags, length, key, and unless it is a deletion
// length, value; create; and if flagged the version before the first change of the key: mod, create, length, value. Last the CRC-32C of all
// this, big endian.
const pastMagic = "SHOALPST"

// How much of the past is kept: newest changes, and bytes of their values.
const (
	pastMax   = 2048
	pastBytes = 8 << 20
)

const (
	flagDeleted = 1 << iota
	flagLast
	flagBefore // the version before the change is told, and is not a deletion
)

// past is the newest part of a history, with what each of its changes replaced as long as that is known.
type past struct {
	floor  Rev
	events []*entry
	before []*entry // by event; nil when the key did not exist, or the version is an event of the past itself
}

// pastLocked takes the newest changes. It begins with a whole Txn. Caller holds mu, so that no compaction cuts what it looks at.
func (s *Store) pastLocked() past {
	h := s.hist.Load()
	from, size := len(h.entries), 0
	for from > 0 && len(h.entries)-from < pastMax && size < pastBytes {
		from--
		size += len(h.entries[from].value)
	}
	for from > 0 && from < len(h.entries) && !h.entries[from-1].last {
		from++
	}
	p := past{floor: h.floor + Rev(from), events: h.entries[from:]}
	p.before = make([]*entry, len(p.events))
	for i, e := range p.events {
		if b := e.prev.Load(); b != nil && b.mod <= p.floor && !b.deleted {
			p.before[i] = b
		}
	}
	return p
}

func (p past) write(w io.Writer) error {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	b := bufio.NewWriterSize(io.MultiWriter(w, sum), 1<<16)
	b.WriteString(pastMagic)
	number := func(n uint64) { b.Write(binary.AppendUvarint(nil, n)) }
	text := func(t []byte) {
		number(uint64(len(t)))
		b.Write(t)
	}
	number(uint64(p.floor))
	number(uint64(len(p.events)))
	for i, e := range p.events {
		flags := byte(0)
		if e.deleted {
			flags |= flagDeleted
		}
		if e.last {
			flags |= flagLast
		}
		if p.before[i] != nil {
			flags |= flagBefore
		}
		b.Write([]byte{flags})
		text([]byte(e.key))
		if !e.deleted {
			text(e.value)
		}
		number(uint64(e.create))
		if before := p.before[i]; before != nil {
			number(uint64(before.mod))
			number(uint64(before.create))
			text(before.value)
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := binary.Write(w, binary.BigEndian, sum.Sum32()); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// readPast reads the past of a state at rev into its tree. A snapshot without one has a history that begins with the state.
func readPast(r *bufio.Reader, tree *btree.BTreeG[item], rev Rev) (*history, error) {
	if _, err := r.Peek(1); errors.Is(err, io.EOF) {
		return &history{floor: rev}, nil
	}
	in := &summed{r: r, sum: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	if head := in.bytes(uint64(len(pastMagic))); in.err == nil && string(head) != pastMagic {
		return nil, errors.New("what follows the state is not its past")
	}
	h := &history{floor: Rev(in.number())}
	count := in.number()
	if in.err == nil && (h.floor > rev || uint64(rev-h.floor) != count) {
		return nil, errors.New("the past does not lead to the state")
	}
	newest := map[Key]*entry{}
	for i := uint64(0); i < count && in.err == nil; i++ {
		e, err := readChange(in, h.floor+Rev(i)+1, newest)
		if err != nil {
			return nil, err
		}
		h.entries = append(h.entries, e)
	}
	want := in.sum.Sum32()
	got := in.bytes(4)
	if in.err != nil {
		return nil, in.err
	}
	if binary.BigEndian.Uint32(got) != want {
		return nil, errors.New("checksum of the past does not match")
	}
	return h, merge(tree, newest)
}

func readChange(in *summed, mod Rev, newest map[Key]*entry) (*entry, error) {
	flags := in.bytes(1)
	if in.err != nil {
		return nil, in.err
	}
	e := &entry{mod: mod, deleted: flags[0]&flagDeleted != 0, last: flags[0]&flagLast != 0}
	e.key = Key(in.bytes(in.number()))
	if !e.deleted {
		e.value = in.bytes(in.number())
	}
	e.create = Rev(in.number())
	prev := newest[e.key]
	if flags[0]&flagBefore != 0 {
		if prev != nil {
			return nil, fmt.Errorf("two pasts of %q", e.key)
		}
		prev = &entry{key: e.key, mod: Rev(in.number()), create: Rev(in.number()), last: true}
		prev.value = in.bytes(in.number())
	}
	if in.err == nil && (e.create > mod || prev != nil && prev.mod >= mod) {
		return nil, fmt.Errorf("impossible change of %q", e.key)
	}
	if prev != nil {
		e.prev.Store(prev)
	}
	newest[e.key] = e
	return e, in.err
}

// merge makes the past's newest versions of keys the tree's, which has equal ones, and adds those that were deleted.
func merge(tree *btree.BTreeG[item], newest map[Key]*entry) error {
	for key, e := range newest {
		it, found := tree.Get(item{key: key})
		switch {
		case found == e.deleted, found && it.head.mod != e.mod:
			return fmt.Errorf("state and past of %q differ", key)
		}
		tree.ReplaceOrInsert(item{key: key, head: e})
	}
	return nil
}
