// Command plumb-tool is the program called plumb, which is for people: it tells
// what the plugins did on this host, and looks after them. The daemons of plugins
// are part of it too.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/cni"
)

// Stamped by scripts/build.
var (
	version = "0.0.0"
	commit  = "unknown"
)

func main() {
	if err := root().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "plumb:", err)
		os.Exit(1)
	}
}

// root is the whole command line, from which its help, completions and manual
// follow.
func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "plumb",
		Short:         "Container networking: what the plugins did on this host, and their care",
		SilenceUsage:  true, // an error of a command is no misunderstanding of how to call it
		SilenceErrors: true, // main prints them
		// No template for it, nor for anything: one links text/template, and so 3 MB of what nobody calls.
		Version: fmt.Sprintf("%s (%s), CNI %v", version, commit, cni.Versions()),
	}
	c.AddCommand(showCommand(), dockerCommand(), pluginsCommand(), listsCommand(), fuseCommand(), dhcpDaemonCommand(), dnsnameResolverCommand(), schemaCommand(), manualCommand(), versionCommand())
	c.InitDefaultCompletionCmd()
	for _, group := range c.Commands() {
		refuseUnknown(group)
	}
	return c
}

// refuseUnknown has a command that only stands for others fail for one that there
// is not. Else it would show its help and succeed, and a script that mistypes would
// go on.
func refuseUnknown(group *cobra.Command) {
	if !group.HasSubCommands() {
		return
	}
	group.Args = cobra.NoArgs
	group.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	group.DisableFlagsInUseLine = true
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "This program's version, and those of the specification that it knows",
		Args:  cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) {
			fmt.Fprintln(c.OutOrStdout(), c.Root().Name(), c.Root().Version)
		},
	}
}
