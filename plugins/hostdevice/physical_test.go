package hostdevice_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/test/host"
)

// TestPhysical takes a network card. When the namespace that it is in goes, the
// kernel puts it into the initial namespace: the test's host is the machine itself
// here, which is one made for such tests, with two cards on one cable.
func TestPhysical(t *testing.T) {
	host.Need(t, "pci-nics")
	m := machine{t: t, bin: host.Bin(t)}
	cards := strings.Fields(m.run(`for d in /sys/bus/pci/devices/*/virtio*/net/*; do echo $d; done`))
	if len(cards) < 2 {
		t.Fatalf("cards: %s", cards)
	}
	pci := strings.Split(cards[0], "/")[5]
	folder, err := filepath.EvalSymlinks("/sys/bus/pci/devices/" + pci)
	if err != nil {
		t.Fatal(err)
	}
	card, other := filepath.Base(cards[0]), filepath.Base(cards[1])
	m.run(fmt.Sprintf(`ip link set %[1]s down; ip link set %[1]s name nic0 mtu 1400; ip link set nic0 alias "rack 9" up; ip link property add dev nic0 altname enp9s0 altname eth9
		ip link set %[2]s up; ip addr replace 10.9.0.1/24 dev %[2]s`, card, other))
	defer m.run(fmt.Sprintf("ip link property del dev nic0 altname enp9s0 altname eth9; ip link set nic0 down; ip link set nic0 name %s alias '' mtu 1500; ip addr flush dev %s", card, other))

	before := m.nic()
	const ipam = `,"ipam":{"type":"static","addresses":[{"address":"10.9.0.2/24"}]}`
	for _, x := range []struct{ name, keys, ifname, damage string }{
		{"PCI address", `,"pciBusID":"` + pci + `"`, "net1", ""},
		{"folder, and namespace gone", `,"kernelpath":"` + folder + `"`, "net1", "gone"},
		{"namespace gone, and its other name taken inside", `,"device":"nic0"`, "eth9", "gone"},
		{"namespace gone, and another hardware address", `,"device":"nic0"`, "net1", "ip link set net1 address 02:0d:00:00:00:77"},
		{"namespace gone, and the name is another's", `,"device":"nic0"`, other, "gone"},
	} {
		ns := m.container()
		if out, exit := m.plugin("ADD", ns, x.ifname, x.keys+ipam); exit != 0 {
			t.Fatalf("%s: %s", x.name, out)
		}
		m.run("nsenter --net=" + ns + " ping -n -c 1 -W 5 10.9.0.1")
		if x.damage != "" {
			if x.damage != "gone" {
				m.run("nsenter --net=" + ns + " " + x.damage)
			}
			m.end()
		}
		if out, exit := m.plugin("DEL", ns, x.ifname, x.keys+ipam); exit != 0 {
			t.Errorf("%s: DEL: %s", x.name, out)
		}
		if after := m.nic(); after != before {
			t.Errorf("%s: %s, want %s", x.name, after, before)
		}
		if out, exit := m.plugin("DEL", ns, x.ifname, x.keys+ipam); exit != 0 {
			t.Errorf("%s: second DEL: %s", x.name, out)
		}
		m.end()
	}
}

// A machine is the one that the tests were started on, outside of their own
// namespaces.
type machine struct {
	t       *testing.T
	bin     string
	process *exec.Cmd // whose namespace is the container's
}

func (m *machine) run(script string) string {
	m.t.Helper()
	out, err := host.Outside("/", "sh", "-c", script).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// nic is what there is to be given back.
func (m *machine) nic() string {
	m.t.Helper()
	return m.run(`ip -d link show nic0 | grep -o 'nic0: <[^>]*>\|link/ether [^ ]*\|mtu [0-9]*\|alias.*\|altname.*' | sort`)
}

// container starts a process in a namespace of its own, and returns the path.
func (m *machine) container() string {
	m.t.Helper()
	m.process = exec.Command("unshare", "--net", "sleep", "600")
	if err := m.process.Start(); err != nil {
		m.t.Fatal(err)
	}
	path := fmt.Sprintf("/proc/%d/ns/net", m.process.Process.Pid)
	own, err := os.Readlink("/proc/self/ns/net")
	for err == nil {
		var now string
		if now, err = os.Readlink(path); now != own {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(m.end)
	return path
}

// end ends the container and with it its namespace.
func (m *machine) end() {
	if m.process != nil {
		m.process.Process.Kill() //nolint:errcheck // it has ended
		m.process.Wait()         //nolint:errcheck // of the signal
		m.process = nil
	}
}

func (m *machine) plugin(verb, ns, ifname, keys string) (string, int) {
	m.t.Helper()
	var out bytes.Buffer
	cmd := host.Outside("/", filepath.Join(m.bin, "host-device"))
	cmd.Env = append(os.Environ(), host.Env(verb, "card", ns, ifname, m.bin)...)
	cmd.Stdin = strings.NewReader(`{"cniVersion":"1.1.0","name":"cards","type":"host-device"` + keys + `}`)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		m.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}
