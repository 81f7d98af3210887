// Package wire tells errors of plumb in the terms of this API.
package wire

import (
	"errors"

	"github.com/plumb-cni/plumb/cni"

	"github.com/containernetworking/cni/pkg/types"
)

// Error returns e in the form of this API.
func Error(e *cni.Error) *types.Error {
	return types.NewError(uint(e.Code), e.Msg, e.Details)
}

// Answer returns what a plugin answers for err: the first *types.Error in its
// chain as it is, else err with the code of the first *cni.Error.
func Answer(err error) *types.Error {
	if answer := (*types.Error)(nil); errors.As(err, &answer) {
		return answer
	}
	return Error(cni.AsError(err))
}

// Coded returns err such that errors.As finds a *types.Error in it if it has a
// code of plumb's.
func Coded(err error) error {
	if e := (*cni.Error)(nil); errors.As(err, &e) && !errors.As(err, new(*types.Error)) {
		return &coded{err, Error(e)}
	}
	return err
}

type coded struct {
	error
	answer *types.Error
}

func (c *coded) Unwrap() []error { return []error{c.error, c.answer} }
