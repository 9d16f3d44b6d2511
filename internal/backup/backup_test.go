package backup

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

func file(t *testing.T, to age.Recipient, body string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := Encrypt(&out, to)
	if err != nil {
		t.Fatal(err)
	}
	h := Header{ClusterID: "c", Peer: "p", Revision: 7, Time: time.Unix(1, 0), Version: "v"}
	if err := WriteHeader(w, h); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(data []byte, with age.Identity) (Header, string, error) {
	plain, err := Decrypt(bytes.NewReader(data), with)
	if err != nil {
		return Header{}, "", err
	}
	h, rest, err := ReadHeader(plain)
	if err != nil {
		return h, "", err
	}
	body, err := io.ReadAll(rest)
	return h, string(body), err
}

func TestABackupOpensForItsKeysOnlyAndWholeOnly(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to, err := Recipients([]string{id.Recipient().String() + "\n"})
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("state ", 50_000)
	data := file(t, to[0], body)
	ids, err := Identities([]byte("# a comment\n" + id.String() + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	h, got, err := read(data, ids[0])
	if err != nil || got != body || h.Revision != 7 || h.Format != format {
		t.Errorf("%+v, %d bytes, %v", h, len(got), err)
	}
	if bytes.Contains(data, []byte("clusterID")) || bytes.Contains(data, []byte("state state")) {
		t.Error("it is not encrypted")
	}
	if _, _, err := read(data, other); err == nil || !strings.Contains(err.Error(), "not the one") {
		t.Errorf("another key: %v", err)
	}
	for _, n := range []int{0, 10, 100, len(data) / 2, len(data) - 1} {
		if _, got, err := read(data[:n], id); err == nil {
			t.Errorf("cut off after %d of %d bytes, it reads %d", n, len(data), len(got))
		}
		bad := bytes.Clone(data)
		bad[n] ^= 1
		if _, got, err := read(bad, id); err == nil {
			t.Errorf("with byte %d changed, it reads %d", n, len(got))
		}
	}
}

func TestAPassphraseOpensABackup(t *testing.T) {
	to, with, err := Passphrase([]byte("correct horse\n"))
	if err != nil {
		t.Fatal(err)
	}
	to.(*age.ScryptRecipient).SetWorkFactor(10)
	data := file(t, to, "state")
	if _, got, err := read(data, with); err != nil || got != "state" {
		t.Errorf("%q, %v", got, err)
	}
	_, wrong, err := Passphrase([]byte("battery staple"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := read(data, wrong); err == nil || !strings.Contains(err.Error(), "not the one") {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if _, _, err := Passphrase([]byte("short\n")); err == nil {
		t.Error("a passphrase of 5 characters is taken")
	}
}

func TestWhatIsNoBackupIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		"": "no backup", "{}\n": "no backup", "SHOALKV\n...": "no backup", strings.Repeat("x", 2*maxHeader): "no backup",
		`{"shoalBackup":2,"version":"v9"}` + "\n": "v9", `{"shoalBackup":1}`: "no backup",
	} {
		if _, _, err := ReadHeader(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if _, err := Decrypt(strings.NewReader("a tar file, perhaps")); err == nil {
		t.Error("anything decrypts")
	}
	if _, err := Recipients([]string{"ssh-ed25519 AAAA"}); err == nil || !strings.Contains(err.Error(), "age1") {
		t.Errorf("a recipient: %v", err)
	}
	if _, err := Identities([]byte("age1xyz")); err == nil || !strings.Contains(err.Error(), "AGE-SECRET-KEY-1") {
		t.Errorf("an identity: %v", err)
	}
}

// FuzzReadHeader: a backup comes from outside.
func FuzzReadHeader(f *testing.F) {
	f.Add([]byte(`{"shoalBackup":1,"revision":5}` + "\nrest"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rest, err := ReadHeader(bytes.NewReader(b))
		if err != nil {
			return
		}
		if h.Format != format {
			t.Fatalf("format %d", h.Format)
		}
		if _, err := io.ReadAll(rest); err != nil {
			t.Fatal(err)
		}
	})
}
