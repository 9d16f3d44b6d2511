package api

import (
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestYAMLThatAliasesBlowUp(t *testing.T) {
	big := `x: &a "` + strings.Repeat("x", 100_000) + "\"\n"
	laughs := "a0: &a0 [lol, lol]\n"
	for i := range 60 {
		laughs += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	for name, c := range map[string]struct {
		text string
		fits bool
	}{
		"no alias":                   {strings.Repeat("a: b & * c\n", 1000), true},
		"a few":                      {"a: &a {x: y}\nb: *a\nc: {<<: *a, z: 1}\n", true},
		"a long text, often":         {big + "l: [" + strings.Repeat("*a, ", 1000) + "]", false},
		"a long text, not too often": {big + "l: [" + strings.Repeat("*a, ", 25) + "]", true},
		"a list of lists":            {laughs, false},
		"one that contains itself":   {"a: &a [*a]", false},
		"no YAML":                    {"a: &a [*a", true}, // the decoder says so
		"an alias of nothing":        {"a: *b & c", true},
	} {
		err := CheckYAML([]byte(c.text))
		if (err == nil) != c.fits || err != nil && !apierrors.IsRequestEntityTooLargeError(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCheckYAML(f *testing.F) {
	f.Add([]byte("a: &a [x, y]\nb: [*a, *a]\n<<: *a\n"))
	f.Fuzz(func(_ *testing.T, data []byte) { _ = CheckYAML(data) })
}
