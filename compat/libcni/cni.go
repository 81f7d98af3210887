// Package libcni runs network configurations, by plumb's package runtime.
//
// What is particular to that holds here too. On DEL every plugin of a list is
// called, also when another fails; the errors are joined, and the cached
// attachment is kept until all have succeeded. Files of the cache appear whole, and
// are told apart by what is inside. A plugin is sent SIGTERM when the context
// ends, and only later SIGKILL.
package libcni

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"

	"github.com/containernetworking/cni/internal/convert"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// CNI is what a CNIConfig does.
type CNI interface {
	AddNetworkList(ctx context.Context, net *NetworkConfigList, rt *RuntimeConf) (types.Result, error)
	CheckNetworkList(ctx context.Context, net *NetworkConfigList, rt *RuntimeConf) error
	DelNetworkList(ctx context.Context, net *NetworkConfigList, rt *RuntimeConf) error
	GetNetworkListCachedResult(net *NetworkConfigList, rt *RuntimeConf) (types.Result, error)
	GetNetworkListCachedConfig(net *NetworkConfigList, rt *RuntimeConf) ([]byte, *RuntimeConf, error)

	AddNetwork(ctx context.Context, net *PluginConfig, rt *RuntimeConf) (types.Result, error)
	CheckNetwork(ctx context.Context, net *PluginConfig, rt *RuntimeConf) error
	DelNetwork(ctx context.Context, net *PluginConfig, rt *RuntimeConf) error
	GetNetworkCachedResult(net *PluginConfig, rt *RuntimeConf) (types.Result, error)
	GetNetworkCachedConfig(net *PluginConfig, rt *RuntimeConf) ([]byte, *RuntimeConf, error)

	ValidateNetworkList(ctx context.Context, net *NetworkConfigList) ([]string, error)
	ValidateNetwork(ctx context.Context, net *PluginConfig) ([]string, error)

	GCNetworkList(ctx context.Context, net *NetworkConfigList, args *GCArgs) error
	GetStatusNetworkList(ctx context.Context, net *NetworkConfigList) error

	GetCachedAttachments(containerID string) ([]*NetworkAttachment, error)

	GetVersionInfo(ctx context.Context, pluginType string) (version.PluginInfo, error)
}

// A CNIConfig runs network configurations. Its methods may be called concurrently.
type CNIConfig struct {
	Path []string // the folders to search for plugins, in order

	exec     invoke.Exec
	cacheDir string
}

var _ CNI = (*CNIConfig)(nil)

// NewCNIConfig returns a CNIConfig that searches these folders for plugins and has
// exec execute them. A nil exec starts processes, whose standard error is that of
// this process.
func NewCNIConfig(path []string, exec invoke.Exec) *CNIConfig {
	return NewCNIConfigWithCacheDir(path, "", exec)
}

// NewCNIConfigWithCacheDir returns what NewCNIConfig does, with a cache in the
// subfolder "results" of cacheDir.
func NewCNIConfigWithCacheDir(path []string, cacheDir string, exec invoke.Exec) *CNIConfig {
	return &CNIConfig{Path: path, exec: exec, cacheDir: cacheDir}
}

// A RuntimeConf is a container's interface on a network, and what the caller says
// about it.
type RuntimeConf struct {
	ContainerID string
	NetNS       string // path of the network namespace; may be empty on DEL
	IfName      string

	// Args become CNI_ARGS. On CHECK and DEL, nil means those of the ADD.
	Args [][2]string

	// CapabilityArgs are offered to the plugins: each is given those that its
	// configuration declares, as its "runtimeConfig". On CHECK and DEL, nil means
	// those of the ADD.
	CapabilityArgs map[string]interface{}

	// CacheDir is the folder of the cache where the CNIConfig has none.
	//
	// Deprecated: use NewCNIConfigWithCacheDir.
	CacheDir string
}

func (rt *RuntimeConf) attachment() runtime.Attachment {
	return runtime.Attachment{
		ContainerID: rt.ContainerID, NetNS: rt.NetNS, IfName: rt.IfName,
		Args: rt.Args, CapabilityArgs: rt.CapabilityArgs,
	}
}

// GCArgs say which attachments GC is to leave alone.
type GCArgs struct {
	ValidAttachments []types.GCAttachment // nil and empty: none is valid
}

// AddNetworkList calls every plugin of the list with ADD and returns the last one's
// result, which it also caches. It stops at the first error; DEL must follow then.
func (c *CNIConfig) AddNetworkList(ctx context.Context, list *NetworkConfigList, rt *RuntimeConf) (types.Result, error) {
	result, err := c.add(ctx, list.list(), rt)
	return result, ofList("add", err)
}

// CheckNetworkList calls every plugin of the list with CHECK and the cached result.
// It stops at the first error, and does nothing when the list disables CHECK.
// Below version 0.4.0 the error matches ErrorCheckNotSupp.
func (c *CNIConfig) CheckNetworkList(ctx context.Context, list *NetworkConfigList, rt *RuntimeConf) error {
	return c.check(ctx, list.list(), rt)
}

// DelNetworkList calls every plugin of the list with DEL, the last first, and
// removes the attachment from the cache when all have succeeded.
func (c *CNIConfig) DelNetworkList(ctx context.Context, list *NetworkConfigList, rt *RuntimeConf) error {
	return ofList("delete", c.runtime(rt).Del(ctx, list.list(), rt.attachment()))
}

// AddNetwork calls a plugin with ADD and caches its result.
func (c *CNIConfig) AddNetwork(ctx context.Context, net *PluginConfig, rt *RuntimeConf) (types.Result, error) {
	result, err := c.add(ctx, net.list(), rt)
	return result, single(err)
}

// CheckNetwork calls a plugin with CHECK and the cached result. Below version 0.4.0
// the error matches ErrorCheckNotSupp.
func (c *CNIConfig) CheckNetwork(ctx context.Context, net *PluginConfig, rt *RuntimeConf) error {
	return c.check(ctx, net.list(), rt)
}

// DelNetwork calls a plugin with DEL, and removes the attachment from the cache if
// that has succeeded.
func (c *CNIConfig) DelNetwork(ctx context.Context, net *PluginConfig, rt *RuntimeConf) error {
	return single(c.runtime(rt).Del(ctx, net.list(), rt.attachment()))
}

// GCNetworkList deletes the cached attachments of this network that are not valid,
// and then, from version 1.1.0, calls every plugin with GC. It goes on after errors
// and joins them. It does nothing when the list disables GC.
//
// With nil args no cached attachment is valid, but plugins are told nothing of
// validity.
func (c *CNIConfig) GCNetworkList(ctx context.Context, list *NetworkConfigList, args *GCArgs) error {
	var valid *runtime.GCArgs
	if args != nil {
		valid = &runtime.GCArgs{}
		for _, a := range args.ValidAttachments {
			valid.Valid = append(valid.Valid, cni.Attachment(a))
		}
	}
	return ofList("gc", c.runtime(nil).GC(ctx, list.list(), valid))
}

// GetStatusNetworkList calls every plugin of the list with STATUS and returns the
// first error. It does nothing below version 1.1.0.
func (c *CNIConfig) GetStatusNetworkList(ctx context.Context, list *NetworkConfigList) error {
	return single(c.runtime(nil).Status(ctx, list.list()))
}

// ValidateNetworkList asks whether every plugin of the list can be found and
// supports the list's version, and returns the capabilities that they declare.
func (c *CNIConfig) ValidateNetworkList(ctx context.Context, list *NetworkConfigList) ([]string, error) {
	capabilities, err := c.runtime(nil).Validate(ctx, list.list())
	return capabilities, single(err)
}

// ValidateNetwork does for a plugin what ValidateNetworkList does.
func (c *CNIConfig) ValidateNetwork(ctx context.Context, net *PluginConfig) ([]string, error) {
	capabilities, err := c.runtime(nil).Validate(ctx, net.list())
	return capabilities, single(err)
}

// GetVersionInfo asks a plugin which versions it supports.
func (c *CNIConfig) GetVersionInfo(ctx context.Context, pluginType string) (version.PluginInfo, error) {
	versions, err := c.runtime(nil).Version(ctx, pluginType)
	if err != nil {
		return nil, single(err)
	}
	supported := make([]string, len(versions))
	for i, v := range versions {
		supported[i] = string(v)
	}
	return version.PluginSupports(supported...), nil
}

func (c *CNIConfig) add(ctx context.Context, list *cni.List, rt *RuntimeConf) (types.Result, error) {
	result, err := c.runtime(rt).Add(ctx, list, rt.attachment())
	if err != nil {
		return nil, err
	}
	return convert.From(result, string(cmp.Or(result.CNIVersion, list.CNIVersion)))
}

func (c *CNIConfig) check(ctx context.Context, list *cni.List, rt *RuntimeConf) error {
	err := c.runtime(rt).Check(ctx, list, rt.attachment())
	if errors.Is(err, runtime.ErrNoCheck) {
		return fmt.Errorf("configuration version %q %w", list.CNIVersion, ErrorCheckNotSupp)
	}
	return single(err)
}

// runtime returns the runtime for a call. Without a rt the cache is that of c.
func (c *CNIConfig) runtime(rt *RuntimeConf) *runtime.Runtime {
	r := &runtime.Runtime{Path: c.Path, CacheDir: c.cacheDir, Invoker: invoker{c.exec}, PassCapabilities: true}
	if r.CacheDir == "" && rt != nil {
		r.CacheDir = rt.CacheDir
	}
	if r.CacheDir == "" {
		r.CacheDir = CacheDir
	}
	if direct, ok := c.exec.(interface{ Invoker() runtime.Invoker }); ok { // of invoke.ExecBy
		r.Invoker = direct.Invoker()
	}
	return r
}
