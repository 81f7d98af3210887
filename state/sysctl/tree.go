package sysctl

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/plumb-cni/plumb/internal/smallfile"
)

const root = "/proc/sys/net"

// A tree is the settings of the namespace that the thread is in. The zero tree is
// ready for use, and has to be closed.
//
// It keeps the folder open that it was in last: on the way to it the kernel
// searches among the entries of all namespaces.
type tree struct {
	folder *smallfile.Folder
	path   string // of the folder, below root
}

func (t *tree) close() {
	if t.folder != nil {
		_ = t.folder.Close() // which was only passed through
	}
}

// enter opens the folder of a setting and returns the setting's name there.
func (t *tree) enter(name string) (string, error) {
	dir, base := path.Split(name)
	if t.folder != nil && t.path == dir {
		return base, nil
	}
	folder, err := smallfile.OpenFolder(path.Join(root, dir))
	if err != nil {
		return "", err
	}
	t.close()
	t.folder, t.path = &folder, dir
	return base, nil
}

func (t *tree) read(name string) (string, error) {
	base, err := t.enter(name)
	var data []byte
	if err == nil {
		data, err = t.folder.Read(base)
	}
	if err != nil {
		return "", fmt.Errorf("read sysctl: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func (t *tree) write(s Setting) error {
	value := s.Value
	if value == "" { // of a list without elements; to write nothing changes nothing
		value = "\n"
	}
	base, err := t.enter(s.Name)
	if err == nil {
		err = t.folder.Write(base, []byte(value))
	}
	if err != nil {
		return fmt.Errorf("set sysctl to %q: %w", s.Value, err)
	}
	return nil
}

// writeAll writes values in reverse.
func writeAll(values []Setting) error {
	var t tree
	defer t.close()
	var errs []error
	for i := len(values) - 1; i >= 0; i-- {
		errs = append(errs, t.write(values[i]))
	}
	return errors.Join(errs...)
}
