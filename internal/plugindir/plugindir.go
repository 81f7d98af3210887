// Package plugindir places the programs of plumb into a folder in which
// runtimes look for plugins, and takes them out again.
//
// Everything that is placed stays inside the folder, because a runtime may
// mount that alone. Each file is put in its place by a rename: whoever executes
// a plugin meanwhile has the old one or the new one, and never none.
//
// Files of others are kept in the subfolder .plumb/replaced while ours stand in
// their places, and come back when ours go.
package plugindir

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/plumb-cni/plumb/internal/dirlock"
	"github.com/plumb-cni/plumb/internal/programs"
)

// commands begins the import path of each program of ours. Plugins that others
// have built in our module, such as from its examples, are theirs.
const commands = "github.com/plumb-cni/plumb/cmd/"

// Names of what a folder has besides programs; a runtime takes no folder for a
// plugin.
const (
	ownFolder = ".plumb"
	replaced  = "replaced" // in ownFolder: files of others by their names
	arriving  = "arriving" // in ownFolder: a file before it is renamed
)

// A Folder is one in which a runtime looks for plugins.
type Folder struct{ Dir string }

func (f Folder) path(name string) string { return filepath.Join(f.Dir, name) }

func (f Folder) own(name string) string { return filepath.Join(f.Dir, ownFolder, name) }

func (f Folder) replaced(name string) string { return filepath.Join(f.Dir, ownFolder, replaced, name) }

// lock keeps others from placing and removing until the returned function is
// called.
func (f Folder) lock(ctx context.Context) (unlock func(), err error) {
	unlock, err = dirlock.Lock(ctx, f.own(""))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chmod(f.own(""), 0o755), os.MkdirAll(f.own(replaced), 0o755)); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// ours reports whether a file was placed here: a link to the program beside it, or
// one of the programs that were built from plumb's source. One that is missing was
// not, nor was a link to our program in another folder: a package has brought that.
func (f Folder) ours(name string) (bool, error) {
	info, err := os.Lstat(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(f.path(name))
		return filepath.Base(target) == programs.Plugins && !f.leadsOut(target), err
	case info.Mode().IsRegular():
		build, err := buildinfo.ReadFile(f.path(name))
		return err == nil && strings.HasPrefix(build.Path, commands), nil // anything else is a file of others
	}
	return false, nil
}

// elsewhere returns those of names that are links to our program in another
// folder, and where that is.
func (f Folder) elsewhere(names []string) (links []string, program string) {
	for _, name := range names {
		target, err := os.Readlink(f.path(name))
		if err == nil && filepath.Base(target) == programs.Plugins && f.leadsOut(target) {
			links = append(links, name)
			program = f.resolve(target)
		}
	}
	return links, program
}

// leadsOut reports whether the target of a link in the folder is in another one.
func (f Folder) leadsOut(target string) bool {
	there, err := os.Stat(filepath.Dir(f.resolve(target)))
	if err != nil {
		return true
	}
	here, err := os.Stat(f.Dir)
	return err != nil || !os.SameFile(here, there)
}

// resolve returns the path that the target of a link in the folder means.
func (f Folder) resolve(target string) string {
	if filepath.IsAbs(target) {
		return filepath.Clean(target)
	}
	return filepath.Join(f.Dir, target)
}

// names lists what is in the folder, but for folders.
func (f Folder) names() ([]string, error) {
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// exists reports whether there is a file of any sort.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// clear makes room for a file that arrives. What a run that was killed left there
// may be a link to one that stands in its place, and must not be written to.
func (f Folder) clear() error {
	if err := os.Remove(f.own(arriving)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// put renames a file into its place, which must be on the same file system.
func put(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("put %s in its place: %w", filepath.Base(to), err)
	}
	return nil
}
