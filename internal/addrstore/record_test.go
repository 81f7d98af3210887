package addrstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseRecord(t *testing.T) {
	for _, c := range []struct {
		data string
		want Record
		torn bool
	}{
		{data: "abc\r\neth0", want: Record{"abc", "eth0"}},
		{data: "abc", want: Record{ContainerID: "abc"}}, // of old releases
		{data: " abc\r\neth0\n", want: Record{"abc", "eth0"}},
		{data: "kept for the printer\n", want: Record{ContainerID: "kept for the printer"}},
		{data: "", torn: true},
		{data: " \n", torn: true},
		{data: "\x00\x00\x00\x00", torn: true},
		{data: "abc\r\n\x00\x00", torn: true},
		{data: "abc\r", torn: true},
		{data: "abc\r\n", torn: true},
	} {
		got, err := ParseRecord([]byte(c.data))
		if errors.Is(err, errTorn) != c.torn || got != c.want {
			t.Errorf("%q: %+v, %v; want %+v, torn %v", c.data, got, err, c.want, c.torn)
		}
	}
}

// FuzzRecord checks that a record survives being written again, and that the
// reference, which compares the trimmed contents, would find it.
func FuzzRecord(f *testing.F) {
	for _, seed := range []string{"", "abc\r\neth0", "abc", "abc\r\n", "abc\r", "\r\neth0", "a\r\nb\r\nc", "\x00\x00", " a b \n", "a\nb", "\xff\xfe\r\n\u0085", "10.0.0.2"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRecord(data)
		if err != nil {
			if r != (Record{}) {
				t.Errorf("%q: %+v beside %v", data, r, err)
			}
			return
		}
		if got := string(r.Bytes()); got != strings.TrimSpace(string(data)) {
			t.Errorf("%q is written as %q", data, got)
		}
		if again, err := ParseRecord(r.Bytes()); again != r || err != nil {
			t.Errorf("%q: %+v, then %+v, %v", data, r, again, err)
		}
	})
}

// TestHolder finds out who holds an address whatever is in its place.
func TestHolder(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, "net", name) }
	if err := os.Mkdir(at(""), 0o700); err != nil {
		t.Fatal(err)
	}
	long := Record{strings.Repeat("c", 230), "eth0"} // as much as a runtime's cache has room for
	if err := os.WriteFile(at("10.0.0.2"), long.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(at("10.0.0.3"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := Holder(dir, "net", addr("10.0.0.2")); r != long || err != nil {
		t.Errorf("%v, %v", r, err)
	}
	for _, a := range []string{"10.0.0.3", "10.0.0.4"} {
		if r, err := Holder(dir, "net", addr(a)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, %v", a, r, err)
		}
	}
}
