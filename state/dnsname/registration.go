package dnsname

import (
	"context"
	"errors"
	"io/fs"
	"reflect"

	"github.com/plumb-cni/plumb/state"
)

const kindName = "dnsname"

// A Registration has the resolver know an entry, and answer for it. It is of the
// host's namespace.
type Registration struct {
	Entry Entry

	// Path are folders in which the program plumb is looked for, unless it
	// is beside the one that runs.
	Path []string
}

var _ state.Marked = Registration{}

// Key names an attachment's entry.
func Key(o state.Owner) state.Key {
	return state.Key{NS: state.Host, Kind: kindName, Name: o.Tag()}
}

// Key names the entry by its owner.
func (r Registration) Key() state.Key { return Key(r.Entry.Owner) }

// Marked reports whether there is an entry, which nobody else writes.
func (r Registration) Marked(_ context.Context, rd state.Reader) (bool, error) {
	h, err := hostOf(rd, r.Path)
	if err != nil {
		return false, err
	}
	_, err = Read(h.folder, fileOf(r.Entry.Owner.Tag()))
	return !errors.Is(err, fs.ErrNotExist), nil
}

// Ensure writes the entry, and returns once the resolver answers by it.
func (r Registration) Ensure(ctx context.Context, k *state.Kernel) (state.Undo, error) {
	h, err := hostOf(k.Reader(), r.Path)
	if err != nil {
		return nil, err
	}
	file := fileOf(r.Entry.Owner.Tag())
	before, err := Read(h.folder, file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		before = nil // half of a file tells nothing
	}
	undo := func(ctx context.Context) error {
		if before == nil {
			return h.forget(ctx, file)
		}
		if err := write(h.folder, file, before); err != nil {
			return err
		}
		_, err := h.ask(ctx, Request{Load, file})
		return err
	}
	if err := write(h.folder, file, &r.Entry); err != nil {
		return nil, err
	}
	if _, err := h.ask(ctx, Request{Load, file}); err != nil {
		return nil, errors.Join(err, undo(context.WithoutCancel(ctx)))
	}
	return undo, nil
}

// Diff compares the file, and asks the resolver what it lacks to answer by it. A
// resolver that was killed is started again by that.
func (r Registration) Diff(ctx context.Context, rd state.Reader) ([]state.Drift, error) {
	h, err := hostOf(rd, r.Path)
	if err != nil {
		return nil, err
	}
	file := fileOf(r.Entry.Owner.Tag())
	got, err := Read(h.folder, file)
	if errors.Is(err, fs.ErrNotExist) {
		return state.Missing(r.Key()), nil
	}
	if err != nil {
		return nil, err
	}
	if drifts := r.diff(got); drifts != nil {
		return drifts, nil
	}
	answer, err := h.ask(ctx, Request{Check, file})
	if err != nil {
		return nil, err
	}
	var drifts []state.Drift
	for _, what := range answer.Missing {
		drifts = append(drifts, r.drift(what, "present", "missing"))
	}
	return drifts, nil
}

// diff compares what was written with what ought to have been.
func (r Registration) diff(got *Entry) (drifts []state.Drift) {
	want := r.Entry
	for _, field := range []struct {
		name      string
		want, got any
	}{
		{"names", want.Names, got.Names},
		{"domain", want.Domain, got.Domain},
		{"addresses", want.Addresses, got.Addresses},
		{"servers", want.Servers, got.Servers},
		{"remote servers", want.Remote, got.Remote},
		{"multiDomain", want.MultiDomain, got.MultiDomain},
	} {
		if !reflect.DeepEqual(field.want, field.got) {
			drifts = append(drifts, r.drift(field.name, sprint(field.want), sprint(field.got)))
		}
	}
	return drifts
}

func (r Registration) drift(field, want, got string) state.Drift {
	return state.Drift{Key: r.Key(), Field: field, Want: want, Got: got}
}
