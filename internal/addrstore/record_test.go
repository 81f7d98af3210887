package addrstore

import (
	"errors"
	"strings"
	"testing"
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
