package keeper

import (
	"encoding/json"
	"os"

	"shoal/node/runtime/proc"
)

func writeIdentity(path string) error {
	p, err := proc.Of(os.Getpid())
	if err != nil {
		return err
	}
	return writeFile(path, p)
}

func readIdentity(path string) (proc.ID, error) {
	var p proc.ID
	b, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(b, &p)
}
