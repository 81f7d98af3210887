// How many processors a cgroup allows is no matter for a process that lives for
// milliseconds: it need not follow that.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command plumb-cni is every plugin, and cnitool, by the name that it is called
// by. It is started thousands of times a day, so it links what they need and
// nothing else.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/cnitool"
	"github.com/plumb-cni/plumb/inprocess"
	"github.com/plumb-cni/plumb/internal/fused"
	"github.com/plumb-cni/plumb/internal/programs"
	"github.com/plumb-cni/plumb/internal/stack"
	"github.com/plumb-cni/plumb/internal/verblog"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugins/all"
	"github.com/plumb-cni/plumb/protocol"
	"github.com/plumb-cni/plumb/runtime"
)

// Stamped by scripts/build.
var (
	version = "0.0.0"
	commit  = "unknown"
)

// matches is the release of the reference plugins that ours stand in for.
// Callers that parse a version compare it with the reference's.
const matches = "1.9.1"

// settingsFile holds what can't be put into a runtime's environment.
const settingsFile = "/etc/plumb/plumb.json"

func main() {
	stack.MakeRoom()
	name := filepath.Base(os.Args[0])
	about := "v" + matches + "+plumb." + version
	if name == "cnitool" {
		ctx, stop := protocol.Signals(context.Background())
		code := cnitool.Run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr, &runtime.Exec{Stderr: os.Stderr}, about)
		stop()
		os.Exit(code)
	}
	if name == "dhcp" && len(os.Args) > 1 && os.Args[1] == "daemon" {
		fmt.Fprintln(os.Stderr, "dhcp daemon:", becomeTool(append([]string{"dhcp-daemon"}, os.Args[2:]...)...))
		os.Exit(1)
	}
	if name == fused.Name && os.Getenv("CNI_COMMAND") != "" {
		serveList(about)
	}
	if name == fused.Name {
		fmt.Fprintln(os.Stderr, "plumb:", becomeTool(os.Args[1:]...))
		os.Exit(1)
	}
	if p, ok := all.Find(name); ok {
		serve(p, about)
	}
	if len(os.Args) == 2 && os.Args[1] == "--list" {
		list()
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "--list-on-request" {
		listOnRequest()
		return
	}
	fmt.Fprintf(os.Stderr, "plumb-cni %s (%s): there is no plugin %q; this program is called by the name of a plugin, through a link (see --list and --list-on-request)\n",
		version, commit, name)
	os.Exit(1)
}

// list prints the names that this program answers to, and that every installation
// has.
func list() {
	fmt.Println("cnitool\n" + fused.Name)
	for _, p := range all.Plugins() {
		if !all.OnRequest(p.Name()) {
			fmt.Println(p.Name())
		}
	}
}

// listOnRequest prints the names of the other plugins.
func listOnRequest() {
	for _, p := range all.Plugins() {
		if all.OnRequest(p.Name()) {
			fmt.Println(p.Name())
		}
	}
}

// serve serves the call of this process with a plugin, and logs it if that is
// asked for.
func serve(p plugin.Plugin, about string) {
	h := &plugin.Host{
		Own: own,
		// Less patient than our own caller, lest the plugin outlive us.
		Foreign: &runtime.Exec{Stderr: os.Stderr, Grace: time.Second},
	}
	destination, err := verblog.Destination(os.Getenv("PLUMB_LOG"), settingsFile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "plumb:", err)
	}
	if destination == "" {
		protocol.Main(p.In(h), about, nil)
	}
	var served *plugin.Entry
	h.Log = func(e plugin.Entry) {
		if served == nil { // else it is the undo of an ADD that could not be answered
			served = &e
		}
	}
	protocol.Main(p.In(h), about, func(_ context.Context, call *cni.Request, err error) {
		if served == nil && err == nil {
			return // VERSION
		}
		if served == nil {
			refused := p.Entry(call, err)
			served = &refused
		} else if err != nil && served.Error == "" {
			served.Error, served.Code = err.Error(), cni.AsError(err).Code
		}
		if err := verblog.Append(destination, *served); err != nil {
			fmt.Fprintln(os.Stderr, "plumb:", err)
		}
	})
}

// serveList serves the call of this process with the list of plugins that its
// configuration holds. Each of them has its line in the log.
func serveList(about string) {
	options := inprocess.Options{Exec: &runtime.Exec{Stderr: os.Stderr, Grace: time.Second}}
	destination, err := verblog.Destination(os.Getenv("PLUMB_LOG"), settingsFile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "plumb:", err)
	}
	if destination != "" {
		options.Log = func(e plugin.Entry) {
			if err := verblog.Append(destination, e); err != nil {
				fmt.Fprintln(os.Stderr, "plumb:", err)
			}
		}
	}
	invoker := inprocess.New(options)
	protocol.Main(fused.List{Invoker: invoker}, about, func(context.Context, *cni.Request, error) {
		_ = invoker.Close() // the end of the process would wait for what this doesn't
	})
}

// own returns our IPAM plugin if the file that a caller would execute is this
// very program; somebody may have put a plugin of the same name before ours.
func own(name string, path []string) plugin.IPAM {
	p, ok := all.FindIPAM(name)
	if !ok {
		return nil
	}
	file, err := runtime.Find(name, path)
	if err != nil {
		return nil
	}
	found, err := os.Stat(file)
	if err != nil {
		return nil
	}
	self, err := os.Stat("/proc/self/exe")
	if err != nil || !os.SameFile(found, self) {
		return nil
	}
	return p
}

// becomeTool replaces this process by the larger program beside this one, which is
// for people and has the daemons. It returns only if it can't.
func becomeTool(args ...string) error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	tool := filepath.Join(filepath.Dir(self), programs.Tool)
	err = syscall.Exec(tool, append([]string{"plumb"}, args...), os.Environ())
	return fmt.Errorf("%s: %w; install it beside %s", tool, err, programs.Plugins)
}
