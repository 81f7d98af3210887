package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/smallfile"
	"github.com/plumb-cni/plumb/runtime"
)

func listsCommand() *cobra.Command {
	c := &cobra.Command{Use: "lists", Short: "Check and place the lists of plugins that are networks"}
	c.AddCommand(listsCheckCommand(), listsInstallCommand())
	return c
}

const listsInstallHelp = `Places the list of plugins FILE into the folder DIR, such as /etc/cni/net.d, where a runtime takes it up. It appears there
whole, by a rename, and only if it is a valid list and, with --plugins, if every plugin of it is in that folder.

With --stay the command goes on: it places the list again when FILE has changed, or when somebody has taken it away, until it is sent
SIGTERM. A FILE that is invalid or missing, be it at the start, is told of, and the list of before stays.`

func listsInstallCommand() *cobra.Command {
	var p placement
	var stay bool
	c := &cobra.Command{
		Use:   "install FILE DIR",
		Short: "Place a list of plugins into a runtime's folder",
		Long:  listsInstallHelp,
		Args:  arguments,
		RunE: func(c *cobra.Command, args []string) error {
			p.file, p.dir = args[0], args[1]
			if p.name == "" {
				p.name = filepath.Base(p.file)
			}
			if err := p.validate(); err != nil {
				return err
			}
			if !stay {
				return p.place(c.OutOrStdout())
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			p.keep(ctx, c.OutOrStdout(), c.ErrOrStderr())
			return nil
		},
	}
	c.Flags().StringVar(&p.name, "as", "", "the name that it gets in DIR (default: that of FILE)")
	c.Flags().StringVar(&p.plugins, "plugins", "", "the folder that has to have every plugin of the list")
	c.Flags().BoolVar(&stay, "stay", false, "go on, and place it again when it changes")
	return c
}

// listSuffix is that of files that runtimes read as lists.
const listSuffix = ".conflist"

// A placement is of a list in a runtime's folder.
type placement struct{ file, dir, name, plugins string }

func (p placement) validate() error {
	if p.name != filepath.Base(p.name) || !strings.HasSuffix(p.name, listSuffix) || strings.HasPrefix(p.name, ".") {
		return fmt.Errorf("%q is no name for a list: runtimes read files that end in %s; --as gives it another", p.name, listSuffix)
	}
	return nil
}

// place makes the folder have the list, and says so if it had not.
func (p placement) place(out io.Writer) error {
	data, err := os.ReadFile(p.file)
	if err != nil {
		return fmt.Errorf("read the list: %w", err)
	}
	list, err := cni.ParseList(data)
	if err != nil {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	if list.Single {
		return fmt.Errorf(`%s: it is a configuration of one plugin, which runtimes don't take from a file that ends in %s; a list has it under "plugins"`,
			p.file, listSuffix)
	}
	if p.plugins != "" {
		for _, plugin := range list.Plugins {
			if _, err := runtime.Find(plugin.Type, []string{p.plugins}); err != nil {
				return fmt.Errorf("%s: %w", p.file, err)
			}
		}
	}
	to := filepath.Join(p.dir, p.name)
	there, err := os.ReadFile(to)
	if err == nil && bytes.Equal(there, data) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at the list that is there: %w", err)
	}
	if err := smallfile.ReplaceOnDisk(to, data, 0o644); err != nil {
		return fmt.Errorf("place the list: %w", err)
	}
	fmt.Fprintf(out, "%s: network %s\n", to, list.Name)
	for _, m := range mistakesOf(list) {
		fmt.Fprintf(out, "%s: network %s: %s\n", to, list.Name, m)
	}
	return nil
}

// lookEvery is how often keep looks at the file, which may be on a file system
// that tells nobody of changes.
const lookEvery = 2 * time.Second

// keep places the list whenever it has to be, and tells each error once.
func (p placement) keep(ctx context.Context, out, errs io.Writer) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	told := ""
	for {
		said := ""
		if err := p.place(out); err != nil {
			said = err.Error()
		}
		if said != "" && said != told {
			fmt.Fprintln(errs, "plumb:", said)
		}
		told = said
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
