package plugindir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/programs"
)

// Remove puts back the files of others that ours replaced, and removes the rest
// of ours. With keep, plugins that nobody else stands in for stay, with the
// programs: something needs them. Links of a package stay. It says what it did, in
// words.
func (f Folder) Remove(ctx context.Context, keep bool) (done []string, err error) {
	if _, err := os.Stat(f.Dir); err != nil {
		return nil, err
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	names, err := f.names()
	if err != nil {
		return nil, err
	}
	if links, program := f.elsewhere(names); len(links) > 0 {
		done = append(done, fmt.Sprintf("left %s in %s to the package whose %s they lead to", strings.Join(links, ", "), f.Dir, program))
	}
	errs := []error{f.giveBackMissing(names)}
	// The programs last: what leads to them would lead nowhere, and a run that
	// was ended could not tell any more whose it is.
	last := programs.All()
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(last, name) })
	kept := false
	for _, name := range append(names, last...) {
		ours, err := f.ours(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !ours {
			continue
		}
		other, err := exists(f.replaced(name))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if keep && !other || kept && slices.Contains(last, name) {
			kept = true
			continue
		}
		if err := f.giveBack(name); err != nil {
			errs = append(errs, err)
			continue
		}
		if other {
			done = append(done, "put back the other "+f.path(name))
		} else {
			done = append(done, "removed "+f.path(name))
		}
	}
	if err := errors.Join(errs...); err != nil || kept {
		return done, err
	}
	return done, f.forget()
}

// giveBackMissing puts back the files of others for whose names there is nothing
// any more, not even ours. What was kept and then never replaced, since that run
// failed, is still in its place, and needs no second name.
func (f Folder) giveBackMissing(there []string) error {
	kept, err := os.ReadDir(f.own(replaced))
	errs := []error{err}
	for _, e := range kept {
		name := e.Name()
		switch {
		case !slices.Contains(there, name):
			errs = append(errs, f.giveBack(name))
		case f.keptInPlace(name):
			errs = append(errs, os.Remove(f.replaced(name)))
		}
	}
	return errors.Join(errs...)
}

// keptInPlace reports whether a file of others that was kept is the one in its
// place.
func (f Folder) keptInPlace(name string) bool {
	kept, keptErr := os.Lstat(f.replaced(name))
	there, err := os.Lstat(f.path(name))
	return keptErr == nil && err == nil && os.SameFile(kept, there)
}

// forget removes the folder of our own. Files of others that were kept for
// names that are nobody's any more stay in it.
func (f Folder) forget() error {
	for _, name := range []string{arriving, replaced, ""} {
		err := os.Remove(f.own(name))
		left, _ := os.ReadDir(f.own(replaced))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && len(left) == 0 {
			return err
		}
	}
	return nil
}
