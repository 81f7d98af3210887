package sysctl

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"

	"github.com/plumb-cni/plumb/state"
)

// Before reads the values. Those that can't be read are not given back.
func (s Settings) Before(_ context.Context, r state.Reader) (json.RawMessage, error) {
	var values []Setting
	err := r.In(s.NS, func() error {
		var t tree
		defer t.close()
		for _, want := range s.Values {
			if got, err := t.read(want.Name); err == nil {
				values = append(values, Setting{Name: want.Name, Value: got})
			}
		}
		return nil
	})
	if err != nil || values == nil {
		return nil, err
	}
	return json.Marshal(values)
}

// Kind gives back what settings were before.
type Kind struct{}

var _ state.Kind = Kind{}

// Kind returns "sysctl".
func (Kind) Kind() string { return kindName }

// Remove writes the values that a record says were there before.
func (Kind) Remove(_ context.Context, k *state.Kernel, obj state.Object, _ state.Owner) error {
	var values []Setting
	if !obj.Recorded || obj.Before == nil || json.Unmarshal(obj.Before, &values) != nil {
		return nil
	}
	err := k.In(obj.Key.NS, func() error {
		var t tree
		defer t.close()
		var errs []error
		for i := len(values) - 1; i >= 0; i-- {
			got, err := t.read(values[i].Name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // it went with its interface
			}
			if err == nil && got != values[i].Value {
				err = t.write(values[i])
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if errors.Is(err, state.ErrNoSandbox) {
		return nil
	}
	return err
}

// Garbage finds nothing: settings go with their namespace.
func (Kind) Garbage(context.Context, state.Reader, string, []state.Owner) ([]state.Found, error) {
	return nil, nil
}
