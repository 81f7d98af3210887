// Package sysctl is the state of settings below /proc/sys/net.
package sysctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// A Setting is one value. The name is relative to /proc/sys/net and written
// with slashes, because interface names may hold dots.
type Setting struct {
	Name  string // "ipv4/ip_forward", "ipv6/conf/eth0/accept_dad"
	Value string
}

// Settings are values in one namespace, written in order by one visit.
type Settings struct {
	NS     state.NS
	Values []Setting

	// Initial settings are made once. What becomes of them is the business
	// of whoever lives there: Diff passes over them.
	Initial bool

	// Optional settings are skipped where the kernel does not have them.
	Optional bool
}

var _ state.Restorer = Settings{}

const kindName = "sysctl"

// Key names the settings by all their names.
func (s Settings) Key() state.Key {
	names := make([]string, len(s.Values))
	for i, v := range s.Values {
		names[i] = v.Name
	}
	return state.Key{NS: s.NS, Kind: kindName, Name: strings.Join(names, ",")}
}

// Ensure writes the values that differ. Undo writes back those that it changed.
//
// It fails with cni.CodeInvalidConfig for a setting that there is not, or that
// does not take the value, and with cni.CodeUnavailable for one of IPv6 where the
// kernel has none.
func (s Settings) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	values, err := s.doubtful(k.Reader())
	if err != nil || len(values) == 0 {
		return nil, err
	}
	var before []Setting
	restore := func(context.Context) error {
		return k.In(s.NS, func() error { return writeAll(before) })
	}
	err = k.In(s.NS, func() error {
		var t tree
		defer t.close()
		for _, want := range values {
			got, err := t.read(want.Name)
			if s.Optional && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if errors.Is(err, fs.ErrNotExist) {
				return s.missing(want, err)
			}
			if err == nil && same(got, want.Value) {
				continue
			}
			if err := t.write(want); err != nil {
				return s.refused(want, got, err)
			}
			if err == nil { // one that can't be read triggers something, such as route/flush
				before = append(before, Setting{Name: want.Name, Value: got})
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, restore(context.Background()))
	}
	if before == nil {
		return nil, nil
	}
	return restore, nil
}

// missing is the error of a setting that is not there.
func (s Settings) missing(want Setting, err error) error {
	if _, none := os.Stat(root + "/ipv6"); none != nil && strings.HasPrefix(want.Name, "ipv6/") {
		return cni.Errorf(cni.CodeUnavailable, "the kernel has no IPv6: %w", err).
			WithDetails("it is disabled (ipv6.disable=1 on the kernel's command line), or its module is not loaded")
	}
	return cni.Errorf(cni.CodeInvalidConfig, "there is no such setting: %w", err).
		WithDetails(fmt.Sprintf("look below /proc/sys/net in the %s for its name; some are there only once a module is loaded", s.NS))
}

// refused is the error of a value that a setting, which is something else now,
// does not take.
func (s Settings) refused(want Setting, got string, err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return cni.Errorf(cni.CodeIO, "%w", err).WithDetails("/proc/sys has to be writable where plugins run")
	case errors.Is(err, fs.ErrPermission):
		return cni.Errorf(cni.CodeInvalidConfig, "%w", err).WithDetails("it can only be read, or not be set in a container's namespace")
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		return cni.Errorf(cni.CodeInvalidConfig, "%w", err).
			WithDetails(fmt.Sprintf("the kernel does not take the value; it is %q now", got))
	}
	return cni.Errorf(cni.CodeIO, "%w", err)
}

// doubtful returns the values but those that the kernel has told to be so.
func (s Settings) doubtful(r state.Reader) ([]Setting, error) {
	conn, err := r.Route(s.NS)
	if err != nil {
		return nil, err
	}
	var values []Setting
	for _, want := range s.Values {
		got, ok, err := told(conn, want.Name)
		if err != nil {
			return nil, err
		}
		if !ok || !same(got, want.Value) {
			values = append(values, want)
		}
	}
	return values, nil
}

// Diff reads the values.
func (s Settings) Diff(_ context.Context, r state.Reader) (drifts []state.Drift, err error) {
	if s.Initial {
		return nil, nil
	}
	values, err := s.doubtful(r)
	if err != nil || len(values) == 0 {
		return nil, err
	}
	err = r.In(s.NS, func() error {
		var t tree
		defer t.close()
		for _, want := range values {
			key := state.Key{NS: s.NS, Kind: kindName, Name: want.Name}
			got, err := t.read(want.Name)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				if !s.Optional {
					drifts = append(drifts, state.Missing(key)...)
				}
			case errors.Is(err, fs.ErrPermission): // it can only be written
			case err != nil:
				return err
			case !same(got, want.Value):
				drifts = append(drifts, state.Drift{Key: key, Field: "value", Want: want.Value, Got: got})
			}
		}
		return nil
	})
	return drifts, err
}

// same compares values as the kernel reads them, which takes any white space
// between several.
func same(a, b string) bool { return slices.Equal(strings.Fields(a), strings.Fields(b)) }
