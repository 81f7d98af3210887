package libcni

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"
)

// An invoker calls plugins by an Exec.
type invoker struct {
	exec invoke.Exec // nil starts processes
}

var _ runtime.Invoker = invoker{}

func (i invoker) get() invoke.Exec {
	if i.exec == nil {
		return &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}, PluginDecoder: version.PluginDecoder{}}
	}
	return i.exec
}

// Invoke calls a plugin.
func (i invoker) Invoke(ctx context.Context, plugin string, req *cni.Request) (*cni.Result, error) {
	exec := i.get()
	file, err := exec.FindInPath(plugin, req.Path)
	if err != nil {
		return nil, err
	}
	args := &invoke.Args{
		Command: string(req.Verb), ContainerID: req.ContainerID, NetNS: req.NetNS, IfName: req.IfName,
		PluginArgsStr: req.Args, Path: strings.Join(req.Path, string(filepath.ListSeparator)),
	}
	answer, err := exec.ExecPlugin(ctx, file, req.Config, args.AsEnv())
	if err != nil || req.Verb != cni.VerbAdd {
		return nil, err
	}
	v, err := create.DecodeVersion(req.Config) // that of a result which names none
	if err != nil {
		return nil, err
	}
	return cni.DecodeResult(answer, cni.Version(v))
}

// Versions asks a plugin for its versions.
func (i invoker) Versions(ctx context.Context, plugin string, path []string) ([]cni.Version, error) {
	exec := i.get()
	file, err := exec.FindInPath(plugin, path)
	if err != nil {
		return nil, err
	}
	info, err := invoke.GetVersionInfo(ctx, file, exec)
	if err != nil {
		return nil, err
	}
	var versions []cni.Version
	for _, v := range info.SupportedVersions() {
		versions = append(versions, cni.Version(v))
	}
	return versions, nil
}
