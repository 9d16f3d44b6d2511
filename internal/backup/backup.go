// Package backup is the form of a backup's file: an age file (age-encryption.org/v1), so that age's own tools open it, too, in which a
// line of JSON says what it is and the store's snapshot follows. Encryption detects every changed or missing byte. It does no I/O but
// on the readers and writers it is given.
package backup

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"
)

// Header says what a backup is of.
type Header struct {
	Format    int       `json:"shoalBackup"` // of what follows; 1
	ClusterID string    `json:"clusterID"`
	Epoch     uint64    `json:"epoch"`
	Peer      string    `json:"peer"` // whose replica it is
	Revision  uint64    `json:"revision"`
	Time      time.Time `json:"time"` // by the peer's clock
	Version   string    `json:"version"`
}

const format = 1

// maxHeader bounds a header's line.
const maxHeader = 64 << 10

// WriteHeader writes the line that a backup begins with.
func WriteHeader(w io.Writer, h Header) error {
	h.Format = format
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// ReadHeader reads that line and returns a reader of what follows it.
func ReadHeader(r io.Reader) (Header, io.Reader, error) {
	in := bufio.NewReaderSize(r, maxHeader)
	line, err := in.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
		return Header{}, nil, fmt.Errorf("read the backup: %w", err)
	}
	var h Header
	if err != nil || json.Unmarshal(line, &h) != nil || h.Format == 0 {
		return Header{}, nil, errors.New("this is no backup of Shoal's")
	}
	if h.Format != format {
		return Header{}, nil, fmt.Errorf("the backup has format %d and this program knows only %d: use the version that made it, %s", h.Format, format, h.Version)
	}
	return h, in, nil
}

// Encrypt returns a writer of an encrypted file. It must be closed for the file to be whole.
func Encrypt(w io.Writer, to ...age.Recipient) (io.WriteCloser, error) {
	out, err := age.Encrypt(w, to...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return out, nil
}

// Decrypt returns a reader of what an encrypted file holds.
func Decrypt(r io.Reader, with ...age.Identity) (io.Reader, error) {
	out, err := age.Decrypt(r, with...)
	var no *age.NoIdentityMatchError
	switch {
	case errors.As(err, &no):
		return nil, errors.New("the passphrase or key is not the one that the backup was made with")
	case err != nil:
		return nil, errors.New("this is not a backup, or its beginning is damaged") // why, age would say with the file's own words
	}
	return out, nil
}

// Recipients reads public keys, as age-keygen prints them.
func Recipients(keys []string) ([]age.Recipient, error) {
	var all []age.Recipient
	for _, k := range keys {
		r, err := age.ParseX25519Recipient(strings.TrimSpace(k))
		if err != nil {
			return nil, fmt.Errorf("recipient %q is not a public key: write one that begins with age1, from age-keygen", k)
		}
		all = append(all, r)
	}
	return all, nil
}

// Passphrase returns both sides of a passphrase. Using one takes about a second, which is what makes guessing slow.
func Passphrase(file []byte) (age.Recipient, age.Identity, error) {
	text := string(bytes.TrimRight(file, "\r\n"))
	if len(text) < 8 {
		return nil, nil, fmt.Errorf("the passphrase has %d characters; use at least 8", len(text))
	}
	to, err := age.NewScryptRecipient(text)
	if err != nil {
		return nil, nil, err
	}
	with, err := age.NewScryptIdentity(text)
	return to, with, err
}

// Identities reads private keys from what age-keygen wrote.
func Identities(file []byte) ([]age.Identity, error) {
	all, err := age.ParseIdentities(bytes.NewReader(file))
	if err != nil {
		return nil, errors.New("the file holds no private key that begins with AGE-SECRET-KEY-1, as age-keygen writes it")
	}
	return all, nil
}
