package plugindir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/programs"
)

var (
	// ErrForeign says that a file of others stands where ours would go.
	ErrForeign = errors.New("is not plumb's")

	// ErrPackaged says that a link stands there which leads to plumb's program in
	// another folder, as those of the Debian package do.
	ErrPackaged = errors.New("a package's")
)

// An Installation is what to place into a folder.
type Installation struct {
	From     string   // the folder of the programs to place
	Names    []string // of the plugins that lead to programs.Plugins
	Optional []string // of Names that are placed on request only; of these, what an earlier installation placed stays

	// Copy makes each name a file, in place of a symbolic link: a hard link
	// to programs.Plugins, so it takes no room.
	Copy bool

	// Force replaces files of others, and keeps them for Remove.
	Force bool
}

// Install places the programs and a link for each name, and removes links of
// ours that lead nowhere any more. It says what it did, in words.
//
// Before it changes anything it looks for files of others in the way, and
// unless Force is set fails with an error that names them all and matches
// ErrForeign or ErrPackaged.
func (f Folder) Install(ctx context.Context, in Installation) (done []string, err error) {
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return nil, err
	}
	// Once before the lock, which leaves a folder.
	if _, err := f.displaced(in); err != nil {
		return nil, err
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	foreign, err := f.displaced(in)
	if err != nil {
		return nil, err
	}
	for _, name := range foreign {
		if err := f.keep(name); err != nil {
			return done, err
		}
		done = append(done, "kept the other "+name)
	}
	for _, name := range programs.All() {
		changed, err := f.place(filepath.Join(in.From, name), name)
		if err != nil {
			return done, err
		}
		if changed {
			done = append(done, "placed "+f.path(name))
		}
	}
	linked, err := f.link(in)
	done = append(done, linked...)
	if err != nil {
		return done, err
	}
	stale, err := f.unlinkStale(in)
	return append(done, stale...), err
}

// displaced returns the names of the files of others that are to be replaced. It
// fails if they must not be.
func (f Folder) displaced(in Installation) ([]string, error) {
	foreign, err := f.foreign(append(programs.All(), in.Names...))
	if err != nil || len(foreign) == 0 || in.Force {
		return foreign, err
	}
	const hint = "--force replaces it, and plumb plugins remove brings it back"
	if links, program := f.elsewhere(foreign); len(links) > 0 {
		return nil, fmt.Errorf("in %s, what leads to %s is %w, which upgrades it: %s; %s",
			f.Dir, program, ErrPackaged, strings.Join(links, ", "), hint)
	}
	return nil, fmt.Errorf("in %s, what %w: %s; %s", f.Dir, ErrForeign, strings.Join(foreign, ", "), hint)
}

// foreign returns those of names under which there is a file that isn't ours.
func (f Folder) foreign(names []string) ([]string, error) {
	var foreign []string
	for _, name := range names {
		there, err := exists(f.path(name))
		if err != nil {
			return nil, err
		}
		ours, err := f.ours(name)
		if err != nil {
			return nil, err
		}
		if there && !ours {
			foreign = append(foreign, name)
		}
	}
	return foreign, nil
}

// keep makes a second link to a file of others, so that its name is never
// without a plugin. It takes the place of one that was kept before.
func (f Folder) keep(name string) error {
	if err := f.clear(); err != nil {
		return err
	}
	if err := os.Link(f.path(name), f.own(arriving)); err != nil {
		return fmt.Errorf("keep the other %s: %w", name, err)
	}
	return put(f.own(arriving), f.replaced(name))
}

// place copies a program into the folder, unless the same is there.
func (f Folder) place(from, name string) (changed bool, err error) {
	data, err := os.ReadFile(from)
	if err != nil {
		return false, err
	}
	if there, err := os.ReadFile(f.path(name)); err == nil && bytes.Equal(there, data) {
		return false, nil
	}
	if err := f.clear(); err != nil {
		return false, err
	}
	file, err := os.OpenFile(f.own(arriving), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return false, err
	}
	_, err = file.Write(data)
	// On the disk before it is renamed: after a power failure a plugin must be
	// whole, the old one or the new.
	if err = errors.Join(err, file.Chmod(0o755), file.Sync(), file.Close()); err != nil {
		return false, errors.Join(fmt.Errorf("write %s: %w", name, err), os.Remove(f.own(arriving)))
	}
	return true, put(f.own(arriving), f.path(name))
}

// link makes every name lead to the program.
func (f Folder) link(in Installation) (done []string, err error) {
	program, err := os.Stat(f.path(programs.Plugins))
	if err != nil {
		return nil, err
	}
	for _, name := range in.Names {
		there, err := os.Lstat(f.path(name))
		if err == nil && leads(f.path(name), there, program, in.Copy) {
			continue
		}
		if err := f.clear(); err != nil {
			return done, err
		}
		if in.Copy {
			err = os.Link(f.path(programs.Plugins), f.own(arriving))
		} else {
			err = os.Symlink(programs.Plugins, f.own(arriving))
		}
		if err == nil {
			err = put(f.own(arriving), f.path(name))
		}
		if err != nil {
			return done, err
		}
		done = append(done, "placed "+f.path(name))
	}
	return done, nil
}

// leads reports whether a file is the link that it should be.
func leads(path string, file, program fs.FileInfo, hard bool) bool {
	if hard {
		return os.SameFile(file, program)
	}
	target, err := os.Readlink(path)
	return err == nil && target == programs.Plugins
}

// unlinkStale removes links of an earlier release to plugins that there are no
// more.
func (f Folder) unlinkStale(in Installation) (done []string, err error) {
	names, err := f.names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if slices.Contains(programs.All(), name) || slices.Contains(in.Names, name) {
			continue
		}
		ours, err := f.ours(name)
		if err != nil {
			return done, err
		}
		switch {
		case !ours:
			continue
		case slices.Contains(in.Optional, name):
			if in.Copy { // else it leads to the new program as it is
				if _, err := f.link(Installation{Names: []string{name}, Copy: true}); err != nil {
					return done, err
				}
			}
			continue
		}
		if err := f.giveBack(name); err != nil {
			return done, err
		}
		done = append(done, "removed "+f.path(name)+", which this release has no more")
	}
	return done, nil
}

// giveBack puts the file of others that was kept in the place of ours, or else
// removes ours. A link that was kept, and whose package has gone since, goes too.
func (f Folder) giveBack(name string) error {
	err := os.Rename(f.replaced(name), f.path(name))
	links, _ := f.elsewhere([]string{name})
	_, gone := os.Stat(f.path(name))
	if errors.Is(err, fs.ErrNotExist) || len(links) > 0 && errors.Is(gone, fs.ErrNotExist) {
		err = os.Remove(f.path(name))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", filepath.Join(f.Dir, name), err)
	}
	return nil
}
