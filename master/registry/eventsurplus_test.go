package registry

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLevelled(t *testing.T) {
	for _, tc := range []struct {
		sizes []int
		n     int
		want  []int
	}{
		{[]int{10}, 3, []int{3}},
		{[]int{10, 2}, 8, []int{8}},
		{[]int{10, 2}, 9, []int{9, 0}},
		{[]int{10, 2}, 10, []int{9, 1}},
		{[]int{10, 8, 8, 1}, 2, []int{2}},
		{[]int{10, 8, 8, 1}, 3, []int{3, 0, 0}},
		{[]int{10, 8, 8, 1}, 6, []int{4, 1, 1}},
		{[]int{5, 5}, 3, []int{2, 1}},
		{[]int{3, 2}, 9, []int{3, 2}},
		{nil, 9, nil},
	} {
		if diff := cmp.Diff(tc.want, levelled(tc.sizes, tc.n)); diff != "" {
			t.Errorf("%d off %v: %s", tc.n, tc.sizes, diff)
		}
	}
}
