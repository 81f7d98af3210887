// Package skel is the process of a plugin: it reads a request, refuses what can be
// refused without knowing the plugin, as plumb's package protocol does, and calls
// the function of its verb. ADD prints its result itself, with types.PrintResult.
package skel

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/protocol"

	"github.com/containernetworking/cni/internal/wire"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// CmdArgs are a request.
type CmdArgs struct {
	ContainerID   string // CNI_CONTAINERID
	Netns         string // CNI_NETNS, a path; may be empty on DEL
	IfName        string // CNI_IFNAME
	Args          string // CNI_ARGS; types.LoadArgs decodes it
	Path          string // CNI_PATH
	NetnsOverride string // CNI_NETNS_OVERRIDE
	StdinData     []byte // the configuration
}

// CNIFuncs are the verbs of a plugin. One that is nil succeeds and does nothing. An
// error that wraps a *types.Error is reported as that one, any other with
// ErrInternal.
type CNIFuncs struct {
	Add    func(_ *CmdArgs) error
	Del    func(_ *CmdArgs) error
	Check  func(_ *CmdArgs) error
	GC     func(_ *CmdArgs) error
	Status func(_ *CmdArgs) error
}

// PluginMainFuncs serves the request of this process. If it fails, it prints the
// error on standard output and exits with status 1.
//
// VERSION is answered with versionInfo. Without a CNI_COMMAND, about is printed on
// standard error; "CNI plugin NAME vVERSION" is usual.
func PluginMainFuncs(funcs CNIFuncs, versionInfo version.PluginInfo, about string) {
	if failed := PluginMainFuncsWithError(funcs, versionInfo, about); failed != nil {
		if err := failed.Print(); err != nil {
			log.Print("write error: ", err)
		}
		os.Exit(1)
	}
}

// PluginMainFuncsWithError serves the request of this process as PluginMainFuncs
// does, but leaves it to the caller to report the error.
func PluginMainFuncsWithError(funcs CNIFuncs, versionInfo version.PluginInfo, about string) *types.Error {
	return serve(funcs, versionInfo, about, protocol.OS())
}

// PluginMain is PluginMainFuncs without GC and STATUS.
//
// Deprecated: use PluginMainFuncs.
func PluginMain(cmdAdd, cmdCheck, cmdDel func(_ *CmdArgs) error, versionInfo version.PluginInfo, about string) {
	PluginMainFuncs(CNIFuncs{Add: cmdAdd, Check: cmdCheck, Del: cmdDel}, versionInfo, about)
}

// PluginMainWithError is PluginMainFuncsWithError without GC and STATUS.
//
// Deprecated: use PluginMainFuncsWithError.
func PluginMainWithError(cmdAdd, cmdCheck, cmdDel func(_ *CmdArgs) error, versionInfo version.PluginInfo, about string) *types.Error {
	return PluginMainFuncsWithError(CNIFuncs{Add: cmdAdd, Check: cmdCheck, Del: cmdDel}, versionInfo, about)
}

// serve serves one request.
func serve(funcs CNIFuncs, versions version.PluginInfo, about string, env protocol.Environment) *types.Error {
	if about != "" && env.Getenv("CNI_COMMAND") == "" {
		fmt.Fprintf(env.Stderr, "%s\nCNI protocol versions supported: %s\n", about, strings.Join(versions.SupportedVersions(), ", "))
		return nil
	}
	p := &plugin{funcs, versions, env}
	req, err := protocol.Receive(p, env)
	switch {
	case err != nil:
	case req.Verb == cni.VerbVersion:
		err = versions.Encode(env.Stdout)
	default:
		_, err = p.Handle(context.Background(), req)
	}
	if err != nil {
		return wire.Answer(err)
	}
	return nil
}

// A plugin is its functions as package protocol sees them.
type plugin struct {
	funcs    CNIFuncs
	versions version.PluginInfo
	env      protocol.Environment
}

var _ protocol.Handler = (*plugin)(nil)

// Name is that of the executable: nothing else here knows it.
func (p *plugin) Name() string { return filepath.Base(os.Args[0]) }

func (p *plugin) Versions() []cni.Version {
	var versions []cni.Version
	for _, v := range p.versions.SupportedVersions() {
		versions = append(versions, cni.Version(v))
	}
	return versions
}

// Handle calls the function of the verb. It has printed its result when it returns.
func (p *plugin) Handle(_ context.Context, req *cni.Request) (*cni.Result, error) {
	call := map[cni.Verb]func(*CmdArgs) error{
		cni.VerbAdd: p.funcs.Add, cni.VerbDel: p.funcs.Del, cni.VerbCheck: p.funcs.Check,
		cni.VerbGC: p.funcs.GC, cni.VerbStatus: p.funcs.Status,
	}[req.Verb]
	if call == nil {
		return nil, nil
	}
	return nil, call(&CmdArgs{
		ContainerID:   req.ContainerID,
		Netns:         req.NetNS,
		IfName:        req.IfName,
		Args:          p.env.Getenv("CNI_ARGS"), // of any verb: a plugin that delegates GC or STATUS passes its own on
		Path:          p.env.Getenv("CNI_PATH"),
		NetnsOverride: p.env.Getenv("CNI_NETNS_OVERRIDE"),
		StdinData:     req.Config,
	})
}
