// Package netdir watches a folder of network configurations, such as
// /etc/cni/net.d, for a runtime that lives while these are changed.
package netdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/plumb-cni/plumb/cni"
)

// A Set is what a folder holds.
type Set struct {
	// Lists are the networks in the order of their files' names. In the place
	// of a file that can't be used just now stands the list that was there
	// before; of a folder that is gone, all of them.
	Lists []*cni.List

	// Err joins what could not be used, nil if nothing. It matches
	// fs.ErrNotExist while there is no folder.
	Err error
}

const (
	// pause is how long a folder has to be left alone before it is read, so that
	// a file which is being written is not read half.
	pause = 50 * time.Millisecond

	// patience is how long it may not be left alone, before it is read all the same.
	patience = time.Second
)

// Watch reports what a folder holds, at first and after each change, until ctx
// ends; it then returns the context's error, and another one if it can't watch.
// It calls report from one goroutine, never twice at the same time.
//
// Files may be written in place, renamed over, or be links that are changed (as
// Kubernetes does with a ConfigMap); the plugins in the folder of a network's
// name belong to it. The folder may be missing, be deleted and come again.
func Watch(ctx context.Context, dir string, report func(Set)) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	events, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	defer events.Close()
	w := &watcher{dir: dir, events: events, good: map[string]*cni.List{}}
	for {
		set, err := w.read()
		if err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		report(set)
		if err := w.change(ctx); err != nil {
			return err
		}
	}
}

// A watcher watches one folder.
type watcher struct {
	dir    string
	events *fsnotify.Watcher
	good   map[string]*cni.List // by path, as last read without an error
	order  []string             // the paths of good as they were when the folder was last there
}

// read watches what there is to watch, and then reads it: what changes in
// between is seen once more.
func (w *watcher) read() (Set, error) {
	if err := w.watch(); err != nil {
		return Set{}, err
	}
	files, err := cni.ListFiles(w.dir)
	errs := []error{err}
	if err == nil {
		w.order = files
		good := map[string]*cni.List{}
		for _, file := range files {
			l, err := cni.LoadList(file)
			if err != nil {
				errs, l = append(errs, err), w.good[file]
			}
			if l != nil {
				good[file] = l
			}
		}
		w.good = good
	}
	var lists []*cni.List
	for _, file := range w.order {
		if l := w.good[file]; l != nil {
			lists = append(lists, l)
		}
	}
	return Set{Lists: lists, Err: errors.Join(errs...)}, nil
}

// watch watches the folder, the folders in it, and those above: as long as it
// is missing, it comes in the nearest of them that is there.
func (w *watcher) watch() error {
	wanted := map[string]bool{}
	for above := filepath.Dir(w.dir); ; above = filepath.Dir(above) {
		wanted[above] = true
		if above == filepath.Dir(above) {
			break
		}
	}
	wanted[w.dir] = true
	entries, err := os.ReadDir(w.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			wanted[filepath.Join(w.dir, e.Name())] = true
		}
	}
	for path := range maps.Keys(wanted) {
		// Again even if it is watched: by now it may be another folder of the
		// name.
		_ = w.events.Remove(path)
		if err := w.events.Add(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, path := range w.events.WatchList() {
		if !wanted[path] {
			_ = w.events.Remove(path)
		}
	}
	return nil
}

// change waits for a change that matters, and for what comes with it.
func (w *watcher) change(ctx context.Context) error {
	var quiet, late <-chan time.Time
	changed := func() {
		quiet = time.After(pause)
		if late == nil {
			late = time.After(patience)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.events.Events:
			if !ok {
				return fmt.Errorf("watch %s: %w", w.dir, fsnotify.ErrClosed)
			}
			if w.matters(e.Name) {
				changed()
			}
		case err, ok := <-w.events.Errors:
			if !ok || !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch %s: %w", w.dir, errors.Join(err, fsnotify.ErrClosed))
			}
			changed() // what was lost is seen by reading
		case <-quiet:
			return nil
		case <-late:
			return nil
		}
	}
}

// matters tells what happens in the folder, and to it and those that it is in,
// from what else happens in those.
func (w *watcher) matters(path string) bool {
	within := func(folder, path string) bool {
		rel, err := filepath.Rel(folder, path)
		return err == nil && filepath.IsLocal(rel)
	}
	return within(w.dir, path) || within(path, w.dir)
}
