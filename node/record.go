package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// record is what the node keeps of a pod across its own restarts, besides what the runtime holds. It lets a peer without
// an API go on. The API's object, once seen, counts for more.
type record struct {
	Pod      *corev1.Pod       `json:"pod"` // as accepted last, with the status given last
	Accepted time.Time         `json:"accepted"`
	Final    *corev1.PodStatus `json:"final,omitempty"`
	// Env is what each container was started with last: what it is started with again while the API does not answer.
	Env map[string][]string `json:"env,omitempty"`
}

const recordFile = "pod.json"

// save replaces the record below dir as a whole. Losing the last one in a power cut is harmless: the runtime's containers
// do not survive that either.
func (r *record) save(dir string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	path := filepath.Join(dir, recordFile)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// loadRecords reads every record below root. What cannot be read is logged and left to be found useless.
func loadRecords(root string, log *slog.Logger) map[types.UID]*record {
	out := map[types.UID]*record{}
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("pods of an earlier life not read", "err", err)
	}
	for _, e := range entries {
		uid := types.UID(e.Name())
		r := &record{}
		b, err := os.ReadFile(filepath.Join(root, e.Name(), recordFile))
		if err == nil {
			err = json.Unmarshal(b, r)
		}
		if err == nil && (r.Pod == nil || r.Pod.UID != uid) {
			err = errors.New("it is another pod's")
		}
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				log.Warn("record of a pod not read", "uid", uid, "err", err)
			}
			// Its directory is still to be cleared, once the API says that nobody wants it.
			r = &record{Pod: &corev1.Pod{}}
			r.Pod.UID = uid
		}
		out[uid] = r
	}
	return out
}
