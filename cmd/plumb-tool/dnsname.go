package main

import (
	"context"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/plugins/dnsname/resolver"
	"github.com/plumb-cni/plumb/state/dnsname"
)

func dnsnameResolverCommand() *cobra.Command {
	return &cobra.Command{
		Use:    dnsname.Command + " FOLDER SOCKET",
		Short:  "Resolve containers' names; the plugin dnsname starts it",
		Hidden: true, // it needs a socket from the plugin
		Args:   arguments,
		RunE: func(_ *cobra.Command, args []string) error {
			socket, err := strconv.Atoi(args[1])
			if err != nil {
				return err
			}
			listener, err := resolver.Detach(socket)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return resolver.Serve(ctx, args[0], listener)
		},
	}
}
