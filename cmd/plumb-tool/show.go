package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/state"
)

func showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show [NETWORK]",
		Short: "Attachments since boot: who, where, and the objects they own",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			network := ""
			if len(args) == 1 {
				network = args[0]
			}
			return show(c.OutOrStdout(), network)
		},
	}
}

// show prints the records of a network, or of all, an attachment with its
// objects.
func show(out io.Writer, network string) error {
	records, err := state.Records{}.All()
	if err != nil {
		return err
	}
	shown := 0
	for _, r := range records {
		if network != "" && r.Owner.Network != network {
			continue
		}
		shown++
		fmt.Fprintf(out, "%s: container %s, interface %s, by %s\n", r.Owner.Network, r.Owner.ContainerID, r.Owner.IfName, r.Plugin)
		fmt.Fprintf(out, "  sandbox %s\n", r.NetNS)
		for _, a := range r.Addresses {
			fmt.Fprintf(out, "  address %s\n", a)
		}
		for _, o := range r.Objects {
			fmt.Fprintf(out, "  %s\n", o.Key)
		}
	}
	if network != "" && shown == 0 {
		return fmt.Errorf("network %q has no attachments on this host since boot", network)
	}
	return nil
}
