package dnsname

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/plumb-cni/plumb/state"
)

// Kind removes and finds entries.
type Kind struct{}

var _ state.Kind = Kind{}

// Kind returns "dnsname".
func (Kind) Kind() string { return kindName }

// Remove removes the entry of a key, whose name is the owner's tag, and has the
// resolver forget it. The resolver ends with the last entry.
func (Kind) Remove(ctx context.Context, k *state.Kernel, obj state.Object, _ state.Owner) error {
	h, err := hostOf(k.Reader(), nil)
	if err != nil {
		return err
	}
	return h.forget(ctx, fileOf(obj.Key.Name))
}

// forget removes an entry. As long as there is a folder there has to be a
// resolver: one that was killed is started again, and be it to clean up.
func (h *host) forget(ctx context.Context, file string) error {
	if err := erase(h.folder, file); err != nil {
		return err
	}
	if _, err := os.Stat(h.folder); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := h.ask(ctx, Request{Load, file})
	if errors.Is(err, errNoProgram) {
		return nil // then nobody answers for the name
	}
	return err
}

// Garbage returns the entries of the network that no valid attachment has.
func (Kind) Garbage(_ context.Context, r state.Reader, network string, valid []state.Owner) ([]state.Found, error) {
	all, err := All(r)
	stale := state.Stale(network, valid)
	return slices.DeleteFunc(all, func(f state.Found) bool { return !stale(f.Owner) }), err
}

// All returns the entries of all networks. Owners are as from state.ParseTag.
func All(r state.Reader) ([]state.Found, error) {
	folder, err := folderOf(r)
	if err != nil {
		return nil, err
	}
	files, err := Files(folder)
	var found []state.Found
	for _, file := range files {
		o, _ := ownerOf(file)
		found = append(found, state.Found{Key: Key(o), Owner: o})
	}
	return found, err
}

// Available fails if there is no program to start a resolver from.
func Available(r state.Reader, path []string) error {
	h, err := hostOf(r, path)
	if err != nil {
		return err
	}
	_, err = h.program()
	return err
}

func sprint(v any) string { return fmt.Sprint(v) }
