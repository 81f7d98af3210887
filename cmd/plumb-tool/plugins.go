package main

import "github.com/spf13/cobra"

// defaultNetDir is where runtimes look for network configurations.
const defaultNetDir = "/etc/cni/net.d"

func pluginsCommand() *cobra.Command {
	c := &cobra.Command{Use: "plugins", Short: "The plugins of a folder"}
	c.AddCommand(installCommand(), removeCommand())
	return c
}
