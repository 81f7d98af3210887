package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/internal/plugindir"
	"github.com/plumb-cni/plumb/internal/programs"
)

const installHelp = `Places plumb's programs into the folder DIR, such as /opt/cni/bin, with a link for every plugin, each inside of DIR. Each
file is put in its place whole, so it may be done on a node with running containers: to install, and to upgrade.

Files of others that are in the way are left alone, and the command fails, unless --force is given. Then they are kept in
DIR/.plumb until "plumb plugins remove DIR" brings them back.

Plugins whose presence changes what runtimes do are placed on request only, by --with: podman adds dnsname to the
lists that it writes when it finds the plugin, and such a list fails without it.`

func installCommand() *cobra.Command {
	var in plugindir.Installation
	var with []string
	c := &cobra.Command{
		Use:   "install DIR",
		Short: "Place the plugins into a folder, or upgrade those that are there",
		Long:  installHelp,
		Args:  arguments,
		RunE: func(c *cobra.Command, args []string) error {
			to, err := pluginFolder(args[0])
			if err != nil {
				return err
			}
			return install(c.Context(), to, in, with, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&in.Copy, "copy", false, "make each plugin a file, by hard links, instead of a symbolic link")
	c.Flags().BoolVar(&in.Force, "force", false, "replace files of others, and keep them for plumb plugins remove")
	c.Flags().StringSliceVar(&with, "with", nil, "plugins to place that are placed on request only (dnsname)")
	c.Flags().StringVar(&in.From, "from", "", "the folder of the programs to place (default: where this program is)")
	return c
}

// install places the programs of a folder.
func install(ctx context.Context, to plugindir.Folder, in plugindir.Installation, with []string, out io.Writer) error {
	if in.From == "" {
		self, err := os.Readlink("/proc/self/exe")
		if err != nil {
			return err
		}
		in.From = filepath.Dir(self)
	}
	plugins := filepath.Join(in.From, programs.Plugins)
	var err error
	if in.Names, err = programNames(plugins, "--list"); err != nil {
		return err
	}
	if in.Optional, err = programNames(plugins, "--list-on-request"); err != nil {
		return err
	}
	for _, name := range with {
		if !slices.Contains(in.Optional, name) {
			return fmt.Errorf("--with %s: the plugins that are placed on request are %s", name, strings.Join(in.Optional, ", "))
		}
		in.Names = append(in.Names, name)
	}
	done, err := to.Install(ctx, in)
	for _, what := range done {
		fmt.Fprintln(out, what)
	}
	if err == nil && len(done) == 0 {
		fmt.Fprintln(out, "all is in its place")
	}
	return err
}

// programNames asks a program which plugins it is.
func programNames(program, flag string) ([]string, error) {
	out, err := exec.Command(program, flag).Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s which plugins it is: %w", program, err)
	}
	return strings.Fields(string(out)), nil
}
