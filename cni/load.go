package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// LoadList reads a network configuration from a file, as ParseList does. Unless
// the list sets loadOnlyInlinedPlugins, the plugins in the folder of the
// network's name beside the file follow its own: NETWORK/*.conf, in the
// order of their names. A single configuration stands alone.
//
// Errors name the file at fault. One of them in the folder makes the list
// unusable, since a chain without one of its plugins is another network.
// Besides those of ParseList there are CodeIO for a file that can't be read and
// CodeInvalidConfig for a list without any plugin.
func LoadList(path string) (*List, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, Errorf(CodeIO, "load network configuration: %w", err)
	}
	l, err := ParseList(data)
	if err != nil {
		return nil, fmt.Errorf("load network configuration %s: %w", path, err)
	}
	if !l.Single && !l.LoadOnlyInlinedPlugins {
		if err := l.loadPlugins(filepath.Join(filepath.Dir(path), l.Name)); err != nil {
			return nil, err
		}
	}
	if len(l.Plugins) == 0 {
		return nil, Errorf(CodeInvalidConfig, "load network configuration %s: network %q has no plugins", path, l.Name)
	}
	return l, nil
}

// loadPlugins adds the plugins of a folder, if it is there.
func (l *List) loadPlugins(dir string) error {
	files, err := configFiles(dir, ".conf")
	// A file may happen to have the network's name; only a folder is meant.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return Errorf(CodeIO, "load plugin configuration: %w", err)
		}
		if err := l.add(data); err != nil {
			return fmt.Errorf("load plugin configuration %s: %w", file, err)
		}
	}
	return nil
}

// ListFiles returns the paths of the network configurations of a folder, the
// files *.conflist, *.conf and *.json, in the order of their names. The error is
// of CodeIO.
func ListFiles(dir string) ([]string, error) {
	return configFiles(dir, ".conf", ".conflist", ".json")
}

// LoadDir reads every network configuration of a folder, in the order of
// ListFiles. Lists are returned even if
// the error is not nil: it joins those of the files that are missing among them.
func LoadDir(dir string) ([]*List, error) {
	files, err := ListFiles(dir)
	if err != nil {
		return nil, err
	}
	var lists []*List
	var errs []error
	for _, file := range files {
		l, err := LoadList(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		lists = append(lists, l)
	}
	return lists, errors.Join(errs...)
}

// FindList returns the network of that name from a folder. As with libcni,
// *.conflist go before *.conf and *.json, and then the order of names decides.
//
// A file that can't be loaded doesn't hide a good one. If there is none, the
// error is of CodeInvalidConfig, matches fs.ErrNotExist, and tells of the files
// that could not be loaded, since the network may be in one of them.
func FindList(dir, name string) (*List, error) {
	lists, err := configFiles(dir, ".conflist")
	if err != nil {
		return nil, err
	}
	singles, err := configFiles(dir, ".conf", ".json")
	if err != nil {
		return nil, err
	}
	errs := []error{fs.ErrNotExist}
	for _, file := range slices.Concat(lists, singles) {
		l, err := LoadList(file)
		switch {
		case err != nil:
			errs = append(errs, err)
		case l.Name == name:
			return l, nil
		}
	}
	return nil, Errorf(CodeInvalidConfig, "find network %q in %s: %w", name, dir, errors.Join(errs...))
}

// configFiles returns the paths of the files in dir with one of the extensions,
// in the order of their names.
func configFiles(dir string, extensions ...string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, Errorf(CodeIO, "list configurations: %w", err)
	}
	var files []string
	for _, entry := range entries {
		if !entry.IsDir() && slices.Contains(extensions, filepath.Ext(entry.Name())) {
			files = append(files, filepath.Join(dir, entry.Name()))
		}
	}
	return files, nil
}
