package placement

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Between these sizes, in bytes, an image that is there counts for more the bigger it is; kube-scheduler has the same.
const (
	smallImage = 23 << 20
	bigImage   = 1000 << 20
)

// imageName is how an image is called on Nodes: with its tag.
func imageName(name string) string {
	if strings.LastIndexByte(name, ':') <= strings.LastIndexByte(name, '/') {
		name += ":latest"
	}
	return name
}

func imagesOf(o *corev1.Node) map[string]int64 {
	if len(o.Status.Images) == 0 {
		return nil
	}
	out := make(map[string]int64, len(o.Status.Images))
	for _, i := range o.Status.Images {
		for _, name := range i.Names {
			out[name] = i.SizeBytes
		}
	}
	return out
}

// local is how much of p's images n has already. What few nodes have counts for less, or all would go to those.
func (c *Cluster) local(p *Pod, n *Node) int64 {
	if len(n.images) == 0 || len(p.images) == 0 {
		return 0
	}
	var sum int64
	for _, name := range p.images {
		if size, ok := n.images[name]; ok {
			sum += size * int64(c.images[name]) / int64(max(len(c.order), 1))
		}
	}
	most := int64(bigImage * len(p.images))
	return best * (min(max(sum, smallImage), most) - smallImage) / (most - smallImage)
}
