package hostdevice_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

func TestMain(m *testing.M) { host.Main(m) }

const hwaddr = "02:0d:00:00:00:01"

// records are folders that stay.
const records = `^dir /run/plumb`

// A fixture is a device of the host, the end of a pair whose other end is in a
// world of its own.
type fixture struct {
	world string
	ns    string // the container's
	bin   string
}

// setup makes the device: up, with other names, an alias and a size of its own.
func setup(t *testing.T) fixture {
	t.Helper()
	f := fixture{world: host.NetNS(t), ns: host.NetNS(t), bin: host.Bin(t)}
	host.Run(t, "sh", "-ec", `
		ip link add nic0 address `+hwaddr+` mtu 1400 type veth peer name far0 netns $(basename `+f.world+`)
		ip link property add dev nic0 altname enp9s0 altname net1
		ip link set nic0 alias "uplink of rack 9"
		ip link set nic0 up`)
	host.RunIn(t, f.world, "sh", "-ec", `ip addr add 10.9.0.1/24 dev far0; ip addr add fd09::1/64 dev far0 nodad; ip link set far0 up`)
	t.Cleanup(func() { host.Try("ip", "link", "del", "nic0") }) //nolint:errcheck // it may have gone
	for len(host.Routes(t, "", 6, "table", "local", "dev", "nic0", "type", "local")) == 0 {
		time.Sleep(20 * time.Millisecond) // duplicate address detection: what comes later is no difference
	}
	return f
}

const ipam = `,"ipam":{"type":"static","addresses":[{"address":"10.9.0.2/24","gateway":"10.9.0.1"},{"address":"fd09::2/64","gateway":"fd09::1"}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}`

// call runs a verb with keys of the configuration.
func (f fixture) call(t *testing.T, verb, keys string) (string, int) {
	t.Helper()
	return f.by(t, f.bin, verb, f.ns, keys)
}

func (f fixture) by(t *testing.T, bin, verb, ns, keys string) (string, int) {
	t.Helper()
	config := `{"cniVersion":"1.1.0","name":"nics","type":"host-device"` + keys + `}`
	env := host.Env(verb, "one", ns, "net1", bin)
	if verb == "GC" || verb == "STATUS" {
		env = host.Env(verb, "", "", "", bin)
	}
	stdout, _, exit := host.Plugin(t, bin, "host-device", env, config)
	return stdout, exit
}

// do is call that has to succeed.
func (f fixture) do(t *testing.T, verb, keys string) string {
	t.Helper()
	stdout, exit := f.call(t, verb, keys)
	if exit != 0 {
		t.Fatalf("%s %s: %s", verb, keys, stdout)
	}
	return stdout
}

// fails needs a call to fail with a code and words.
func (f fixture) fails(t *testing.T, verb, keys string, code cni.Code, words string) {
	t.Helper()
	stdout, exit := f.call(t, verb, keys)
	failure, err := cni.DecodeError([]byte(stdout))
	if exit == 0 || err != nil || failure.Code != code || !strings.Contains(failure.Error(), words) {
		t.Errorf("%s %s: %s; want code %d and %q", verb, keys, stdout, code, words)
	}
}

// device is what of a device there is to be given back.
func device(t *testing.T, name string) string {
	t.Helper()
	var links []struct {
		IfName   string   `json:"ifname"`
		Address  string   `json:"address"`
		IfAlias  string   `json:"ifalias"`
		MTU      int      `json:"mtu"`
		Master   string   `json:"master"`
		AltNames []string `json:"altnames"`
		Flags    []string `json:"flags"`
	}
	host.JSON(t, &links, "ip", "-j", "link", "show", "dev", name)
	l := links[0]
	up := false
	for _, flag := range l.Flags {
		up = up || flag == "UP"
	}
	return fmt.Sprintf("%s %s %q mtu %d up %v master %q other names %d", l.IfName, l.Address, l.IfAlias, l.MTU, up, l.Master, len(l.AltNames))
}

func prev(result string) string { return `,"prevResult":` + result }

func TestLife(t *testing.T) {
	keys.Covers(t, "host-device", "device", "ipam", "dns")
	f := setup(t)
	before, whole := device(t, "nic0"), host.Snapshot(t)
	config := `,"device":"nic0","dns":{"domain":"a.test"}` + ipam
	result := f.do(t, "ADD", config)
	for _, part := range []string{`"name": "net1"`, hwaddr, f.ns, "10.9.0.2/24", "fd09::2/64", `"domain": "a.test"`, `"interface": 0`} {
		if !strings.Contains(result, part) {
			t.Errorf("the result lacks %s: %s", part, result)
		}
	}
	if _, err := host.Try("ip", "link", "show", "nic0"); err == nil {
		t.Error("the device is still on the host")
	}
	if l := host.Links(t, f.ns)["net1"]; !l.Up() || l.MTU != 1400 {
		t.Errorf("inside: %+v", l)
	}
	host.Ping(t, f.ns, "10.9.0.1")
	host.Ping(t, f.ns, "fd09::1")
	server := host.Serve(t, f.world, "tcp", "10.9.0.1:0")
	if answer, err := host.Ask(t, f.ns, "tcp", server, ""); err != nil {
		t.Errorf("TCP: %v %v", answer, err)
	}
	f.do(t, "CHECK", config+prev(result))
	for _, way := range []string{`,"device":"nic0"`, `,"device":"enp9s0"`, `,"hwaddr":"` + hwaddr + `"`} {
		f.fails(t, "ADD", way+ipam, state.CodeConflict, "device nic0 is in container one already, as net1 of network nics")
	}
	f.do(t, "CHECK", config+prev(result)) // and that ADD has not taken away what the first one made
	f.do(t, "STATUS", config)
	f.do(t, "DEL", config+prev(result))
	if after := device(t, "nic0"); after != before {
		t.Errorf("after DEL: %s, want %s", after, before)
	}
	host.Unchanged(t, whole, records)
	f.do(t, "DEL", config+prev(result))
	f.do(t, "DEL", config)
	host.Unchanged(t, whole, records)
}

func TestDamage(t *testing.T) {
	f := setup(t)
	config := `,"device":"nic0"` + ipam
	for _, x := range []struct{ damage, words string }{
		{"ip link set net1 down; ip link set net1 name other", "sandbox link net1 is missing"},
		{"ip link set net1 down", "up is false"},
		{"ip addr del 10.9.0.2/24 dev net1", "10.9.0.2/24 is missing"},
		{"ip addr del fd09::2/64 dev net1", "fd09::2/64 is missing"},
		{"ip route del default", "0.0.0.0/0"},
		{"ip -6 route del default", "::/0"},
		{"ip link set net1 mtu 1300", "mtu is 1300, want 1400"},
		{"ip link set net1 alias ''", "alias is"},
		{"ip link set net1 address 02:0d:00:00:00:09", "mac is 02:0d:00:00:00:09"},
	} {
		before := device(t, "nic0")
		result := f.do(t, "ADD", config)
		host.RunIn(t, f.ns, "sh", "-ec", x.damage)
		f.fails(t, "CHECK", config+prev(result), state.CodeDrift, x.words)
		f.do(t, "DEL", config+prev(result))
		after := device(t, "nic0")
		if strings.Contains(x.damage, "address 02") {
			host.Run(t, "ip", "link", "set", "nic0", "address", hwaddr)
			after = device(t, "nic0")
		}
		if after != before {
			t.Errorf("%s, then DEL: %s, want %s", x.damage, after, before)
		}
	}
}

// TestKeys finds the device in each way that there is, on buses that are made for
// the test.
func TestKeys(t *testing.T) {
	keys.Covers(t, "host-device", "hwaddr", "kernelpath", "pciBusID", "runtimeConfig.deviceID")
	f := setup(t)
	bus(t)
	host.Run(t, "ip", "link", "add", "link", "nic0", "name", "child0", "type", "macvlan", "mode", "bridge")
	host.Run(t, "ip", "link", "set", "child0", "address", "02:0d:00:00:00:02")
	host.Run(t, "ip", "link", "del", "child0")
	host.Run(t, "ip", "link", "property", "add", "dev", "nic0", "altname", "enp175s0f0npf0vf9") // as udev does where it is too long for a name
	for _, config := range []string{
		`,"device":"enp9s0"`,
		`,"device":"enp175s0f0npf0vf9"`,
		`,"hwaddr":"` + strings.ToUpper(hwaddr) + `"`,
		`,"kernelpath":"/sys/devices/pci/0000:00:09.0"`,
		`,"pciBusID":"0000:00:09.0"`,
		`,"runtimeConfig":{"deviceID":"0000:00:09.0"}`,
		`,"runtimeConfig":{"deviceID":"0000:00:09.0"},"pciBusID":"0000:00:0a.0"`,
		`,"runtimeConfig":{"deviceID":"mlx5_core.sf.4"}`,
		`,"pciBusID":"0000:00:0c.0"`, // virtio
	} {
		before := device(t, "nic0")
		result := f.do(t, "ADD", config)
		if !strings.Contains(result, hwaddr) {
			t.Errorf("%s: %s", config, result)
		}
		if pci := strings.Contains(config, "0000:00") && !strings.Contains(config, "kernelpath"); strings.Contains(result, "pciID") != pci {
			t.Errorf("%s: pciID: %s", config, result)
		}
		f.do(t, "CHECK", config+prev(result))
		f.do(t, "DEL", config+prev(result))
		if after := device(t, "nic0"); after != before {
			t.Errorf("%s: after DEL: %s, want %s", config, after, before)
		}
	}
	for _, x := range []struct {
		config string
		words  string
	}{
		{``, "no device is named"},
		{`,"device":"nic7"`, "the host has no device nic7"},
		{`,"hwaddr":"02:0d"`, "is not a hardware address"},
		{`,"hwaddr":"02:0d:00:00:00:99"`, "no device of the host has the hardware address 02:0d:00:00:00:99"},
		{`,"kernelpath":"/sys/class/net/nic0"`, "is not a folder below /sys/devices"},
		{`,"kernelpath":"/sys/devices/../class"`, "is not a folder below /sys/devices"},
		{`,"kernelpath":"/sys/devices/nothing"`, "kernelpath /sys/devices/nothing: there is no such device"},
		{`,"runtimeConfig":{"deviceID":"0000:00:0f.0"}`, "runtimeConfig.deviceID: PCI device /sys/bus/pci/devices/0000:00:0f.0: there is no such device"},
		{`,"pciBusID":"../../x"`, "is not the name of a device on a bus"},
		{`,"pciBusID":"0000:00:0f.0"`, "pciBusID: PCI device /sys/bus/pci/devices/0000:00:0f.0: there is no such device"},
		{`,"pciBusID":"0000:00:0b.0"`, "has no network device on the host"},
		{`,"device":"lo"`, "has to stay in its namespace"},
	} {
		f.fails(t, "ADD", x.config, cni.CodeInvalidConfig, x.words)
	}
	if after := device(t, "nic0"); !strings.Contains(after, "other names 3") {
		t.Errorf("after failures: %s", after)
	}
}

// bus puts folders in the place of those by which the kernel tells of devices.
func bus(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"/sys/bus", "/sys/devices"} {
		host.Run(t, "mount", "-t", "tmpfs", "tmpfs", dir)
		t.Cleanup(func() { host.Try("umount", dir) }) //nolint:errcheck // the namespace ends soon
	}
	for _, dir := range []string{
		"/sys/devices/pci/0000:00:09.0/net/nic0", "/sys/bus/pci/devices/0000:00:09.0/net/nic0", "/sys/bus/auxiliary/devices/mlx5_core.sf.4/net/nic0",
		"/sys/bus/pci/devices/0000:00:0a.0", "/sys/bus/pci/devices/0000:00:0b.0", "/sys/bus/pci/devices/0000:00:0c.0/virtio3/net/nic0",
		"/sys/bus/pci/drivers/vfio-pci",
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../drivers/vfio-pci", "/sys/bus/pci/devices/0000:00:0a.0/driver"); err != nil {
		t.Fatal(err)
	}
}

// TestUserspaceDriver leaves a device alone that is bound to a driver such as
// DPDK's, and asks no IPAM plugin.
func TestUserspaceDriver(t *testing.T) {
	f := setup(t)
	bus(t)
	before := host.Snapshot(t)
	config := `,"runtimeConfig":{"deviceID":"0000:00:0a.0"},"ipam":{"type":"host-local","subnet":"10.9.0.0/24"}`
	result := f.do(t, "ADD", config)
	for _, part := range []string{`"name": "net1"`, `"pciID": "0000:00:0a.0"`, f.ns} {
		if !strings.Contains(result, part) {
			t.Errorf("the result lacks %s: %s", part, result)
		}
	}
	if strings.Contains(result, `"ips"`) {
		t.Errorf("IPAM was asked: %s", result)
	}
	if n := len(host.Links(t, f.ns)); n != 1 {
		t.Errorf("%d links inside", n)
	}
	f.do(t, "CHECK", config+prev(result))
	f.do(t, "DEL", config+prev(result))
	host.Unchanged(t, before, records)
}

// TestDefaultRoute takes, moves back or leaves out the default routes that IPAM
// gives.
func TestDefaultRoute(t *testing.T) {
	keys.Covers(t, "host-device", "defaultRoute")
	f := setup(t)
	for value, want := range map[string]string{`"never"`: "[]", `7`: "[7]", `null`: "[0]"} {
		config := `,"device":"nic0","defaultRoute":` + value + ipam
		result := f.do(t, "ADD", config)
		var metrics []int
		for _, r := range host.Routes(t, f.ns, 4, "default") {
			metrics = append(metrics, r.Priority)
		}
		if got := fmt.Sprint(metrics); got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
		f.do(t, "CHECK", config+prev(result))
		f.do(t, "DEL", config+prev(result))
	}
	f.fails(t, "ADD", `,"device":"nic0","defaultRoute":"always"`, cni.CodeInvalidConfig, "defaultRoute")
}

// TestACD refuses an address that somebody on the device's network has.
func TestACD(t *testing.T) {
	keys.Covers(t, "host-device", "acd")
	f := setup(t)
	before := device(t, "nic0")
	for _, address := range []string{"10.9.0.1/24", "fd09::1/64"} {
		config := `,"device":"nic0","acd":true,"ipam":{"type":"static","addresses":[{"address":"` + address + `"}]}`
		f.fails(t, "ADD", config, state.CodeConflict, strings.Split(address, "/")[0])
		if after := device(t, "nic0"); after != before {
			t.Errorf("after a refusal %s, was %s", after, before)
		}
	}
	f.do(t, "ADD", `,"device":"nic0","acd":true`+ipam)
	host.Ping(t, f.ns, "fd09::1")
	f.do(t, "DEL", `,"device":"nic0","acd":true`+ipam)
}

// TestRenamedInside, with an alias and addresses of the container's own.
func TestRenamedInside(t *testing.T) {
	f := setup(t)
	before := device(t, "nic0")
	for _, script := range []string{
		"ip link set net1 down; ip link set net1 name wan0; ip link add net1 type veth peer name x",
		"ip link set net1 down; ip link set net1 name wan0; ip link set wan0 alias mine; ip link set wan0 mtu 1280",
		"ip link set net1 address 02:0d:00:00:00:77",
	} {
		result := f.do(t, "ADD", `,"device":"nic0"`+ipam)
		host.RunIn(t, f.ns, "sh", "-ec", script)
		f.do(t, "DEL", `,"device":"nic0"`+ipam+prev(result))
		if after := device(t, "nic0"); after != before {
			t.Errorf("%s: %s, want %s", script, after, before)
		}
		host.Try("ip", "-n", filepath.Base(f.ns), "link", "del", "net1") //nolint:errcheck // there may be none
	}
}

// TestGone needs DEL to succeed where the device has gone with its namespace.
func TestGone(t *testing.T) {
	f := setup(t)
	before := host.Snapshot(t)
	config := `,"device":"nic0","ipam":{"type":"host-local","subnet":"10.9.0.0/24"}`
	result := f.do(t, "ADD", config)
	host.RemoveNetNS(t, f.ns)
	f.do(t, "DEL", config+prev(result))
	f.do(t, "DEL", config+prev(result))
	if _, exit := f.by(t, f.bin, "DEL", "", config); exit != 0 {
		t.Error("DEL without CNI_NETNS fails")
	}
	for _, line := range host.Snapshot(t) {
		if strings.Contains(line, "10.9.0.") && !strings.Contains(strings.Join(before, "\n"), line) && !strings.Contains(line, "last_reserved") {
			t.Errorf("left: %s", line)
		}
	}
}

// TestAnothersNow is a late DEL, when the path leads to another container, which
// has another device of that name.
func TestAnothersNow(t *testing.T) {
	f := setup(t)
	result := f.do(t, "ADD", `,"device":"nic0"`)
	other := host.NetNS(t)
	host.RunIn(t, f.ns, "ip", "link", "set", "net1", "netns", filepath.Base(other))
	host.RunIn(t, other, "ip", "link", "set", "net1", "address", "02:0d:00:00:00:09")
	host.RemoveNetNS(t, f.ns)
	f.ns = other
	f.do(t, "DEL", `,"device":"nic0"`+prev(result))
	if _, ok := host.Links(t, other)["net1"]; !ok {
		t.Error("DEL has taken the device from another container")
	}
	host.RunIn(t, other, "ip", "link", "del", "net1")
}

// TestNeverAdded is a DEL without prevResult of a container that has nothing, when
// the path leads to another container.
func TestNeverAdded(t *testing.T) {
	f := setup(t)
	f.do(t, "ADD", `,"device":"nic0"`+ipam)
	config := `{"cniVersion":"1.1.0","name":"nics","type":"host-device","device":"nic0"}`
	out, _, exit := host.Plugin(t, f.bin, "host-device", host.Env("DEL", "two", f.ns, "net1", f.bin), config)
	if exit != 0 {
		t.Fatal(out)
	}
	if _, ok := host.Links(t, f.ns)["net1"]; !ok {
		t.Error("DEL has taken the device from another container")
	}
	f.do(t, "DEL", `,"device":"nic0"`+ipam)
}

// TestBack is DEL after somebody, as the kernel with a physical device, has put the
// device back on the host under the name that it had inside.
func TestBack(t *testing.T) {
	f := setup(t)
	before := device(t, "nic0")
	result := f.do(t, "ADD", `,"device":"nic0"`)
	host.RunIn(t, f.ns, "ip", "link", "set", "net1", "netns", fmt.Sprint(os.Getpid()))
	host.RemoveNetNS(t, f.ns)
	f.do(t, "DEL", `,"device":"nic0"`+prev(result))
	if after := device(t, "nic0"); after != before {
		t.Errorf("%s, want %s", after, before)
	}
}

// TestNameTaken gives the device back under another name, and says so.
func TestNameTaken(t *testing.T) {
	f := setup(t)
	result := f.do(t, "ADD", `,"device":"nic0"`+ipam)
	host.Run(t, "ip", "link", "add", "nic0", "type", "veth", "peer", "name", "x0")
	f.fails(t, "DEL", `,"device":"nic0"`+ipam+prev(result), state.CodeConflict, "device nic0 is back on the host as dev0")
	f.do(t, "DEL", `,"device":"nic0"`+ipam+prev(result))
	if after := device(t, "dev0"); !strings.Contains(after, hwaddr+` "uplink of rack 9" mtu 1400 up true`) || !strings.Contains(after, "other names 2") {
		t.Errorf("%s", after)
	}
	host.Run(t, "ip", "link", "del", "dev0")
}

// TestOtherNameTaken gives the device back without another name that is taken by
// now, and says so; a name of the container's making that is taken goes in silence.
func TestOtherNameTaken(t *testing.T) {
	f := setup(t)
	before := device(t, "nic0")
	host.Run(t, "ip", "link", "property", "add", "dev", "nic0", "altname", "enp175s0f0npf0vf9")
	result := f.do(t, "ADD", `,"device":"nic0"`+ipam)
	host.Run(t, "sh", "-ec", `ip link add enp9s0 type veth peer name x0
		ip link property add dev x0 altname enp175s0f0npf0vf9`)
	host.RunIn(t, f.ns, "ip", "link", "property", "add", "dev", "net1", "altname", "x0")
	f.fails(t, "DEL", `,"device":"nic0"`+ipam+prev(result), state.CodeConflict, `device nic0 is back on the host without its other names "enp175s0f0npf0vf9", "enp9s0"`)
	if after := device(t, "nic0"); after != strings.Replace(before, "other names 2", "other names 1", 1) {
		t.Errorf("after DEL: %s, before %s", after, before)
	}
	f.do(t, "DEL", `,"device":"nic0"`+ipam+prev(result))
	host.Run(t, "ip", "link", "del", "enp9s0")
}

// TestUndo gives the device back when what comes after fails.
func TestUndo(t *testing.T) {
	f := setup(t)
	host.Run(t, "sh", "-ec", "ip link add br0 type bridge; ip link set nic0 master br0")
	before := host.Snapshot(t)
	f.fails(t, "ADD", `,"device":"nic0","ipam":{"type":"static"}`, cni.CodeInvalidConfig, "")
	f.fails(t, "ADD", `,"device":"nic0","ipam":{"type":"static","addresses":[{"address":"10.9.0.2/24","gateway":"10.77.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`, cni.CodeInvalidConfig, "gateway")
	host.Unchanged(t, before, records)
	host.RunIn(t, f.ns, "ip", "link", "add", "net1", "type", "veth", "peer", "name", "x")
	f.fails(t, "ADD", `,"device":"nic0"`, state.CodeConflict, "net1 already exists in the sandbox")
	host.Unchanged(t, before, records)
	host.RunIn(t, f.ns, "ip", "link", "del", "net1")
	host.RunIn(t, f.ns, "ip", "link", "property", "add", "dev", "lo", "altname", "enp9s0")
	f.fails(t, "ADD", `,"device":"nic0"`, state.CodeConflict, "")
	host.Unchanged(t, before, records)
	host.Run(t, "ip", "link", "del", "br0")
}

// TestDEL in the ways in which it may come: with the configuration edited, without
// prevResult, without a record.
func TestDEL(t *testing.T) {
	f := setup(t)
	before := device(t, "nic0")
	for _, config := range []string{`,"device":"gone0"`, `,"device":["of another kind"]`, ``} {
		f.do(t, "ADD", `,"device":"nic0"`+ipam)
		f.do(t, "DEL", config)
		if after := device(t, "nic0"); after != before {
			t.Errorf("%s: %s, want %s", config, after, before)
		}
	}
	result := f.do(t, "ADD", `,"device":"nic0"`)
	host.Run(t, "rm", "-r", "/run/plumb")
	f.do(t, "CHECK", `,"device":"nic0"`+prev(result))
	f.do(t, "DEL", `,"device":"nic0"`)
	if after := device(t, "nic0"); !strings.HasPrefix(after, "nic0 "+hwaddr) {
		t.Errorf("without a record: %s", after)
	}
}

func TestGC(t *testing.T) {
	f := setup(t)
	before := host.Snapshot(t)
	config := `,"device":"nic0","ipam":{"type":"host-local","subnet":"10.9.0.0/24"}`
	result := f.do(t, "ADD", config)
	f.do(t, "GC", config+`,"cni.dev/valid-attachments":[{"containerID":"one","ifname":"net1"}]`)
	f.do(t, "CHECK", config+prev(result))
	f.do(t, "GC", config+`,"cni.dev/valid-attachments":[]`)
	if after := device(t, "nic0"); !strings.HasPrefix(after, "nic0") {
		t.Error(after)
	}
	host.Unchanged(t, before, records, `/var/lib/cni/networks`)
}

// TestReference takes over what the reference has made, and the other way round.
func TestReference(t *testing.T) {
	f := setup(t)
	reference := host.Reference(t)
	host.Run(t, "ip", "link", "property", "del", "dev", "nic0", "altname", "net1") // which the reference can't
	config := `,"device":"nic0"` + ipam
	for _, with := range []bool{true, false} {
		result, exit := f.by(t, reference, "ADD", f.ns, config)
		if exit != 0 {
			t.Fatal(result)
		}
		f.do(t, "CHECK", config+prev(result))
		f.do(t, "GC", config+`,"cni.dev/valid-attachments":[]`)
		f.do(t, "CHECK", config+prev(result)) // of whose end nobody but the reference knows
		if with {
			f.do(t, "DEL", config+prev(result))
		} else {
			f.do(t, "DEL", config)
		}
		if after := device(t, "nic0"); !strings.HasPrefix(after, "nic0 "+hwaddr+` "" mtu 1400 up false`) {
			t.Errorf("after the reference's ADD and our DEL: %s", after)
		}
	}
	result := f.do(t, "ADD", config)
	if out, exit := f.by(t, reference, "CHECK", f.ns, config+prev(result)); exit != 0 {
		t.Errorf("the reference's CHECK: %s", out)
	}
	if out, exit := f.by(t, reference, "DEL", f.ns, config+prev(result)); exit != 0 {
		t.Errorf("the reference's DEL: %s", out)
	}
	if after := device(t, "nic0"); !strings.HasPrefix(after, "nic0 "+hwaddr) {
		t.Errorf("after our ADD and the reference's DEL: %s", after)
	}
	f.do(t, "DEL", config+prev(result))
}

// TestResult is as the reference's is.
func TestResult(t *testing.T) {
	f := setup(t)
	var result struct{ Interfaces []map[string]any }
	if err := json.Unmarshal([]byte(f.do(t, "ADD", `,"device":"nic0"`)), &result); err != nil || len(result.Interfaces) != 1 {
		t.Fatalf("%v %v", result, err)
	}
	mac, err := net.ParseMAC(fmt.Sprint(result.Interfaces[0]["mac"]))
	if err != nil || mac.String() != hwaddr {
		t.Errorf("%v", result)
	}
	f.do(t, "DEL", `,"device":"nic0"`)
}
