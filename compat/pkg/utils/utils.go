// Package utils checks the names that a request has, by the specification's rules.
package utils

import (
	"errors"

	"github.com/plumb-cni/plumb/cni"

	"github.com/containernetworking/cni/internal/wire"
	"github.com/containernetworking/cni/pkg/types"
)

// ValidateContainerID checks a container ID: a letter or digit, then letters,
// digits, underscores, dots and hyphens. The error has ErrUnknownContainer if it
// is empty, else ErrInvalidEnvironmentVariables.
func ValidateContainerID(containerID string) *types.Error {
	failed := answer(cni.ValidateContainerID(containerID))
	if containerID == "" {
		failed.Code = types.ErrUnknownContainer
	}
	return failed
}

// ValidateNetworkName checks the name of a network, which has the form of a
// container ID. The error has ErrInvalidNetworkConfig.
func ValidateNetworkName(networkName string) *types.Error {
	return answer(cni.ValidateName(networkName))
}

// ValidateInterfaceName checks the name of an interface by the kernel's rules: 1 to
// 15 bytes, not "." or "..", without slash, colon and space. The error has
// ErrInvalidEnvironmentVariables.
func ValidateInterfaceName(ifName string) *types.Error {
	return answer(cni.ValidateIfName(ifName))
}

func answer(err error) *types.Error {
	if e := (*cni.Error)(nil); errors.As(err, &e) {
		return wire.Error(e)
	}
	return nil
}
