package version

import (
	"fmt"
	"slices"
)

// An ErrorIncompatible says that a plugin doesn't support the version of a
// configuration.
type ErrorIncompatible struct {
	Config    string   // version of the configuration
	Supported []string // by the plugin
}

// Details names the versions.
func (e *ErrorIncompatible) Details() string {
	return fmt.Sprintf("config is %q, plugin supports %q", e.Config, e.Supported)
}

// Error returns a message with the Details.
func (e *ErrorIncompatible) Error() string { return "incompatible CNI versions: " + e.Details() }

// A Reconciler compares the version of a configuration with those that a plugin
// supports.
type Reconciler struct{}

// Check returns nil if the plugin supports the version.
func (r *Reconciler) Check(configVersion string, pluginInfo PluginInfo) *ErrorIncompatible {
	return r.CheckRaw(configVersion, pluginInfo.SupportedVersions())
}

// CheckRaw returns nil if the version is one of those supported.
func (*Reconciler) CheckRaw(configVersion string, supportedVersions []string) *ErrorIncompatible {
	if slices.Contains(supportedVersions, configVersion) {
		return nil
	}
	return &ErrorIncompatible{configVersion, supportedVersions}
}
