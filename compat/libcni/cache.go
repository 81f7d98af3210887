package libcni

import (
	"encoding/json"
	"errors"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"

	"github.com/containernetworking/cni/internal/convert"
	"github.com/containernetworking/cni/internal/wire"
	"github.com/containernetworking/cni/pkg/types"
)

// CNICacheV1 is the kind of the cache's files.
const CNICacheV1 = "cniCacheV1"

// CacheDir is the folder of the cache where the caller names none.
var CacheDir = runtime.DefaultCacheDir

// A NetworkAttachment is what was remembered of an ADD.
type NetworkAttachment struct {
	ContainerID    string
	Network        string
	IfName         string
	Config         []byte // the configuration as it was, of a list or of a plugin
	NetNS          string
	CniArgs        [][2]string
	CapabilityArgs map[string]interface{}
}

// GetNetworkListCachedResult returns the cached result, in the version of the list.
// It is nil if there is none.
func (c *CNIConfig) GetNetworkListCachedResult(list *NetworkConfigList, rt *RuntimeConf) (types.Result, error) {
	return c.cachedResult(list.list(), rt)
}

// GetNetworkCachedResult returns the cached result, in the version of the plugin's
// configuration. It is nil if there is none.
func (c *CNIConfig) GetNetworkCachedResult(net *PluginConfig, rt *RuntimeConf) (types.Result, error) {
	return c.cachedResult(net.list(), rt)
}

// GetNetworkListCachedConfig returns the cached configuration, and a copy of rt
// with the cached arguments. Both are nil if there is nothing.
func (c *CNIConfig) GetNetworkListCachedConfig(list *NetworkConfigList, rt *RuntimeConf) ([]byte, *RuntimeConf, error) {
	return c.cachedConfig(list.Name, rt)
}

// GetNetworkCachedConfig returns the cached configuration, and a copy of rt with
// the cached arguments. Both are nil if there is nothing.
func (c *CNIConfig) GetNetworkCachedConfig(net *PluginConfig, rt *RuntimeConf) ([]byte, *RuntimeConf, error) {
	return c.cachedConfig(net.Network.Name, rt)
}

// GetCachedAttachments returns the cached attachments of a container, or of all
// with an empty ID. Files that can't be used are left out.
func (c *CNIConfig) GetCachedAttachments(containerID string) ([]*NetworkAttachment, error) {
	cached, err := c.runtime(nil).Attachments(containerID)
	if unusable(err) {
		err = nil
	}
	var attachments []*NetworkAttachment
	for _, a := range cached {
		attachments = append(attachments, &NetworkAttachment{
			a.ContainerID, a.Network, a.IfName, a.Config, a.NetNS, a.Args, plain(a.CapabilityArgs),
		})
	}
	return attachments, err
}

func (c *CNIConfig) cachedResult(list *cni.List, rt *RuntimeConf) (types.Result, error) {
	cached, err := c.runtime(rt).Cached(list.Name, rt.ContainerID, rt.IfName)
	if cached == nil || cached.Result == nil {
		return nil, wire.Coded(err)
	}
	return convert.From(cached.Result, string(list.CNIVersion))
}

func (c *CNIConfig) cachedConfig(network string, rt *RuntimeConf) ([]byte, *RuntimeConf, error) {
	cached, err := c.runtime(rt).Cached(network, rt.ContainerID, rt.IfName)
	if cached == nil {
		return nil, nil, wire.Coded(err)
	}
	updated := *rt
	if cached.Args != nil {
		updated.Args = cached.Args
	}
	updated.CapabilityArgs = plain(cached.CapabilityArgs)
	return cached.Config, &updated, nil
}

// plain returns capability arguments with numbers as float64, which callers of this
// API know. The cache keeps them digit by digit, as json.Number.
func plain(args map[string]any) map[string]any {
	data, err := json.Marshal(args)
	if err != nil { // what was decoded can be encoded
		return args
	}
	var decoded map[string]any
	if err := json.Unmarshal(data, &decoded); err != nil { // a number that no float64 can hold
		return args
	}
	return decoded
}

// unusable reports whether err is about files of the cache alone.
func unusable(err error) bool {
	var file *runtime.CacheError
	return errors.As(err, &file)
}
