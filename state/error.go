package state

import "github.com/plumb-cni/plumb/cni"

// Codes of the errors that plugins of ours report beyond those of the
// specification (SPEC section 5: 100 and up are free).
const (
	// CodeConflict: a name, address or device is in use by something else.
	CodeConflict cni.Code = 100

	// CodeDrift: CHECK found state missing or different.
	CodeDrift cni.Code = 101

	// CodeExhausted: no address is left.
	CodeExhausted cni.Code = 102
)
