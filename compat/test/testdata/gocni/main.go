// Command gocni attaches a container to the networks of a folder as containerd does, by its module go-cni:
//
//	gocni add|check|remove|status CONFIG-DIR PLUGIN-DIR ID NETNS
//
// Added, it prints the addresses of each interface as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	gocni "github.com/containerd/go-cni"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gocni:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 6 {
		return errors.New("usage: gocni add|check|remove|status CONFIG-DIR PLUGIN-DIR ID NETNS")
	}
	verb, config, plugins, id, netns := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	networks, err := gocni.New(gocni.WithPluginConfDir(config), gocni.WithPluginDir([]string{plugins}), gocni.WithMinNetworkCount(1))
	if err != nil {
		return err
	}
	load := []gocni.Opt{gocni.WithLoNetwork, gocni.WithDefaultConf}
	if verb == "check" {
		load = load[1:] // the loopback network of go-cni is of 0.3.1, which has no CHECK
	}
	if err := networks.Load(load...); err != nil {
		return err
	}
	ctx := context.Background()
	ports := gocni.WithCapabilityPortMap([]gocni.PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}})
	switch verb {
	case "add":
		result, err := networks.Setup(ctx, id, netns, ports)
		if err != nil {
			return err
		}
		addresses := map[string][]string{}
		for name, i := range result.Interfaces {
			for _, ip := range i.IPConfigs {
				addresses[name] = append(addresses[name], ip.IP.String())
			}
		}
		return json.NewEncoder(os.Stdout).Encode(addresses)
	case "check":
		return networks.Check(ctx, id, netns, ports)
	case "remove":
		return networks.Remove(ctx, id, netns, ports)
	case "status":
		return networks.Status()
	}
	return fmt.Errorf("no verb %q", verb)
}
