package main

import (
	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/cni"
)

// defaultNetDir is where runtimes look for network configurations.
const defaultNetDir = "/etc/cni/net.d"

// completeNetworks completes an argument, of that index, with the names of those
// networks in a folder that fit. Where there are none a shell offers files.
func completeNetworks(index int, netDir *string, fits func(*cni.List) bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) != index {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		lists, _ := cni.LoadDir(*netDir) // what can't be read has no name to offer
		var names []cobra.Completion
		for _, l := range lists {
			if fits(l) {
				names = append(names, l.Name)
			}
		}
		return names, cobra.ShellCompDirectiveDefault
	}
}
