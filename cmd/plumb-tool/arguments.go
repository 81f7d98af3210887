package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// arguments refuses arguments that a command has not, or lacks, by its usage line:
// "install FILE DIR" needs two, "show [NETWORK]" takes one.
func arguments(c *cobra.Command, args []string) error {
	names := strings.Fields(c.Use)[1:]
	if len(args) > len(names) {
		return fmt.Errorf("too many arguments: %q; usage: %s", args[len(names):], c.UseLine())
	}
	for _, name := range names[len(args):] {
		if !strings.HasPrefix(name, "[") {
			return fmt.Errorf("%s is missing; usage: %s (--help tells more)", name, c.UseLine())
		}
	}
	return nil
}
