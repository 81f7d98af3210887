package main

import "github.com/spf13/cobra"

func pluginsCommand() *cobra.Command {
	c := &cobra.Command{Use: "plugins", Short: "The plugins of a folder"}
	c.AddCommand(installCommand(), removeCommand())
	return c
}
