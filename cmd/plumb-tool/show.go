package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/state"
)

func showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show [NETWORK]",
		Short: "Attachments since boot: who, where, and the objects they own",
		Args:  arguments,
		RunE: func(c *cobra.Command, args []string) error {
			network := ""
			if len(args) == 1 {
				network = args[0]
			}
			return show(c.OutOrStdout(), network)
		},
	}
}

// show prints the records of a network, or of all: a container with its
// interfaces, and of each what the plugins of the list have made.
func show(out io.Writer, network string) error {
	records, err := state.Records{}.All()
	if err != nil {
		return err
	}
	if network != "" {
		records = slices.DeleteFunc(records, func(r state.Record) bool { return r.Owner.Network != network })
		if len(records) == 0 {
			return fmt.Errorf("network %q has no attachments on this host since boot", network)
		}
	}
	slices.SortStableFunc(records, func(a, b state.Record) int {
		return cmp.Or(
			cmp.Compare(a.Owner.ContainerID, b.Owner.ContainerID),
			cmp.Compare(a.Owner.Network, b.Owner.Network),
			cmp.Compare(a.Owner.IfName, b.Owner.IfName),
			cmp.Compare(a.NetNS, b.NetNS),
		)
	})
	var last state.Record
	for _, r := range records {
		if r.Owner.ContainerID != last.Owner.ContainerID {
			fmt.Fprintf(out, "container %s\n", r.Owner.ContainerID)
		}
		if r.Owner != last.Owner || r.NetNS != last.NetNS {
			fmt.Fprintf(out, "  interface %s, network %s, sandbox %s\n", r.Owner.IfName, r.Owner.Network, r.NetNS)
		}
		last = r
		fmt.Fprintf(out, "    %s\n", r.Plugin)
		for _, a := range r.Addresses {
			fmt.Fprintf(out, "      address %s\n", a)
		}
		for _, o := range r.Objects {
			fmt.Fprintf(out, "      %s\n", o.Key)
		}
	}
	return nil
}
