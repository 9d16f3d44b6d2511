package api

import (
	"testing"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Kubernetes: of several default classes the newest counts, and of those of one second the first by name.
func TestDefaultStorageClass(t *testing.T) {
	class := func(name, says string, made int) *storagev1.StorageClass {
		return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{
			Name: name, CreationTimestamp: metav1.Unix(int64(made), 0), Annotations: map[string]string{AnnDefaultClass: says},
		}}
	}
	for want, classes := range map[string][]*storagev1.StorageClass{
		"":  {class("a", "false", 9), class("b", "", 9)},
		"a": {class("a", "true", 1), class("b", "false", 9)},
		"c": {class("b", "true", 1), class("c", "true", 3), class("a", "true", 2)},
		"d": {class("e", "true", 3), class("d", "true", 3), class("f", "true", 3)},
	} {
		got := ""
		if c := DefaultStorageClass(classes); c != nil {
			got = c.Name
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if DefaultStorageClass([]Object{class("a", "true", int(time.Now().Unix()))}) == nil {
		t.Error("none of a list of objects")
	}
}
