package consensus

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// entryCodec writes a log entry as uvarints and byte strings: index, term, type, nanoseconds, what was known to be
// committed, data, extensions.
type entryCodec struct {
	staged atomic.Uint64 // committed index written with the next entries
	seen   atomic.Uint64 // committed index of the entry decoded last
}

// ID implements wal.Codec. Another format needs another number.
func (c *entryCodec) ID() uint64 { return wal.FirstExternalCodecID + 1 }

// Encode implements wal.Codec.
func (c *entryCodec) Encode(l *raft.Log, w io.Writer) error {
	var nanos uint64
	if !l.AppendedAt.IsZero() {
		nanos = uint64(l.AppendedAt.UnixNano())
	}
	b := make([]byte, 0, 7*binary.MaxVarintLen64+len(l.Data)+len(l.Extensions))
	for _, n := range []uint64{l.Index, l.Term, uint64(l.Type), nanos, c.staged.Load(), uint64(len(l.Data))} {
		b = binary.AppendUvarint(b, n)
	}
	b = append(b, l.Data...)
	b = binary.AppendUvarint(b, uint64(len(l.Extensions)))
	b = append(b, l.Extensions...)
	_, err := w.Write(b)
	return err
}

// Decode implements wal.Codec. It keeps nothing of b.
func (c *entryCodec) Decode(b []byte, l *raft.Log) error {
	d := decoder{rest: b}
	*l = raft.Log{Index: d.number(), Term: d.number(), Type: raft.LogType(d.number())}
	if nanos := d.number(); nanos != 0 {
		l.AppendedAt = time.Unix(0, int64(nanos))
	}
	c.seen.Store(d.number())
	l.Data = append([]byte(nil), d.bytes()...)
	l.Extensions = append([]byte(nil), d.bytes()...)
	if d.bad || len(d.rest) > 0 {
		return fmt.Errorf("damaged log entry of %d bytes", len(b))
	}
	return nil
}
