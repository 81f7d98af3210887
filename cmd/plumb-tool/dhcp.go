package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/ipam/dhcp/daemon"
	"github.com/plumb-cni/plumb/ipam/dhcp/wire"
)

func dhcpDaemonCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "dhcp-daemon [FLAGS]",
		Short:              `Keep the leases of the dhcp plugin; what "dhcp daemon" starts (-h shows its flags)`,
		DisableFlagParsing: true, // they have one dash, as the reference's
		RunE:               func(_ *cobra.Command, args []string) error { return dhcpDaemon(args) },
	}
}

// dhcpDaemon serves the dhcp plugin until it is told to end. The flags are the
// reference's.
func dhcpDaemon(args []string) error {
	d := &daemon.Daemon{Logf: log.New(os.Stderr, "", log.LstdFlags).Printf}
	flags := flag.NewFlagSet("dhcp daemon", flag.ExitOnError)
	pidFile := flags.String("pidfile", "", "write the process's number to this `file`")
	flags.StringVar(&d.HostPrefix, "hostprefix", "", "`folder` where the host's files are mounted, for the socket and namespaces")
	flags.StringVar(&d.Socket, "socketpath", wire.DefaultSocket, "`path` of the socket")
	flags.BoolVar(&d.Broadcast, "broadcast", false, "have servers answer by broadcast")
	flags.DurationVar(&d.Timeout, "timeout", daemon.DefaultTimeout, "how long an attempt to get or renew a lease may take")
	flags.DurationVar(&d.ResendMax, "resendmax", daemon.DefaultResendMax, "longest pause between two attempts")
	flags.DurationVar(&d.ResendTimeout, "resendtimeout", daemon.DefaultResendTimeout, "how long ADD keeps trying")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("dhcp daemon takes no argument %q", flags.Arg(0))
	}
	if d.Timeout <= 0 || d.ResendMax <= 0 || d.ResendTimeout <= 0 {
		return fmt.Errorf("-timeout, -resendmax and -resendtimeout have to be above 0")
	}
	if d.Socket == "" {
		d.Socket = wire.DefaultSocket
	}
	listener, err := activated()
	if err != nil {
		return err
	}
	if *pidFile != "" {
		if !filepath.IsAbs(*pidFile) {
			return fmt.Errorf("-pidfile %q is not an absolute path", *pidFile)
		}
		if err := os.WriteFile(*pidFile, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			return err
		}
		defer os.Remove(*pidFile)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return d.Serve(ctx, listener)
}

// firstActivated is the descriptor of the first socket that systemd passes
// (sd_listen_fds(3)).
const firstActivated = 3

// activated returns the socket that systemd listens on for us, nil for none.
func activated() (net.Listener, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	if pid != strconv.Itoa(os.Getpid()) || count == "" || count == "0" {
		return nil, nil
	}
	if count != "1" {
		return nil, fmt.Errorf("systemd passes %s sockets, and the DHCP daemon has one", count)
	}
	file := os.NewFile(firstActivated, "activated")
	defer file.Close() // the listener has a copy
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("the socket that systemd passes: %w", err)
	}
	return l, nil
}
