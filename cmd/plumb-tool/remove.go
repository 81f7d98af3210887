package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	var s sweep.Sweep
	var netDir string
	c := &cobra.Command{
		Use:   "remove [BIN]",
		Short: "After other plugins have taken over: sweep what is plumb's own",
		Long:  removeHelp,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, dir := range s.DataDirs {
				if !filepath.IsAbs(dir) {
					return fmt.Errorf("--datadir %q is not an absolute path", dir)
				}
			}
			bin := ""
			if len(args) == 1 {
				bin = args[0]
			}
			return removePlugins(c.Context(), &s, bin, netDir, c.OutOrStdout())
		},
	}
	c.Flags().StringArrayVar(&s.DataDirs, "datadir", nil, "a dataDir of host-local to look into, besides those that are known; may be repeated")
	c.Flags().StringVar(&netDir, "netdir", defaultNetDir, "where network configurations are, to tell which name plugins that go")
	return c
}

// removePlugins sweeps what is ours, and the plugins in a folder if one is named.
func removePlugins(ctx context.Context, s *sweep.Sweep, bin, netDir string, out io.Writer) error {
	err := s.Run(ctx)
	for _, what := range s.Removed {
		fmt.Fprintln(out, "removed", what)
	}
	for _, who := range s.Live {
		fmt.Fprintln(out, "kept what", who, "needs, which is alive")
	}
	if err != nil || bin == "" {
		return err
	}
	folder := plugindir.Folder{Dir: bin}
	done, err := folder.Remove(len(s.Live) > 0)
	for _, what := range done {
		fmt.Fprintln(out, what)
	}
	if err == nil && len(s.Live) > 0 {
		fmt.Fprintf(out, "kept the plugins in %s that nobody else stands in for: they delete what is alive\n", bin)
	}
	return errors.Join(err, tellUsers(netDir, bin, out))
}

// tellUsers names the lists that ask for plugins which no other implementation
// has, and which the folder has no more.
func tellUsers(netDir, bin string, out io.Writer) error {
	lists, err := cni.LoadDir(netDir)
	if errors.Is(err, fs.ErrNotExist) && len(lists) == 0 {
		return nil
	}
	for _, l := range lists {
		for _, p := range l.Plugins {
			if !all.OnRequest(p.Type) && p.Type != fused.Name {
				continue
			}
			if _, err := runtime.Find(p.Type, []string{bin}); err != nil {
				fmt.Fprintf(out, "network %q in %s uses the plugin %s, and fails without it\n", l.Name, netDir, p.Type)
			}
		}
	}
	return err
}
