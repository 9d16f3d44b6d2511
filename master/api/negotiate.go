package api

import (
	"mime"
	"slices"
	"strconv"
	"strings"

	shoalapi "shoal/internal/api"
)

const (
	mediaJSON  = shoalapi.MediaJSON
	mediaYAML  = shoalapi.MediaYAML
	mediaProto = shoalapi.MediaProtobuf
)

// shape is what is shown of objects.
type shape int

const (
	asObject shape = iota
	asTable
	asPartial   // PartialObjectMetadata, or a list of them
	asDiscovery // APIGroupDiscoveryList
)

// format is how an answer is written.
type format struct {
	media   string
	as      shape
	version string // of the group that a shape other than asObject is in
	pretty  bool
}

// accepts says which formats an endpoint offers.
type accepts struct {
	media  []string
	shapes []shape
	text   bool // objects have no protobuf form
}

func (a *accepts) String() string {
	return strings.Join(a.media, ", ")
}

var (
	objectFormats    = &accepts{media: []string{mediaJSON, mediaYAML, mediaProto}, shapes: []shape{asObject, asTable, asPartial}}
	watchFormats     = &accepts{media: []string{mediaJSON, mediaProto}, shapes: []shape{asObject, asTable, asPartial}}
	customFormats    = &accepts{media: objectFormats.media, shapes: objectFormats.shapes, text: true}
	customWatches    = &accepts{media: watchFormats.media, shapes: watchFormats.shapes, text: true}
	discoveryFormats = &accepts{media: []string{mediaJSON, mediaYAML, mediaProto}, shapes: []shape{asObject, asDiscovery}}
)

// negotiate picks the first format of an Accept header that a offers; false when there is none.
func negotiate(accept string, a *accepts) (format, bool) {
	switch accept {
	case "", "*/*", mediaJSON:
		return format{media: mediaJSON}, true
	case mediaProto:
		return format{media: mediaProto}, !a.text
	}
	type clause struct {
		f format
		q float64
	}
	var offered []clause
	for _, part := range strings.Split(accept, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		if media == "*/*" || media == "application/*" {
			media = mediaJSON
		}
		f := format{media: media, pretty: params["pretty"] == "1"}
		if !slices.Contains(a.media, media) || !f.setShape(params) || !slices.Contains(a.shapes, f.as) {
			continue
		}
		if media == mediaProto && (f.as == asTable || f.as == asObject && a.text) {
			continue // rows have cells of any type, which protobuf cannot carry
		}
		q := 1.0
		if v, err := strconv.ParseFloat(params["q"], 64); err == nil {
			q = v
		}
		offered = append(offered, clause{f, q})
	}
	if len(offered) == 0 {
		return format{}, false
	}
	slices.SortStableFunc(offered, func(a, b clause) int {
		switch {
		case a.q > b.q:
			return -1
		case a.q < b.q:
			return 1
		}
		return 0
	})
	return offered[0].f, true
}

// setShape understands the as, g and v parameters; false means a shape that is not known here.
func (f *format) setShape(params map[string]string) bool {
	as, group, version := params["as"], params["g"], params["v"]
	if as == "" {
		return true
	}
	f.version = version
	switch {
	case as == "Table" && group == "meta.k8s.io" && (version == "v1" || version == "v1beta1"):
		f.as = asTable
	case (as == "PartialObjectMetadata" || as == "PartialObjectMetadataList") && group == "meta.k8s.io" && (version == "v1" || version == "v1beta1"):
		f.as = asPartial
	case as == "APIGroupDiscoveryList" && group == "apidiscovery.k8s.io" && version == "v2":
		f.as = asDiscovery
	default:
		return false
	}
	return true
}
