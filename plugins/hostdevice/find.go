package hostdevice

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/device"
)

// Folders of the kernel's devices (Documentation/ABI/testing/sysfs-bus-pci).
const (
	pciDevices       = "/sys/bus/pci/devices"
	auxiliaryDevices = "/sys/bus/auxiliary/devices"
)

// A way is by what a device is looked for.
type way string

const (
	byNothing   way = ""
	byName      way = "device"
	byMAC       way = "hwaddr"
	byPath      way = "kernelpath"
	byPCI       way = "PCI device"
	byAuxiliary way = "auxiliary device"
)

// by returns how the configuration names the device.
func (c *Config) by() way {
	switch {
	case c.Device != "":
		return byName
	case c.HWAddr != "":
		return byMAC
	case c.KernelPath != "":
		return byPath
	case c.pci() == "":
		return byNothing
	case c.RuntimeConfig.DeviceID != "" && !exists(filepath.Join(pciDevices, c.pci())) && exists(filepath.Join(auxiliaryDevices, c.pci())):
		return byAuxiliary
	}
	return byPCI
}

// pci returns the address on the PCI bus, or what the runtime sent as that.
func (c *Config) pci() string {
	if c.RuntimeConfig.DeviceID != "" {
		return c.RuntimeConfig.DeviceID
	}
	return c.PCIBusID
}

// key begins a message about that address.
func (c *Config) key() string {
	if c.RuntimeConfig.DeviceID != "" {
		return "runtimeConfig.deviceID: "
	}
	return "pciBusID: "
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// validateNames refuses names that lead out of the folders that they are for.
func (c *Config) validateNames() error {
	for _, name := range []struct{ key, value string }{
		{"pciBusID", c.PCIBusID}, {"runtimeConfig.deviceID", c.RuntimeConfig.DeviceID},
	} {
		if strings.Contains(name.value, "/") || strings.HasPrefix(name.value, ".") {
			return cni.Errorf(cni.CodeInvalidConfig, `%s: %q is not the name of a device on a bus, such as "0000:3d:00.1" or "mlx5_core.sf.4"`, name.key, name.value)
		}
	}
	if c.HWAddr != "" {
		if _, err := net.ParseMAC(c.HWAddr); err != nil {
			return cni.Errorf(cni.CodeInvalidConfig, `hwaddr: %q is not a hardware address, which looks like "c2:11:22:33:44:55"`, c.HWAddr)
		}
	}
	if path := c.KernelPath; path != "" && (filepath.Clean(path) != strings.TrimSuffix(path, "/") || !strings.HasPrefix(path, "/sys/devices/")) {
		return cni.Errorf(cni.CodeInvalidConfig, `kernelpath: %q is not a folder below /sys/devices, such as "/sys/devices/pci0000:00/0000:00:1f.6"`, path)
	}
	return nil
}

// held says who has the device that the host has not, as far as a record tells of
// it, and else returns the error.
func (c *Config) held(r *plugin.Request, err error) error {
	if c.by() != byName && c.by() != byMAC {
		return err
	}
	records, unread := r.Recorded()
	if unread != nil {
		return err
	}
	wanted, _ := net.ParseMAC(c.HWAddr) // it is valid, or not asked for
	for _, record := range records {
		if record.Plugin != typeName {
			continue
		}
		for _, obj := range record.Objects {
			names, mac, ok := device.Taken(obj)
			if !ok || c.by() == byName && !slices.Contains(names, c.Device) || c.by() == byMAC && mac != wanted.String() {
				continue
			}
			if alive, err := record.Alive(); err != nil || !alive {
				continue
			}
			return cni.Errorf(state.CodeConflict, "device %s is in container %s already, as %s of network %s",
				names[0], record.Owner.ContainerID, record.Owner.IfName, record.Owner.Network).
				WithDetails("a device is in one container at a time; delete that attachment first")
		}
	}
	return err
}

// userspace reports whether the device is bound to a driver that leaves it to a
// program in user space, such as one of DPDK. It has no interface then.
func (c *Config) userspace() bool {
	if c.by() != byPCI {
		return false
	}
	driver, err := os.Readlink(filepath.Join(pciDevices, c.pci(), "driver"))
	return err == nil && slices.Contains([]string{"vfio-pci", "uio_pci_generic", "igb_uio"}, filepath.Base(driver))
}

// find returns the device, which has to be on the host.
func (c *Config) find(r state.Reader) (*rtnl.Link, error) {
	conn, err := r.Route(state.Host)
	if err != nil {
		return nil, err
	}
	switch c.by() {
	case byName:
		return named(conn, c.Device)
	case byMAC:
		return withMAC(conn, c.HWAddr)
	case byPath:
		return below(conn, string(byPath), c.KernelPath)
	case byAuxiliary:
		return below(conn, c.key()+string(byAuxiliary), filepath.Join(auxiliaryDevices, c.pci()))
	}
	return below(conn, c.key()+string(byPCI), filepath.Join(pciDevices, c.pci()))
}

// named returns the link of a name, and an error in words if it isn't there.
func named(conn rtnl.Reader, name string) (*rtnl.Link, error) {
	l, err := conn.Link(name)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "the host has no device %s; is it in a container already?", name)
	}
	return l, err
}

// withMAC returns the device with a hardware address. The kernel can only list
// them all. Of several, such as a device and its VLANs, it is the physical one.
func withMAC(conn rtnl.Reader, text string) (*rtnl.Link, error) {
	mac, err := net.ParseMAC(text)
	if err != nil {
		return nil, err
	}
	links, err := conn.Links()
	if err != nil {
		return nil, err
	}
	var found *rtnl.Link
	for _, l := range links {
		if bytes.Equal(l.MAC, mac) && (found == nil || found.Kind != "" && l.Kind == "") {
			found = l
		}
	}
	if found == nil {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "no device of the host has the hardware address %s; is it in a container already?", mac)
	}
	return found, nil
}

// below returns the network device of a parent device: the first by name that is
// on the host. Those of virtio have a device in between.
func below(conn rtnl.Reader, what, parent string) (*rtnl.Link, error) {
	folders, err := filepath.Glob(filepath.Join(parent, "virtio*", "net"))
	if err != nil {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "%s %s: %w", what, parent, err)
	}
	for _, folder := range append([]string{filepath.Join(parent, "net")}, folders...) {
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			l, err := conn.Link(e.Name())
			if !errors.Is(err, rtnl.ErrNotFound) {
				return l, err
			}
		}
	}
	if !exists(parent) {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "%s %s: there is no such device", what, parent)
	}
	return nil, cni.Errorf(cni.CodeInvalidConfig,
		"%s %s has no network device on the host; is it in a container already, or does it lack its driver?", what, parent)
}
