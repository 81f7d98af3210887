// Package ns tells network namespaces apart.
package ns

import (
	"github.com/plumb-cni/plumb/protocol"

	"github.com/containernetworking/cni/pkg/types"
)

// CheckNetNS reports whether the calling thread is in the network namespace that
// nsPath leads to. A path that leads nowhere is no namespace, and no error: on DEL
// it is normal. The error has ErrInvalidNetNS.
func CheckNetNS(nsPath string) (bool, *types.Error) {
	same, err := protocol.SameNetNS("", nsPath)
	if err != nil {
		return false, types.NewError(types.ErrInvalidNetNS, err.Error(), "")
	}
	return same, nil
}
