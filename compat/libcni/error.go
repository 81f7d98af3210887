package libcni

import (
	"errors"
	"fmt"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"

	"github.com/containernetworking/cni/internal/wire"
)

// ErrorCheckNotSupp says that a network's version of the specification, below
// 0.4.0, has no CHECK.
var ErrorCheckNotSupp = errors.New("does not support the CHECK command")

// A NotFoundError says that a folder has no network of that name.
type NotFoundError struct {
	Dir  string
	Name string
}

// Error names the network and the folder.
func (e NotFoundError) Error() string {
	return fmt.Sprintf("no net configuration with name %q in %s", e.Name, e.Dir)
}

// A NoConfigsFoundError says that a folder has no configuration at all.
type NoConfigsFoundError struct {
	Dir string
}

// Error names the folder.
func (e NoConfigsFoundError) Error() string { return "no net configurations found in " + e.Dir }

// single returns the error of a call as callers of one plugin know it: what the
// plugin answered. A failed call is told of without the name of the call.
func single(err error) error { return tell(err, "") }

// ofList returns the error of a list as callers know it: which plugin failed in
// what, then what it answered.
func ofList(doing string, err error) error { return tell(err, doing) }

// tell returns err in the terms of this API, each of those that were joined.
func tell(err error, doing string) error {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range several.Unwrap() {
			errs = append(errs, tell(e, doing))
		}
		if len(errs) == 1 {
			return errs[0]
		}
		return errors.Join(errs...)
	}
	call, ok := err.(*runtime.PluginError)
	if !ok {
		return wire.Coded(err)
	}
	err = wire.Coded(call.Err)
	if answer, ok := call.Err.(*cni.Error); ok && !errors.Is(answer, runtime.ErrNoAnswer) {
		err = wire.Error(answer)
	}
	if doing != "" {
		err = fmt.Errorf("plugin type=%q failed (%s): %w", call.Plugin, doing, err)
	}
	return err
}
