package api

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// MaxBody is how many bytes a request's body may have, as in Kubernetes, and a YAML document with all its aliases replaced by what they
// stand for.
const MaxBody = 3 << 20

// CheckYAML refuses a document that a few aliases make much larger than it looks. Decoders count the aliases, not the bytes. What is wrong
// otherwise they say themselves.
func CheckYAML(data []byte) error {
	if !bytes.ContainsRune(data, '&') || !bytes.ContainsRune(data, '*') {
		return nil
	}
	var doc yaml.Node
	if yaml.Unmarshal(data, &doc) != nil {
		return nil
	}
	sizes := sizes{}
	if sizes.of(&doc) > MaxBody {
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("its aliases make the YAML document longer than %d bytes: write out what they stand for, in several objects", MaxBody))
	}
	return nil
}

// sizes are those of nodes seen before, so that each is measured once.
type sizes map[*yaml.Node]int

// of returns how large a node is, or anything beyond MaxBody if it is larger than that or part of itself.
func (s sizes) of(n *yaml.Node) int {
	if size, ok := s[n]; ok {
		return size
	}
	s[n] = MaxBody + 1 // until it is known: nothing may contain itself
	size := len(n.Value) + 1
	if n.Alias != nil {
		size = s.of(n.Alias)
	}
	for _, c := range n.Content {
		if size += s.of(c); size > MaxBody {
			size = MaxBody + 1 // and no overflow
			break
		}
	}
	s[n] = size
	return size
}
