package docker

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-connections/nat"

	"github.com/plumb-cni/plumb/cni"
)

// Labels of containers.
const (
	labels        = "plumb."         // which all of them begin with, and no others may
	LabelNetworks = "plumb.networks" // NETWORK[@INTERFACE],...
	LabelPorts    = "plumb.ports"    // [[IP:]HOST:]CONTAINER[/PROTOCOL],... as docker run -p has it
	LabelIP       = "plumb.ip."      // and the network's name: ADDRESS,...
	LabelMAC      = "plumb.mac."     // and the network's name
)

// A Want is an attachment that a container is to have. Of the fields, those
// that are empty are up to the network.
type Want struct {
	Network string   `json:"network"`
	IfName  string   `json:"ifName"`
	IPs     []string `json:"ips,omitempty"`
	MAC     string   `json:"mac,omitempty"`
	Ports   []Port   `json:"ports,omitempty"`
}

// A Port is a published port, in the form of the capability portMappings
// (CONVENTIONS.md).
type Port struct {
	HostIP        string `json:"hostIP,omitempty"` // empty for all addresses
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
}

// Wants returns what the container's labels ask for. Published ports are with
// the first network until it is known which of them can publish.
func (c *Container) Wants() ([]Want, error) {
	wants, err := c.networks()
	if err == nil && len(wants) > 0 {
		if err = c.ownNetwork(); err == nil {
			wants[0].Ports, err = c.ports()
		}
	} else if err == nil && c.Labels[LabelPorts] != "" {
		err = fmt.Errorf("label %s needs %s", LabelPorts, LabelNetworks)
	}
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", c.Name, err)
	}
	return wants, nil
}

func (c *Container) networks() ([]Want, error) {
	var wants []Want
	taken := map[string]bool{}
	known := map[string]bool{}
	for _, item := range items(c.Labels[LabelNetworks]) {
		name, ifName, given := strings.Cut(item, "@")
		w := Want{Network: name, IfName: ifName, MAC: c.Labels[LabelMAC+name], IPs: items(c.Labels[LabelIP+name])}
		if err := w.Validate(); err != nil {
			return nil, fmt.Errorf("labels plumb.*: %w", err)
		}
		if given && ifName == "" {
			return nil, fmt.Errorf("label %s: network %s has no name of an interface behind @", LabelNetworks, name)
		}
		if taken[ifName] {
			return nil, fmt.Errorf("label %s: interface %s twice", LabelNetworks, ifName)
		}
		if known[name] {
			return nil, fmt.Errorf("label %s: network %s twice", LabelNetworks, name)
		}
		known[name], taken[ifName] = true, given
		wants = append(wants, w)
	}
	for label := range c.Labels {
		if err := meant(label, known); err != nil {
			return nil, err
		}
	}
	for i := range wants {
		if wants[i].IfName == "" {
			wants[i].IfName = freeName(c.Interfaces, taken)
			taken[wants[i].IfName] = true
		}
	}
	return wants, nil
}

// meant refuses a label of ours that stands for nothing: one that is mistyped would
// leave the container without its networks, and nobody would be told.
func meant(label string, networks map[string]bool) error {
	if !strings.HasPrefix(label, labels) || label == LabelNetworks || label == LabelPorts {
		return nil
	}
	for _, prefix := range []string{LabelIP, LabelMAC} {
		name, ok := strings.CutPrefix(label, prefix)
		switch {
		case ok && networks[name]:
			return nil
		case ok:
			return fmt.Errorf("label %s: network %q is not in %s", label, name, LabelNetworks)
		}
	}
	return fmt.Errorf("label %s is none of plumb's, which are %s, %s, %sNETWORK and %sNETWORK", label, LabelNetworks, LabelPorts, LabelIP, LabelMAC)
}

// Validate refuses names and addresses that are none.
func (w Want) Validate() error {
	if err := cni.ValidateName(w.Network); err != nil {
		return err
	}
	if w.IfName != "" {
		if err := cni.ValidateIfName(w.IfName); err != nil {
			return fmt.Errorf("network %q: %w", w.Network, err)
		}
		if strings.HasPrefix(w.IfName, ".") { // as files of records do that are being written
			return fmt.Errorf("network %q: interface name %q begins with a dot", w.Network, w.IfName)
		}
	}
	for _, ip := range w.IPs {
		if _, err := address(ip); err != nil {
			return fmt.Errorf("network %q: address %q: %w", w.Network, ip, err)
		}
	}
	if w.MAC != "" {
		if mac, err := net.ParseMAC(w.MAC); err != nil || len(mac) != 6 {
			return fmt.Errorf("network %q: %q is not a hardware address", w.Network, w.MAC)
		}
	}
	return nil
}

// ports returns what the label and docker run -p publish. With a network of
// Docker's, -p is Docker's to serve.
func (c *Container) ports() ([]Port, error) {
	ports, err := ParsePorts(items(c.Labels[LabelPorts]))
	if err != nil {
		return nil, fmt.Errorf("label %s: %w", LabelPorts, err)
	}
	if c.Mode != modeNone {
		return ports, nil
	}
	if c.PublishAll {
		return nil, fmt.Errorf("docker run -P leaves host ports to Docker; name them with -p")
	}
	for _, port := range slices.Sorted(maps.Keys(c.Bindings)) {
		for _, binding := range c.Bindings[port] {
			p, err := publish(port, binding)
			if err != nil {
				return nil, err
			}
			ports = append(ports, p)
		}
	}
	return ports, nil
}

// ParsePorts decodes ports in the form of docker run -p,
// [[IP:]HOST:]CONTAINER[/PROTOCOL], where ports may be ranges. The host's has to
// be there.
func ParsePorts(specs []string) ([]Port, error) {
	var ports []Port
	for _, spec := range specs {
		mappings, err := nat.ParsePortSpec(spec)
		if err != nil {
			return nil, err
		}
		for _, m := range mappings {
			p, err := publish(m.Port, m.Binding)
			if err != nil {
				return nil, err
			}
			ports = append(ports, p)
		}
	}
	return ports, nil
}

func publish(port nat.Port, b nat.PortBinding) (Port, error) {
	host, err := strconv.ParseUint(b.HostPort, 10, 16)
	if err != nil || host == 0 {
		return Port{}, fmt.Errorf("port %s is published at host port %q: it has to be one number, nobody chooses one", port, b.HostPort)
	}
	return Port{HostIP: b.HostIP, HostPort: int(host), ContainerPort: port.Int(), Protocol: port.Proto()}, nil
}

// freeName returns the first name ethN that is not taken, for N from first.
func freeName(first int, taken map[string]bool) string {
	for n := first; ; n++ {
		if name := "eth" + strconv.Itoa(n); !taken[name] {
			return name
		}
	}
}

// items splits a list at commas, without spaces and empty parts.
func items(s string) []string {
	var parts []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// address decodes an address with or without the length of its subnet. A zone is
// refused: anything may be in one, and the address goes into CNI_ARGS.
func address(s string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Addr(), nil
	}
	a, err := netip.ParseAddr(s)
	if err == nil && a.Zone() != "" {
		err = errors.New("an address of a container has no zone")
	}
	return a, err
}
