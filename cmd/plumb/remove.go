package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/plumb-cni/plumb/internal/sweep"
)

const removeUsage = `plumb plugins remove [-datadir DIR]... [BIN]

Run it when other plugins have taken over this host, and have deleted attachments that plumb's had made. It
removes what they could not know of:

  - tables "inet plumb" and "bridge plumb" of nftables, and sets and chains plumb-* in tables of others
  - links on the host with the tag of an attachment that is gone
  - records in /run/plumb
  - indexes of addresses, DIR/.plumb, where DIR is a dataDir of host-local: /var/lib/cni/networks,
    those that records name, and any given by -datadir. Who holds which address stays as it is.
  - in the folder BIN, such as /opt/cni/bin: plumb-cni and the links that lead to it. Put the other plugins
    there first; nothing is put in their place. The program plumb itself stays.

What other plugins made is left alone. So is, while attachments of plumb's are alive, what they need: their elements,
records and indexes, the tables, and BIN. It then says whose they are; run it again when they are gone. The traffic of
running containers never stops. No plugin of plumb's should be adding an attachment meanwhile.
`

// removePlugins sweeps what is ours.
func removePlugins(args []string, out io.Writer) error {
	var s sweep.Sweep
	flags := flag.NewFlagSet("plumb plugins remove", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { fmt.Fprint(out, removeUsage) }
	flags.Func("datadir", "", func(dir string) error {
		if !filepath.IsAbs(dir) {
			return errors.New("not an absolute path")
		}
		s.DataDirs = append(s.DataDirs, dir)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if flags.NArg() > 1 {
		return errors.New("plugins remove takes one folder of plugins; see plumb plugins remove -h")
	}
	err := s.Run(context.Background())
	for _, what := range s.Removed {
		fmt.Fprintln(out, "removed", what)
	}
	for _, who := range s.Live {
		fmt.Fprintln(out, "kept what", who, "needs, which is alive")
	}
	if err != nil || flags.NArg() == 0 {
		return err
	}
	if len(s.Live) > 0 {
		fmt.Fprintf(out, "kept the plugins in %s, which delete what is alive\n", flags.Arg(0))
		return nil
	}
	return removeLinks(flags.Arg(0), out)
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
