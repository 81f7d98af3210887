package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/docker"
	"github.com/plumb-cni/plumb/internal/docker/engine"
	"github.com/plumb-cni/plumb/protocol"
	"github.com/plumb-cni/plumb/runtime"
)

// dockerFlags are those of all commands about Docker.
type dockerFlags struct {
	host, netDir, path, records string
}

func dockerCommand() *cobra.Command {
	var f dockerFlags
	c := &cobra.Command{
		Use:   "docker",
		Short: "Docker's containers on CNI networks",
		Long: `Attaches containers of Docker's, made with --network none, to CNI networks. With the OCI runtime plumb-runc
they are attached before they start, to the networks that the label plumb.networks names.`,
	}
	path := os.Getenv("CNI_PATH")
	if path == "" {
		path = docker.DefaultPath
	}
	flags := c.PersistentFlags()
	flags.StringVarP(&f.host, "host", "H", "", "the engine's `socket`, unix://PATH (default $DOCKER_HOST, or Docker's own)")
	flags.StringVar(&f.netDir, "netdir", docker.DefaultNetDir, "`folder` of network configurations")
	flags.StringVar(&f.path, "path", path, "`folders` of plugins, separated by colons")
	flags.StringVar(&f.records, "records", docker.DefaultRecords, "`folder` of what containers are attached to")
	c.AddCommand(dockerConnectCommand(&f), dockerDisconnectCommand(&f), dockerListCommand(&f), dockerWatchCommand(&f))
	return c
}

func (f *dockerFlags) attacher(c *cobra.Command) *docker.Attacher {
	return &docker.Attacher{
		Runtime: &runtime.Runtime{
			Path: filepath.SplitList(f.path),
			Warn: func(err error) { fmt.Fprintln(c.ErrOrStderr(), "plumb: warning:", err) },
		},
		NetDir:  f.netDir,
		Records: docker.Records{Dir: f.records},
	}
}

// withEngine calls do with the engine.
func (f *dockerFlags) withEngine(c *cobra.Command, do func(*engine.Engine) error) error {
	e, err := engine.Open(f.host, f.attacher(c))
	if err != nil {
		return err
	}
	return errors.Join(do(e), e.Close())
}

func dockerConnectCommand(f *dockerFlags) *cobra.Command {
	var w docker.Want
	var publish []string
	c := &cobra.Command{
		Use:   "connect CONTAINER NETWORK",
		Short: "Attach a running container to a network, over its restarts too",
		Args:  arguments,

		ValidArgsFunction: completeNetworks(1, &f.netDir, func(*cni.List) bool { return true }),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			w.Network = args[1]
			if w.Ports, err = docker.ParsePorts(publish); err != nil {
				return fmt.Errorf("--publish: %w", err)
			}
			ctx, stop := protocol.Signals(c.Context())
			defer stop()
			return f.withEngine(c, func(e *engine.Engine) error {
				r, result, err := e.Connect(ctx, args[0], w)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), r.IfName, strings.Join(addresses(result), " "))
				return err
			})
		},
	}
	c.Flags().StringVar(&w.IfName, "ifname", "", "`name` of the interface (default the first ethN that is free)")
	c.Flags().StringSliceVar(&w.IPs, "ip", nil, "`address` to ask for; may be repeated, for each family")
	c.Flags().StringVar(&w.MAC, "mac", "", "hardware `address` to ask for")
	c.Flags().StringSliceVarP(&publish, "publish", "p", nil, "`port` to publish, [IP:]HOST:CONTAINER[/PROTOCOL]; may be repeated")
	return c
}

func dockerDisconnectCommand(f *dockerFlags) *cobra.Command {
	var ifName string
	c := &cobra.Command{
		Use:   "disconnect CONTAINER NETWORK",
		Short: "Take a container out of a network",
		Long: `Takes a container out of a network. A container whose label names the network is on it again from its
next start on.`,
		Args: arguments,

		ValidArgsFunction: completeNetworks(1, &f.netDir, func(*cni.List) bool { return true }),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := protocol.Signals(c.Context())
			defer stop()
			return f.withEngine(c, func(e *engine.Engine) error { return e.Disconnect(ctx, args[0], args[1], ifName) })
		},
	}
	c.Flags().StringVar(&ifName, "ifname", "", "`name` of the interface (default all that are on the network)")
	return c
}

// dockerAttachment is what dockerListCommand shows of one.
type dockerAttachment struct {
	ContainerID string   `json:"containerID"`
	Container   string   `json:"container"`
	Network     string   `json:"network"`
	Interface   string   `json:"interface"`
	Addresses   []string `json:"addresses"`
	NetNS       string   `json:"netns,omitempty"`
	State       string   `json:"state"` // attached; stopped: until the next start; stale: its namespace is gone
}

func dockerListCommand(f *dockerFlags) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "ls [CONTAINER]",
		Short: "Which containers are on which networks; needs no engine",
		Args:  arguments,
		RunE: func(c *cobra.Command, args []string) error {
			list, err := listDocker(f.attacher(c), strings.Join(args, ""))
			if err != nil && len(list) == 0 {
				return err
			}
			return errors.Join(printDocker(c.OutOrStdout(), list, asJSON), err)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// listDocker returns the attachments of a container, or of all without a name.
func listDocker(a *docker.Attacher, name string) ([]dockerAttachment, error) {
	ids, err := a.Records.Containers()
	errs := []error{err}
	list := []dockerAttachment{}
	for _, id := range ids {
		records, err := a.Records.Of(id)
		errs = append(errs, err)
		for _, r := range records {
			if name != "" && !r.Is(name) {
				continue
			}
			at := dockerAttachment{r.ContainerID, r.Name, r.Network, r.IfName, []string{}, r.NetNS, "attached"}
			switch {
			case r.NetNS == "":
				at.State = "stopped"
			case r.Stale():
				at.State = "stale"
			}
			cached, err := a.Runtime.Cached(r.Network, r.ContainerID, r.IfName)
			errs = append(errs, err)
			if cached != nil && cached.Result != nil {
				at.Addresses = addresses(cached.Result)
			}
			list = append(list, at)
		}
	}
	return list, errors.Join(errs...)
}

func printDocker(out io.Writer, list []dockerAttachment, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "CONTAINER\tNAME\tNETWORK\tINTERFACE\tADDRESSES\tSTATE")
	for _, at := range list {
		fmt.Fprintf(w, "%.12s\t%s\t%s\t%s\t%s\t%s\n", at.ContainerID, at.Container, at.Network, at.Interface, strings.Join(at.Addresses, ","), at.State)
	}
	return w.Flush()
}

// addresses are those of a result, without the lengths of their subnets.
func addresses(result *cni.Result) []string {
	var list []string
	for _, ip := range result.IPs {
		list = append(list, ip.Address.Addr().String())
	}
	return list
}

func dockerWatchCommand(f *dockerFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "watch",
		Short: "Look after the attachments of containers that stop, restart or are gone",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := protocol.Signals(c.Context())
			defer stop()
			logf := log.New(c.ErrOrStderr(), "", log.LstdFlags).Printf
			return f.withEngine(c, func(e *engine.Engine) error { return e.Watch(ctx, logf) })
		},
	}
}
