package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/fused"
	"github.com/plumb-cni/plumb/internal/plugindir"
	"github.com/plumb-cni/plumb/internal/sweep"
	"github.com/plumb-cni/plumb/plugins/all"
	"github.com/plumb-cni/plumb/runtime"
)

const removeHelp = `Run it when other plugins have taken over this host, and have deleted attachments that plumb's had made. It
removes what they could not know of:

  - tables "inet plumb" and "bridge plumb" of nftables, and sets and chains plumb-* in tables of others
  - links on the host with the tag of an attachment that is gone
  - routes to ::1 on bridges, by which published ports are reached there, and what leads to them at 127.0.0.1
  - names of containers that the resolver of dnsname knows, and with the last the resolver
  - records in /run/plumb
  - indexes of addresses, DIR/.plumb, where DIR is a dataDir of host-local: /var/lib/cni/networks,
    those that records name, and any given by --datadir. Who holds which address stays as it is.
  - in the folder BIN, such as /opt/cni/bin: plumb's programs and the links that lead to them. What "plumb plugins
    install --force" replaced there comes back. Other plugins may also be put there first.

What other plugins made is left alone. So is, while attachments of plumb's are alive, what they need: their elements,
records and indexes, the tables, and plugins in BIN that nobody else stands in for. It then says whose they are; run it
again when they are gone. The traffic of running containers never stops. No plugin of plumb's should be adding an attachment meanwhile.`

func removeCommand() *cobra.Command {
	var r removal
	c := &cobra.Command{
		Use:   "remove [BIN]",
		Short: "After other plugins have taken over: sweep what is plumb's own",
		Long:  removeHelp,
		Args:  arguments,
		RunE: func(c *cobra.Command, args []string) error {
			for _, dir := range r.sweep.DataDirs {
				if !filepath.IsAbs(dir) {
					return fmt.Errorf("--datadir %q is not an absolute path", dir)
				}
			}
			// Before anything is swept: who mistypes the folder may have meant another host.
			if len(args) == 1 {
				bin, err := pluginFolder(args[0])
				if err != nil {
					return err
				}
				if _, err := os.Stat(bin.Dir); err != nil {
					return err
				}
				r.bin = &bin
			}
			return r.run(c.Context(), c.OutOrStdout())
		},
	}
	c.Flags().StringArrayVar(&r.sweep.DataDirs, "datadir", nil, "a dataDir of host-local to look into, besides those that are known; may be repeated")
	c.Flags().StringVar(&r.netDir, "netdir", defaultNetDir, "where network configurations are, to tell which name plugins that go")
	c.Flags().StringArrayVar(&r.byDpkg, "by-dpkg", nil, "a folder of links to this program that dpkg is about to take out, to tell the same of; may be repeated")
	return c
}

// A removal is of what is ours on the host, and of plugins.
type removal struct {
	sweep  sweep.Sweep
	bin    *plugindir.Folder // to take plugins out of, if any
	byDpkg []string          // folders out of which a package takes them
	netDir string
}

func (r *removal) run(ctx context.Context, out io.Writer) error {
	err := r.sweep.Run(ctx)
	for _, what := range r.sweep.Removed {
		fmt.Fprintln(out, "removed", what)
	}
	for _, who := range r.sweep.Live {
		fmt.Fprintln(out, "kept what", who, "needs, which is alive")
	}
	if len(r.byDpkg) > 0 {
		err = errors.Join(err, r.tellUsersOfPackage(out))
	}
	if err != nil || r.bin == nil {
		return err
	}
	done, err := r.bin.Remove(ctx, len(r.sweep.Live) > 0)
	for _, what := range done {
		fmt.Fprintln(out, what)
	}
	if err == nil && len(r.sweep.Live) > 0 {
		fmt.Fprintf(out, "kept the plugins in %s that nobody else stands in for: they delete what is alive\n", r.bin.Dir)
	}
	return errors.Join(err, r.tellUsers(out, func(plugin string) bool {
		_, err := runtime.Find(plugin, []string{r.bin.Dir})
		return err == nil
	}))
}

// tellUsersOfPackage names the lists that fail when this program goes.
func (r *removal) tellUsersOfPackage(out io.Writer) error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	return r.tellUsers(out, func(plugin string) bool {
		for _, dir := range r.byDpkg {
			program, err := filepath.EvalSymlinks(filepath.Join(dir, plugin))
			if err == nil && filepath.Dir(program) != filepath.Dir(self) {
				return true
			}
		}
		return false
	})
}

// tellUsers names the lists that ask for plugins which no other implementation
// has, and of which nothing stays.
func (r *removal) tellUsers(out io.Writer, stays func(plugin string) bool) error {
	lists, err := cni.LoadDir(r.netDir)
	if errors.Is(err, fs.ErrNotExist) && len(lists) == 0 {
		return nil
	}
	for _, l := range lists {
		for _, p := range l.Plugins {
			if (all.OnRequest(p.Type) || p.Type == fused.Name) && !stays(p.Type) {
				fmt.Fprintf(out, "network %q in %s uses the plugin %s, and fails without it\n", l.Name, r.netDir, p.Type)
			}
		}
	}
	return err
}
