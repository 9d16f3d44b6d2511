package consensus

import (
	"encoding/binary"
	"fmt"

	"shoal/consensus/store"
)

// A command is one Txn: the version, the term, then the compares (count; length, key, mod), the operations (count; 0 to
// put, 1 to delete; length, key; to put: length, value) and the revision to compact, all numbers as uvarints.
const commandVersion = 1

const (
	opPut    = 0
	opDelete = 1
)

func encodeCommand(t store.Txn) []byte {
	size := 1 + 4*binary.MaxVarintLen64
	for _, c := range t.Compares {
		size += len(c.Key) + 2*binary.MaxVarintLen64
	}
	for _, o := range t.Ops {
		size += len(o.Key) + len(o.Value) + 1 + 2*binary.MaxVarintLen64
	}
	b := make([]byte, 0, size)
	b = append(b, commandVersion)
	b = binary.AppendUvarint(b, t.Term)
	b = binary.AppendUvarint(b, uint64(len(t.Compares)))
	for _, c := range t.Compares {
		b = binary.AppendUvarint(b, uint64(len(c.Key)))
		b = append(b, c.Key...)
		b = binary.AppendUvarint(b, uint64(c.Mod))
	}
	b = binary.AppendUvarint(b, uint64(len(t.Ops)))
	for _, o := range t.Ops {
		kind := byte(opPut)
		if o.Delete {
			kind = opDelete
		}
		b = append(b, kind)
		b = binary.AppendUvarint(b, uint64(len(o.Key)))
		b = append(b, o.Key...)
		if !o.Delete {
			b = binary.AppendUvarint(b, uint64(len(o.Value)))
			b = append(b, o.Value...)
		}
	}
	return binary.AppendUvarint(b, uint64(t.Compact))
}

// decodeCommand is strict: what it accepts, encodeCommand would write. Nothing of b is kept.
func decodeCommand(b []byte) (store.Txn, error) {
	if len(b) == 0 {
		return store.Txn{}, fmt.Errorf("%w: empty", ErrCommand)
	}
	if b[0] != commandVersion {
		return store.Txn{}, fmt.Errorf("%w: %d, this program knows only %d", ErrVersion, b[0], commandVersion)
	}
	d := decoder{rest: b[1:]}
	t := store.Txn{Term: d.number()}
	if n := d.count(2); n > 0 {
		t.Compares = make([]store.Compare, n)
	}
	for i := range t.Compares {
		t.Compares[i] = store.Compare{Key: store.Key(d.bytes()), Mod: store.Rev(d.number())}
	}
	if n := d.count(2); n > 0 {
		t.Ops = make([]store.Op, n)
	}
	for i := range t.Ops {
		t.Ops[i] = d.op()
	}
	t.Compact = store.Rev(d.number())
	if d.bad || len(d.rest) > 0 {
		return store.Txn{}, fmt.Errorf("%w: %d bytes", ErrCommand, len(b))
	}
	return t, nil
}

// decoder reads numbers and byte strings. After the first that is not there it is bad and gives zeros.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) number() uint64 {
	v, n := binary.Uvarint(d.rest)
	// A longer spelling of a number would make two commands of one.
	if n <= 0 || n > 1 && d.rest[n-1] == 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// count reads how many things follow, each of at least size bytes, so that a damaged count cannot allocate much.
func (d *decoder) count(size int) int {
	n := d.number()
	if n > uint64(len(d.rest)/size) {
		d.bad = true
		return 0
	}
	return int(n)
}

// bytes returns a part of the input: the caller copies it.
func (d *decoder) bytes() []byte {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) op() store.Op {
	if len(d.rest) == 0 {
		d.bad = true
		return store.Op{}
	}
	kind := d.rest[0]
	d.rest = d.rest[1:]
	o := store.Op{Key: store.Key(d.bytes()), Delete: kind == opDelete}
	switch kind {
	case opPut:
		o.Value = append([]byte{}, d.bytes()...)
	case opDelete:
	default:
		d.bad = true
	}
	return o
}
