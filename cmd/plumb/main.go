// Command plumb is for people: it tells what the plugins did on this host.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

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
  plumb plugins remove [-datadir DIR]... [BIN]
                         after other plugins have taken over: sweep what is plumb's own (-h tells what)
  plumb dhcp-daemon      keep the leases of the dhcp plugin; what "dhcp daemon" starts (-h shows its flags)
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
	case len(args) == 0, args[0] == "help":
		fmt.Fprint(out, usage)
		return nil
	case len(args) == 1 && args[0] == "version":
		fmt.Fprintf(out, "plumb %s (%s), CNI %v\n", version, commit, cni.Versions())
		return nil
	case len(args) >= 2 && args[0] == "plugins" && args[1] == "remove":
		return removePlugins(args[2:], out)
	case args[0] == "dhcp-daemon":
		return dhcpDaemon(args[1:])
	case len(args) == 1 && args[0] == "show":
		return show(out, "")
	case len(args) == 2 && args[0] == "show":
		return show(out, args[1])
	}
	return fmt.Errorf("there is no command %q; see plumb help", strings.Join(args, " "))
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
