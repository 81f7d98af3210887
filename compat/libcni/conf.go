package libcni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/plumb-cni/plumb/cni"

	"github.com/containernetworking/cni/pkg/types"
)

// A NetworkConfigList is a network configuration: plugins that are called in order.
type NetworkConfigList struct {
	Name                   string
	CNIVersion             string
	DisableCheck           bool // CHECK is not to be called
	DisableGC              bool // GC is not to be called
	LoadOnlyInlinedPlugins bool // plugins in the folder of the network's name don't count
	Plugins                []*PluginConfig
	Bytes                  []byte // the list as JSON, without plugins from other files
}

// A PluginConfig is the configuration of one plugin. Its Bytes are what the plugin
// is sent; of Network its type, its capabilities and, where it stands alone, the
// network's name and version are looked at.
type PluginConfig struct {
	Network *types.PluginConf
	Bytes   []byte
}

// NetworkConfig is the name that PluginConfig had.
type NetworkConfig = PluginConfig

// list returns l as plumb's.
func (l *NetworkConfigList) list() *cni.List {
	list := &cni.List{
		Name: l.Name, CNIVersion: orFirst(l.CNIVersion), Raw: l.Bytes,
		DisableCheck: l.DisableCheck, DisableGC: l.DisableGC, LoadOnlyInlinedPlugins: l.LoadOnlyInlinedPlugins,
	}
	for _, p := range l.Plugins {
		list.Plugins = append(list.Plugins, p.config(list))
	}
	return list
}

// list returns a list of p alone.
func (p *PluginConfig) list() *cni.List {
	list := &cni.List{Name: p.Network.Name, CNIVersion: orFirst(p.Network.CNIVersion), Raw: p.Bytes, Single: true}
	list.Plugins = []*cni.Config{p.config(list)}
	return list
}

func (p *PluginConfig) config(of *cni.List) *cni.Config {
	return &cni.Config{
		Name: of.Name, CNIVersion: of.CNIVersion,
		Type: p.Network.Type, Capabilities: p.Network.Capabilities, Raw: p.Bytes,
	}
}

// orFirst is the version of a configuration that may name none.
func orFirst(version string) cni.Version {
	if version == "" {
		return cni.V010
	}
	return cni.Version(version)
}

// fromList returns plumb's list as one of this package.
func fromList(list *cni.List) (*NetworkConfigList, error) {
	l := &NetworkConfigList{
		Name: list.Name, CNIVersion: string(list.CNIVersion), Bytes: list.Raw,
		DisableCheck: list.DisableCheck, DisableGC: list.DisableGC, LoadOnlyInlinedPlugins: list.LoadOnlyInlinedPlugins,
	}
	for _, c := range list.Plugins {
		p, err := NetworkPluginConfFromBytes(c.Raw)
		if err != nil {
			return nil, err
		}
		l.Plugins = append(l.Plugins, p)
	}
	return l, nil
}

// NetworkConfFromBytes decodes a network configuration. Its version is the newest
// of those that it names and this module knows. A list without plugins is
// accepted: they may be in other files, see NetworkConfFromFile. The
// configuration of a single plugin becomes a list.
func NetworkConfFromBytes(confBytes []byte) (*NetworkConfigList, error) {
	list, err := cni.ParseList(confBytes)
	if err != nil {
		return nil, fmt.Errorf("error parsing configuration list: %w", err)
	}
	return fromList(list)
}

// NetworkConfFromFile reads a network configuration. Unless it sets
// loadOnlyInlinedPlugins, the plugins NETWORK/*.conf beside it follow its own. A
// list without any plugin is an error.
func NetworkConfFromFile(filename string) (*NetworkConfigList, error) {
	list, err := cni.LoadList(filename)
	if err != nil {
		return nil, fmt.Errorf("error reading %s: %w", filename, err)
	}
	return fromList(list)
}

// NetworkPluginConfFromBytes decodes the configuration of a plugin.
func NetworkPluginConfFromBytes(pluginConfBytes []byte) (*PluginConfig, error) {
	p := &PluginConfig{Network: new(types.PluginConf), Bytes: pluginConfBytes}
	if err := json.Unmarshal(pluginConfBytes, p.Network); err != nil {
		return nil, fmt.Errorf("error parsing configuration: %w", err)
	}
	if p.Network.Type == "" {
		return nil, errors.New("error parsing configuration: missing 'type'")
	}
	return p, nil
}

// NetworkPluginConfsFromFiles reads the plugins of a network that are in files of
// their own, networkConfPath/networkName/*.conf, in the order of their names. There
// may be none.
func NetworkPluginConfsFromFiles(networkConfPath, networkName string) ([]*PluginConfig, error) {
	files, err := ConfFiles(filepath.Join(networkConfPath, networkName), []string{".conf"})
	if err != nil {
		return nil, fmt.Errorf("failed to read plugin config files: %w", err)
	}
	var plugins []*PluginConfig
	for _, file := range files {
		p, err := ConfFromFile(file)
		if err != nil {
			return nil, err
		}
		plugins = append(plugins, p)
	}
	return plugins, nil
}

// LoadNetworkConf returns the network of that name from a folder: from *.conflist
// or else *.conf and *.json, in the order of their names. A file that can't be
// loaded doesn't hide a good one. The error matches NoConfigsFoundError or
// NotFoundError (errors.As) if there is none.
func LoadNetworkConf(dir, name string) (*NetworkConfigList, error) {
	list, err := cni.FindList(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(dir, name, ".conflist", ".conf", ".json")
	}
	if err != nil {
		return nil, err
	}
	return fromList(list)
}

// notFound returns why a folder has no network of that name in files with these
// extensions.
func notFound(dir, name string, extensions ...string) error {
	files, err := ConfFiles(dir, extensions)
	switch {
	case err != nil:
		return err
	case len(files) == 0:
		return NoConfigsFoundError{dir}
	}
	// What could not be loaded may be what was looked for.
	var errs []error
	for _, file := range files {
		if _, err := cni.LoadList(file); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w: %w", NotFoundError{dir, name}, errors.Join(errs...))
	}
	return NotFoundError{dir, name}
}

// LoadConfList is the name that LoadNetworkConf had.
func LoadConfList(dir, name string) (*NetworkConfigList, error) { return LoadNetworkConf(dir, name) }

// ConfListFromBytes is the name that NetworkConfFromBytes had.
func ConfListFromBytes(bytes []byte) (*NetworkConfigList, error) { return NetworkConfFromBytes(bytes) }

// ConfListFromFile is the name that NetworkConfFromFile had.
func ConfListFromFile(filename string) (*NetworkConfigList, error) {
	return NetworkConfFromFile(filename)
}

// ConfFromBytes is the name that NetworkPluginConfFromBytes had.
//
// Deprecated: a network is a list; use NetworkConfFromBytes.
func ConfFromBytes(bytes []byte) (*NetworkConfig, error) { return NetworkPluginConfFromBytes(bytes) }

// ConfFromFile reads the configuration of a plugin.
//
// Deprecated: a network is a list; use NetworkConfFromFile.
func ConfFromFile(filename string) (*NetworkConfig, error) {
	data, err := os.ReadFile(filename)
	if err != nil {
		return nil, fmt.Errorf("error reading %s: %w", filename, err)
	}
	return ConfFromBytes(data)
}

// LoadConf returns the configuration of a single plugin for the network of that
// name, from *.conf and *.json of a folder, in the order of their names.
//
// Deprecated: a network is a list; use LoadNetworkConf.
func LoadConf(dir, name string) (*NetworkConfig, error) {
	files, err := ConfFiles(dir, []string{".conf", ".json"})
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if p, err := ConfFromFile(file); err == nil && p.Network.Name == name {
			return p, nil
		}
	}
	return nil, notFound(dir, name, ".conf", ".json")
}

// ConfListFromConf returns the configuration of a single plugin as a list.
//
// Deprecated: a network is a list; use NetworkConfFromBytes.
func ConfListFromConf(original *PluginConfig) (*NetworkConfigList, error) {
	list, err := cni.ParseList(original.Bytes)
	if err != nil {
		return nil, fmt.Errorf("error parsing configuration: %w", err)
	}
	return fromList(list)
}

// ConfFiles returns the files of a folder that have one of these extensions, in the
// order of their names. A folder that isn't there has none.
func ConfFiles(dir string, extensions []string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files := []string{}
	for _, entry := range entries {
		if !entry.IsDir() && slices.Contains(extensions, filepath.Ext(entry.Name())) {
			files = append(files, filepath.Join(dir, entry.Name()))
		}
	}
	return files, nil
}

// InjectConf returns a configuration with keys replaced or added. No value may be
// nil.
func InjectConf(original *PluginConfig, newValues map[string]interface{}) (*PluginConfig, error) {
	for key, value := range newValues {
		if key == "" {
			return nil, errors.New("keys cannot be empty")
		}
		if value == nil {
			return nil, fmt.Errorf("key '%s' value must not be nil", key)
		}
	}
	data, err := cni.Derive(original.Bytes, newValues)
	if err != nil {
		return nil, fmt.Errorf("unmarshal existing network bytes: %w", err)
	}
	return NetworkPluginConfFromBytes(data)
}
