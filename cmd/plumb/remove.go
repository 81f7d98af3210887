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

	"github.com/plumb-cni/plumb/internal/sweep"
)

const removeHelp = `Run it when other plugins have taken over this host, and have deleted attachments that plumb's had made. It
removes what they could not know of:

  - tables "inet plumb" and "bridge plumb" of nftables, and sets and chains plumb-* in tables of others
  - links on the host with the tag of an attachment that is gone
  - records in /run/plumb
  - indexes of addresses, DIR/.plumb, where DIR is a dataDir of host-local: /var/lib/cni/networks,
    those that records name, and any given by --datadir. Who holds which address stays as it is.
  - in the folder BIN, such as /opt/cni/bin: plumb-cni and the links that lead to it. Put the other plugins
    there first; nothing is put in their place. The program plumb itself stays.

What other plugins made is left alone. So is, while attachments of plumb's are alive, what they need: their elements,
records and indexes, the tables, and BIN. It then says whose they are; run it again when they are gone. The traffic of
running containers never stops. No plugin of plumb's should be adding an attachment meanwhile.`

func removeCommand() *cobra.Command {
	var s sweep.Sweep
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
			return removePlugins(c.Context(), &s, bin, c.OutOrStdout())
		},
	}
	c.Flags().StringArrayVar(&s.DataDirs, "datadir", nil, "a dataDir of host-local to look into, besides those that are known; may be repeated")
	return c
}

// removePlugins sweeps what is ours, and the plugins in a folder if one is named
// and nothing needs them.
func removePlugins(ctx context.Context, s *sweep.Sweep, bin string, out io.Writer) error {
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
	if len(s.Live) > 0 {
		fmt.Fprintf(out, "kept the plugins in %s, which delete what is alive\n", bin)
		return nil
	}
	return removeLinks(bin, out)
}

const program = "plumb-cni"

// removeLinks removes from a folder the program of plugins and what leads to it.
func removeLinks(dir string, out io.Writer) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		ours, err := leadsToProgram(dir, path)
		if err == nil && ours {
			err = os.Remove(path)
		}
		if err != nil {
			errs = append(errs, err)
		} else if ours {
			fmt.Fprintln(out, "removed", path)
		}
	}
	// Last, so that a run that was ended can tell what leads to it.
	if err := os.Remove(filepath.Join(dir, program)); err == nil {
		fmt.Fprintln(out, "removed", filepath.Join(dir, program))
	} else if !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// leadsToProgram reports whether a file is a link to the program of plugins, of
// either sort, and not that itself.
func leadsToProgram(dir, path string) (bool, error) {
	if filepath.Base(path) == program {
		return false, nil
	}
	target, err := os.Readlink(path)
	if err == nil {
		return filepath.Base(target) == program, nil
	}
	here, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	there, err := os.Stat(filepath.Join(dir, program))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(here, there), err
}
