// Package invoke calls plugins.
package invoke

import (
	"context"
	"encoding/json"
	"os"

	"github.com/plumb-cni/plumb/cni"

	"github.com/containernetworking/cni/internal/convert"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"
)

// An Exec finds and executes plugins. A program may bring its own.
type Exec interface {
	// ExecPlugin executes a plugin with that standard input and environment and
	// returns its standard output. Errors that the plugin reported are
	// *types.Error.
	ExecPlugin(ctx context.Context, pluginPath string, stdinData []byte, environ []string) ([]byte, error)

	// FindInPath returns what ExecPlugin takes as the path of a plugin.
	FindInPath(plugin string, paths []string) (string, error)

	// Decode decodes what a plugin answers to VERSION.
	Decode(jsonBytes []byte) (version.PluginInfo, error)
}

// A DefaultExec is the Exec that starts processes.
type DefaultExec struct {
	*RawExec
	version.PluginDecoder
}

var _ Exec = (*DefaultExec)(nil)

// orDefault returns exec, or the one to use where a caller gives none.
func orDefault(exec Exec) Exec {
	if exec == nil {
		return &DefaultExec{RawExec: &RawExec{Stderr: os.Stderr}}
	}
	return exec
}

// ExecPluginWithResult calls a plugin, and decodes the result that it answers. One
// that names no version is of that of netconf. A nil exec starts a process.
func ExecPluginWithResult(ctx context.Context, pluginPath string, netconf []byte, args CNIArgs, exec Exec) (types.Result, error) {
	answer, err := orDefault(exec).ExecPlugin(ctx, pluginPath, netconf, args.AsEnv())
	if err != nil {
		return nil, err
	}
	v, err := create.DecodeVersion(netconf)
	if err != nil {
		return nil, err
	}
	result, err := cni.DecodeResult(answer, cni.Version(v))
	if err != nil {
		return nil, err
	}
	return convert.From(result, string(result.CNIVersion))
}

// ExecPluginWithoutResult calls a plugin with a verb that has no result. A nil exec
// starts a process.
func ExecPluginWithoutResult(ctx context.Context, pluginPath string, netconf []byte, args CNIArgs, exec Exec) error {
	_, err := orDefault(exec).ExecPlugin(ctx, pluginPath, netconf, args.AsEnv())
	return err
}

// GetVersionInfo asks a plugin for the versions that it supports. One that doesn't
// know the question supports 0.1.0. A nil exec starts a process.
func GetVersionInfo(ctx context.Context, pluginPath string, exec Exec) (version.PluginInfo, error) {
	exec = orDefault(exec)
	// Plugins of old want the variables of an attachment even here.
	args := &Args{Command: string(cni.VerbVersion), ContainerID: "dummy", NetNS: "dummy", IfName: "dummy", Path: "dummy"}
	config, err := json.Marshal(map[string]string{"cniVersion": version.Current()})
	if err != nil {
		return nil, err
	}
	answer, err := exec.ExecPlugin(ctx, pluginPath, config, args.AsEnv())
	if err != nil && err.Error() == "unknown CNI_COMMAND: VERSION" {
		return version.PluginSupports(string(cni.V010)), nil
	}
	if err != nil {
		return nil, err
	}
	return exec.Decode(answer)
}
