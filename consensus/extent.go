package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// extent remembers beside the log how far it reaches. raft-wal takes whatever it cannot read for the end of its newest file: a damaged byte
// there would cost everything after it, without a word, and with it the promise that what was acknowledged is on a majority's disks.
//
// It is written after the log, and not synced: a crash of the machine can only make it older, so it is never beyond what the log had. It is
// lowered, and that is synced, before the log is cut. Its form is the index, 8 bytes, and their CRC-32C, all big endian.
type extent struct {
	file *os.File
	last uint64 // as it stood there when it was opened
}

// openExtent opens it; what is not there, or not readable, promises nothing.
func openExtent(path string) (*extent, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log's extent: %w", err)
	}
	e := &extent{file: f}
	var b [12]byte
	if _, err := f.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(fmt.Errorf("read the log's extent: %w", err), f.Close())
	}
	if n := binary.BigEndian.Uint64(b[:]); crc32.Checksum(b[:8], castagnoli) == binary.BigEndian.Uint32(b[8:]) {
		e.last = n
	}
	return e, nil
}

// raise notes the index of the log's last entry. If that cannot be written, what stands there promises less, and is still true.
func (e *extent) raise(last uint64) { _ = e.set(last) }

func (e *extent) set(last uint64) error {
	var b [12]byte
	binary.BigEndian.PutUint64(b[:], last)
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[:8], castagnoli))
	if _, err := e.file.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("write the log's extent: %w", err)
	}
	return nil
}

// lower notes that the log is about to be cut.
func (e *extent) lower(last uint64) error {
	if err := e.set(last); err != nil {
		return err
	}
	return e.file.Sync()
}

// check compares it with a log that has just been opened.
func (e *extent) check(last uint64) error {
	if last < e.last {
		return fmt.Errorf("the log ends after entry %d and had %d: %w", last, e.last, ErrDamaged)
	}
	return nil
}

// Close lets go of the file.
func (e *extent) Close() error { return e.file.Close() }
