package smallfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestReadWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, []byte("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("write to what is not there: %v", err)
	}
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read what is not there: %v", err)
	}
	for _, size := range []int{0, 1, 4095, 4096, 4097, maxLen - 1} {
		want := bytes.Repeat([]byte("ab"), size)[:size]
		if err := Create(path, want, 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("of %d bytes %d are read: %v", size, len(got), err)
		}
		independent, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(independent, want) {
			t.Errorf("of %d bytes %d are written: %v", size, len(independent), err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := Create(path, make([]byte, maxLen), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil {
		t.Error("a file that is too large is read")
	}
}
