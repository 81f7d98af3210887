package main

import (
	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/internal/schema"
	"github.com/plumb-cni/plumb/plugins/all"
)

const schemaHelp = `Prints a JSON Schema (draft-07) of network configurations: lists, and configurations of one plugin. An editor that is given
it completes keys and values, tells what they mean, and shows mistakes.

Plugins of others may have any keys.`

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "A JSON Schema of network configurations, for editors",
		Long:  schemaHelp,
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var ipam []string
			for _, p := range all.IPAM() {
				ipam = append(ipam, p.Name())
			}
			data, err := schema.Networks(all.Plugins(), ipam).Encode()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(data)
			return err
		},
	}
}
