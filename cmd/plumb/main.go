// Command plumb is for people: it tells what the plugins did on this host.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// Stamped by scripts/build.
var (
	version = "0.0.0"
	commit  = "unknown"
)

const usage = `plumb tells what the plugins did on this host.

  plumb show [NETWORK]   attachments since boot: who, where, and the objects they own
  plumb version          this program's version, and those of the specification that it knows
`

func main() {
	flag.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	flag.Parse()
	if err := run(flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "plumb:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "version":
		fmt.Fprintf(out, "plumb %s (%s), CNI %v\n", version, commit, cni.Versions())
		return nil
	case len(args) == 1 && args[0] == "show":
		return show(out, func(state.Record) bool { return true })
	case len(args) == 2 && args[0] == "show":
		return show(out, func(r state.Record) bool { return r.Owner.Network == args[1] })
	}
	return fmt.Errorf("there is no command %q; see plumb -help", args)
}

// show prints the records that are wanted, an attachment with its objects.
func show(out io.Writer, wanted func(state.Record) bool) error {
	records, err := state.Records{}.All()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, r := range records {
		if !wanted(r) {
			continue
		}
		fmt.Fprintf(table, "%s\tcontainer %s\t%s\tby %s\t%v\n", r.Owner.Network, r.Owner.ContainerID, r.Owner.IfName, r.Plugin, r.Addresses)
		for _, o := range r.Objects {
			fmt.Fprintf(table, "\t%s\t\t\t\n", o.Key)
		}
	}
	return table.Flush()
}
