package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// watchFile tells, on a channel of capacity one, when the file at path may have grown or been replaced. The channel is
// closed when nothing more can be told. stop must be called.
func watchFile(path string) (grown <-chan struct{}, stop func(), err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("watch log: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	dir := filepath.Dir(path)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_DELETE_SELF); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("watch %s: %w", dir, err), f.Close())
	}
	out := make(chan struct{}, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(out)
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			if err != nil || n <= 0 {
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	})
	return out, func() {
		_ = f.Close() // ends the Read
		reader.Wait()
	}, nil
}
