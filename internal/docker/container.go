package docker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-connections/nat"

	"github.com/plumb-cni/plumb/cni"
)

// A Container is what the engine's files say of one.
type Container struct {
	ID, Name, Hostname string

	Root       string // the engine's data root, /var/lib/docker
	Labels     map[string]string
	Mode       string      // of its network: none, host, container:ID, or the name of a network of Docker's
	Interfaces int         // how many Docker gives it, eth0 onwards
	Bindings   nat.PortMap // what docker run -p publishes
	PublishAll bool        // docker run -P
	DNS        cni.DNS     // what docker run --dns and so on ask for
	AutoRemove bool        // docker run --rm
	ResolvConf string      // the file that is its /etc/resolv.conf, unless it was given another
}

// ReadContainer reads a container's files from its folder, ROOT/containers/ID.
// That is the engine's own form, the same since Docker 1.10.
func ReadContainer(dir string) (*Container, error) {
	var config struct {
		ID     string
		Name   string
		Config struct {
			Hostname string
			Labels   map[string]string
		}
		NetworkSettings struct {
			Networks map[string]json.RawMessage
		}
	}
	if err := readJSON(filepath.Join(dir, "config.v2.json"), &config); err != nil {
		return nil, err
	}
	var host struct {
		NetworkMode     string
		PortBindings    nat.PortMap
		PublishAllPorts bool
		AutoRemove      bool
		DNS             []string `json:"Dns"`
		DNSSearch       []string `json:"DnsSearch"`
		DNSOptions      []string `json:"DnsOptions"`
	}
	if err := readJSON(filepath.Join(dir, "hostconfig.json"), &host); err != nil {
		return nil, err
	}
	c := &Container{
		ID: config.ID, Name: strings.TrimPrefix(config.Name, "/"), Hostname: config.Config.Hostname,
		Root: filepath.Dir(filepath.Dir(dir)), Labels: config.Config.Labels, Mode: host.NetworkMode,
		Bindings: host.PortBindings, PublishAll: host.PublishAllPorts, AutoRemove: host.AutoRemove,
		DNS:        cni.DNS{Nameservers: host.DNS, Search: host.DNSSearch, Options: host.DNSOptions},
		ResolvConf: filepath.Join(dir, "resolv.conf"),
	}
	if c.ID != filepath.Base(dir) {
		return nil, fmt.Errorf("%s: it is of container %q", dir, c.ID)
	}
	for network := range config.NetworkSettings.Networks {
		if network != modeNone {
			c.Interfaces++
		}
	}
	return c, nil
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("what the engine knows of the container: %w", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("what the engine knows of the container: %s: %w", path, err)
	}
	return nil
}

const modeNone = "none"

// ownNetwork refuses a container without a namespace of its own.
func (c *Container) ownNetwork() error {
	if c.Mode == "host" {
		return fmt.Errorf("container %s has the host's network; run it with --network none", c.Name)
	}
	if of, ok := strings.CutPrefix(c.Mode, "container:"); ok {
		return fmt.Errorf("container %s shares the network of %s; connect that one", c.Name, short(of))
	}
	return nil
}

// short is how Docker shows an ID.
func short(id string) string { return id[:min(len(id), 12)] }
