// Package create decodes results of every version.
package create

import (
	"encoding/json"
	"fmt"

	"github.com/plumb-cni/plumb/cni"

	"github.com/containernetworking/cni/internal/convert"
	"github.com/containernetworking/cni/pkg/types"
	_ "github.com/containernetworking/cni/pkg/types/100" // and with it the older formats
)

// DecodeVersion returns the version that a configuration or a result names, and
// 0.1.0 for one that names none.
func DecodeVersion(jsonBytes []byte) (string, error) {
	var versioned struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(jsonBytes, &versioned); err != nil {
		return "", fmt.Errorf("decoding version from network config: %w", err)
	}
	if versioned.CNIVersion == "" {
		return string(cni.V010), nil
	}
	return versioned.CNIVersion, nil
}

// Create decodes a result that has to be of the format of that version.
func Create(version string, bytes []byte) (types.Result, error) {
	return convert.Create(version, bytes)
}

// CreateFromBytes decodes a result of the version that it names.
func CreateFromBytes(bytes []byte) (types.Result, error) {
	version, err := DecodeVersion(bytes)
	if err != nil {
		return nil, err
	}
	return convert.Create(version, bytes)
}
