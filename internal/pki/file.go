package pki

import (
	"io"
	"os"
	"path/filepath"

	"shoal/internal/atomicfile"
)

// WriteFile replaces a file so that a crash leaves the old content or the new, whole. It makes missing directories, for their
// owner alone.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
