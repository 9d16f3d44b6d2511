package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Document is a document ready to be sent.
type Document struct {
	media string
	hash  string // of the body
	gz    []byte // the body; nearly every client takes it like this
	size  int    // of the body
}

func hashOf(body []byte) string {
	sum := sha256.Sum256(body)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// ServeHTTP sends the document, or 304 to a client that has it. A query that names its hash makes the answer one to keep for
// ever.
func (d *Document) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Vary", "Accept, Accept-Encoding")
	h.Set("ETag", strconv.Quote(d.hash))
	h.Set("Cache-Control", "no-cache, private")
	if asked := r.URL.Query().Get("hash"); asked == d.hash {
		h.Set("Cache-Control", "public, immutable, max-age=31536000")
	}
	if d.isKnown(r.Header.Get("If-None-Match")) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", d.media)
	packed := strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
	if packed {
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.Itoa(len(d.gz)))
	} else {
		h.Set("Content-Length", strconv.Itoa(d.size))
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	if packed {
		_, _ = w.Write(d.gz) // the client may be gone
		return
	}
	if zr, err := gzip.NewReader(bytes.NewReader(d.gz)); err == nil {
		_, _ = io.Copy(w, zr)
	}
}

func (d *Document) isKnown(tags string) bool {
	for tag := range strings.SplitSeq(tags, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == "*" || tag == strconv.Quote(d.hash) {
			return true
		}
	}
	return false
}
