package backup

import (
	"io"

	"filippo.io/age"

	"shoal/internal/atomicfile"
)

// WriteFile replaces a file, wholly or not at all, by an encrypted one of what write writes, which only its owner may read.
func WriteFile(path string, to []age.Recipient, write func(io.Writer) error) error {
	return atomicfile.Write(path, 0o600, func(w io.Writer) error {
		out, err := Encrypt(w, to...)
		if err != nil {
			return err
		}
		if err := write(out); err != nil {
			return err
		}
		return out.Close()
	})
}
