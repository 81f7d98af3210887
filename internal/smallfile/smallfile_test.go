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

// TestReplace has somebody read a file while it is replaced, and finds nothing left
// of what fails.
func TestReplace(t *testing.T) {
	for name, replace := range map[string]func(string, []byte, fs.FileMode) error{"memory": Replace, "disk": ReplaceOnDisk} {
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		content := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 20000) }
		if err := replace(path, content(0), 0o640); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			for i := range 50 {
				if err := replace(path, content(i%20), 0o640); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		for reading := true; reading; {
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				reading = false
			default:
				got, err := os.ReadFile(path)
				if err != nil || len(got) != 20000 || !bytes.Equal(got, content(int(got[0]-'a'))) {
					t.Errorf("%s: half of a file is read, %d bytes: %v", name, len(got), err)
				}
			}
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "folder", "x"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := replace(filepath.Join(dir, "folder"), nil, 0o600); err == nil {
			t.Errorf("%s: a folder is replaced", name)
		}
		err := replace(filepath.Join(dir, "none", "file"), nil, 0o600)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: in a folder that is not there: %v", name, err)
		}
		if again := replace(filepath.Join(dir, "none", "file"), nil, 0o600); again == nil || again.Error() != err.Error() {
			t.Errorf("%s: tried again: %v, before %v", name, again, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
			t.Errorf("%s: left is %v, %v", name, entries, err)
		}
	}
}
