package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Hash returns a digest of the revision and of every existing key with its value and revisions. It does not depend on
// how the state was reached or how much history is left: equal digests mean that every read of the newest state is
// answered alike.
func (s *Store) Hash() string {
	v := s.current()
	h := sha256.New()
	buf := binary.AppendUvarint(nil, uint64(v.rev))
	v.each(func(e *entry) {
		buf = binary.AppendUvarint(buf, uint64(len(e.key)))
		buf = append(buf, e.key...)
		buf = binary.AppendUvarint(buf, uint64(len(e.value)))
		buf = append(buf, e.value...)
		buf = binary.AppendUvarint(buf, uint64(e.create))
		buf = binary.AppendUvarint(buf, uint64(e.mod))
		h.Write(buf)
		buf = buf[:0]
	})
	h.Write(buf)
	return hex.EncodeToString(h.Sum(nil))
}
