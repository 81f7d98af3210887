package invoke

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"

	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"
)

// ExecBy returns an Exec that has one of plumb's invokers call the plugins, such as
// that of plumb's package inprocess, which needs no process for plumb's plugins:
//
//	networks := libcni.NewCNIConfig(path, invoke.ExecBy(invoker))
//
// The original of this module doesn't have it: a program that uses it builds with
// plumb's alone.
func ExecBy(invoker runtime.Invoker) Exec { return &by{invoker: invoker} }

type by struct {
	version.PluginDecoder
	invoker runtime.Invoker
}

// Invoker is what package libcni calls in the place of the rest.
func (b *by) Invoker() runtime.Invoker { return b.invoker }

// FindInPath finds what can be executed; of anything else the name alone is the
// path, since the invoker may know the plugin without.
func (b *by) FindInPath(plugin string, paths []string) (string, error) {
	file, err := FindInPath(plugin, paths)
	if missing := (*runtime.NotFoundError)(nil); errors.As(err, &missing) {
		return plugin, nil
	}
	return file, err
}

// ExecPlugin has the invoker call the plugin with what environ says.
func (b *by) ExecPlugin(ctx context.Context, pluginPath string, stdinData []byte, environ []string) ([]byte, error) {
	req := request(environ, stdinData)
	if dir := filepath.Dir(pluginPath); dir != "." {
		req.Path = append([]string{dir}, req.Path...) // what was found goes first
	}
	plugin := filepath.Base(pluginPath)
	if req.Verb == cni.VerbVersion {
		versions, err := b.invoker.Versions(ctx, plugin, req.Path)
		if err != nil {
			return nil, failure(err)
		}
		return cni.EncodeVersions("", versions), nil
	}
	result, err := b.invoker.Invoke(ctx, plugin, req)
	if err != nil {
		return nil, failure(err)
	}
	if result == nil {
		return nil, nil
	}
	v, err := create.DecodeVersion(stdinData)
	if err != nil {
		return nil, err
	}
	return result.Encode(cmp.Or(result.CNIVersion, cni.Version(v)))
}

// request returns the request that an environment tells of. Of a variable that is
// there twice the later one counts.
func request(environ []string, config []byte) *cni.Request {
	if environ == nil {
		environ = os.Environ()
	}
	vars := map[string]string{}
	for _, variable := range environ {
		key, value, _ := strings.Cut(variable, "=")
		vars[key] = value
	}
	override := vars["CNI_NETNS_OVERRIDE"]
	return &cni.Request{
		Verb: cni.Verb(vars["CNI_COMMAND"]), ContainerID: vars["CNI_CONTAINERID"], NetNS: vars["CNI_NETNS"], IfName: vars["CNI_IFNAME"],
		Args: vars["CNI_ARGS"], Path: filepath.SplitList(vars["CNI_PATH"]), Config: config,
		NetNSOverride: override == "1" || strings.EqualFold(override, "true"),
	}
}
