//go:build !amd64

package crash

import (
	"errors"
	"os/exec"
)

func trace(*exec.Cmd, int) (bool, error) { return false, errors.ErrUnsupported }
