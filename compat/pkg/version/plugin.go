package version

import (
	"io"

	"github.com/plumb-cni/plumb/cni"
)

// A PluginInfo says which versions of the specification a plugin supports.
type PluginInfo interface {
	// SupportedVersions are at least one. The plugin answers in the version of
	// the configuration that it is sent.
	SupportedVersions() []string

	// Encode writes the answer to VERSION: a line of JSON.
	Encode(io.Writer) error
}

type pluginInfo []cni.Version

// PluginSupports returns the PluginInfo of these versions. It panics if there are
// none.
func PluginSupports(supportedVersions ...string) PluginInfo {
	if len(supportedVersions) == 0 {
		panic("version.PluginSupports: no versions")
	}
	p := make(pluginInfo, len(supportedVersions))
	for i, v := range supportedVersions {
		p[i] = cni.Version(v)
	}
	return p
}

func (p pluginInfo) SupportedVersions() []string {
	versions := make([]string, len(p))
	for i, v := range p {
		versions[i] = string(v)
	}
	return versions
}

func (p pluginInfo) Encode(w io.Writer) error {
	_, err := w.Write(cni.EncodeVersions(cni.Latest, p))
	return err
}

// A PluginDecoder decodes what plugins answer to VERSION.
type PluginDecoder struct{}

// Decode decodes an answer. One of 0.2.0 may leave its versions out, which means
// 0.1.0 and 0.2.0.
func (*PluginDecoder) Decode(jsonBytes []byte) (PluginInfo, error) {
	versions, err := cni.DecodeVersions(jsonBytes)
	if err != nil {
		return nil, err
	}
	return pluginInfo(versions), nil
}
