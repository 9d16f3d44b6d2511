package backup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"
)

// WriteFile writes an encrypted file of what write writes, readable by its owner only. It replaces what was there once all of the new
// file is on the disk, and leaves no half of one.
func WriteFile(path string, to []age.Recipient, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write a backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write the backup %s: %w", path, err), os.Remove(f.Name()))
		}
	}()
	err = encrypted(f, to, write)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func encrypted(f io.Writer, to []age.Recipient, write func(io.Writer) error) error {
	out, err := Encrypt(f, to...)
	if err != nil {
		return err
	}
	if err := write(out); err != nil {
		return err
	}
	return out.Close()
}
