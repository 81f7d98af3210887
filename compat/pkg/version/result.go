package version

import (
	"encoding/json"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
)

// A ConfigDecoder decodes the version of a configuration.
type ConfigDecoder struct{}

// Decode returns the version that a configuration names, and 0.1.0 for one that
// names none.
func (*ConfigDecoder) Decode(jsonBytes []byte) (string, error) {
	return create.DecodeVersion(jsonBytes)
}

// NewResult decodes a result that has to be of the format of that version.
func NewResult(version string, resultBytes []byte) (types.Result, error) {
	return create.Create(version, resultBytes)
}

// ParsePrevResult moves conf.RawPrevResult to conf.PrevResult, which is nil if
// there is none. It has to be of the version of conf; one that names no version
// is.
func ParsePrevResult(conf *types.PluginConf) error {
	if conf.RawPrevResult == nil {
		return nil
	}
	raw := conf.RawPrevResult
	conf.RawPrevResult = nil
	if v, ok := raw["cniVersion"]; !ok || v == "" {
		raw["cniVersion"] = conf.CNIVersion
	}
	data, err := json.Marshal(raw)
	if err != nil {
		return fmt.Errorf("could not serialize prevResult: %w", err)
	}
	if conf.PrevResult, err = create.Create(conf.CNIVersion, data); err != nil {
		return fmt.Errorf("could not parse prevResult: %w", err)
	}
	return nil
}
