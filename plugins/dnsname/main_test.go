package dnsname_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state/dnsname"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// A pod is a container on a bridge with an address of each family, and the
// dnsname plugin behind that.
type pod struct {
	*attach.Attachment // of the dnsname plugin
	bridge             *attach.Attachment
	v4, v6             string
	number             int
}

// newPod attaches a container to the bridge of a network, and gives it a name.
// keys are further ones of the dnsname plugin, each after a comma.
func newPod(t testing.TB, number, id int, name, keys string) *pod {
	t.Helper()
	p := unnamed(t, number, id)
	p.name(t, name, keys)
	p.Add(t)
	return p
}

// unnamed attaches a container to the bridge of a network.
func unnamed(t testing.TB, number, id int) *pod {
	t.Helper()
	p := &pod{v4: fmt.Sprintf("10.%d.0.%d", number, id), v6: fmt.Sprintf("fd00:%d::%d", number, id), number: number}
	p.bridge = attach.New(t, bridge(number, id), fmt.Sprintf("id%d-%d", number, id))
	t.Cleanup(func() { host.Try("ip", "link", "del", fmt.Sprintf("br%d", number)) }) //nolint:errcheck // another test's pod may have done it
	p.bridge.Add(t)
	return p
}

// bridge is the configuration that gives a container its interface.
func bridge(number, id int) string {
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net%[1]d","type":"bridge","bridge":"br%[1]d","isGateway":true,
		"ipam":{"type":"static","addresses":[{"address":"10.%[1]d.0.%[2]d/24","gateway":"10.%[1]d.0.1"},{"address":"fd00:%[1]d::%[2]d/64","gateway":"fd00:%[1]d::1"}],
		"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}`, number, id)
}

// name prepares the attachment of the plugin.
func (p *pod) name(t testing.TB, name, keys string) {
	t.Helper()
	p.Attachment = p.bridge.Then(t, fmt.Sprintf(`{"cniVersion":"1.1.0","name":"net%d","type":"dnsname","domainName":"dns.podman","capabilities":{"aliases":true}%s}`, p.number, keys))
	p.Args = "IgnoreUnknown=1;K8S_POD_NAME=" + name
}

// joins attaches the pod's container to another network, under the same name.
func (p *pod) joins(t testing.TB, number, id int, keys string) *pod {
	t.Helper()
	q := &pod{v4: fmt.Sprintf("10.%d.0.%d", number, id), v6: fmt.Sprintf("fd00:%d::%d", number, id), number: number}
	config := strings.ReplaceAll(bridge(number, id), `"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]`, `"routes":[]`)
	q.bridge = p.bridge.Again(t, config, "eth1")
	t.Cleanup(func() { host.Try("ip", "link", "del", fmt.Sprintf("br%d", number)) }) //nolint:errcheck // as above
	q.bridge.Add(t)
	q.name(t, strings.TrimPrefix(p.Args, "IgnoreUnknown=1;K8S_POD_NAME="), keys)
	q.Add(t)
	return q
}

// server4 and server6 are the addresses that the pod's network asks.
func (p *pod) server4() string { return fmt.Sprintf("10.%d.0.1", p.number) }
func (p *pod) server6() string { return fmt.Sprintf("fd00:%d::1", p.number) }

// dig runs dig in the pod.
func (p *pod) dig(t testing.TB, args ...string) string {
	t.Helper()
	out, _ := host.TryIn(p.NetNS, "dig", append([]string{"+time=3", "+tries=1"}, args...)...)
	return out
}

// short returns the data that a server has for a name, sorted.
func (p *pod) short(t testing.TB, server string, args ...string) string {
	t.Helper()
	lines := strings.Fields(p.dig(t, append([]string{"+short", "@" + server}, args...)...))
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

// status returns the code with which a server answers.
func (p *pod) status(t testing.TB, server string, args ...string) string {
	t.Helper()
	out := p.dig(t, append([]string{"@" + server}, args...)...)
	_, after, ok := strings.Cut(out, "status: ")
	if !ok {
		return "no answer"
	}
	code, _, _ := strings.Cut(after, ",")
	return code
}

// knows fails the test unless a name leads to an address, by both protocols and
// both of the network's servers.
func (p *pod) knows(t testing.TB, name, v4, v6 string) {
	t.Helper()
	for _, server := range []string{p.server4(), p.server6()} {
		for _, protocol := range []string{"+notcp", "+tcp"} {
			if got := p.short(t, server, protocol, name, "A"); got != v4 {
				t.Errorf("%s A of %s %s is %q, want %q", name, server, protocol, got, v4)
			}
			if got := p.short(t, server, protocol, name, "AAAA"); got != v6 {
				t.Errorf("%s AAAA of %s %s is %q, want %q", name, server, protocol, got, v6)
			}
		}
	}
}

// folder returns the folder of names, "" for none.
func folder(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob(dnsname.Root + "/*")
	if err != nil || len(found) > 1 {
		t.Fatalf("folders %q, %v", found, err)
	}
	if found == nil {
		return ""
	}
	return found[0]
}

// resolvers returns the processes that serve the private host's folder.
func resolvers(t testing.TB) (pids []int) {
	t.Helper()
	mine, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		if ns, err := os.Readlink(dir + "/ns/net"); err != nil || ns != mine {
			continue
		}
		line, _ := os.ReadFile(dir + "/cmdline")
		if strings.Contains(string(line), "\x00"+dnsname.Command+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// resolver returns the one process.
func resolver(t testing.TB) int {
	t.Helper()
	pids := resolvers(t)
	if len(pids) != 1 {
		t.Fatalf("there are resolvers %v, want one", pids)
	}
	return pids[0]
}

// kill ends a process as the kernel does that wants memory.
func kill(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the process to be gone", func() bool {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(state), ") Z ")
	})
}

// waitFor waits for a condition.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// nothing fails the test unless all that the plugin makes is gone.
func nothing(t testing.TB) {
	t.Helper()
	waitFor(t, "the resolver to end", func() bool { return len(resolvers(t)) == 0 })
	if dir := folder(t); dir != "" {
		out, _ := exec.Command("ls", "-lA", dir).CombinedOutput()
		t.Errorf("there is %s with\n%s", dir, out)
	}
	if out := host.Run(t, "ss", "-Hlntu", "sport = 53"); out != "" {
		t.Errorf("somebody listens:\n%s", out)
	}
}

// resolvConf has the host ask a real server of its own, until the test ends: it
// knows NAME.example.com, and nothing else.
func resolvConf(t testing.TB, address string, names map[string]string) {
	t.Helper()
	serve(t, address, names)
	useResolvConf(t, "nameserver "+address+"\n")
}

// useResolvConf makes a text be the host's /etc/resolv.conf.
func useResolvConf(t testing.TB, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(file, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount("/etc/resolv.conf", syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// serve runs dnsmasq at an address and port 53, or PORT after "#".
func serve(t testing.TB, address string, names map[string]string, more ...string) {
	t.Helper()
	address, port, ok := strings.Cut(address, "#")
	if !ok {
		port = "53"
	}
	args := []string{"--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=" + address, "--port=" + port,
		"--pid-file=", "--user=root", "--local=/example.com/"}
	for name, addr := range names {
		args = append(args, "--host-record="+name+","+addr)
	}
	cmd := exec.Command("dnsmasq", append(args, more...)...)
	var said strings.Builder
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck // it is killed
	})
	waitFor(t, "dnsmasq", func() bool {
		out, _ := host.Try("dig", "+time=1", "+tries=1", "@"+address, "-p", port, "version.bind", "CH", "TXT")
		return strings.Contains(out, "status: NOERROR")
	})
}

// silent has a server at an address that never answers.
func silent(t testing.TB, address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", address+":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
}

// decode returns the result of the pod's ADD.
func decode(t testing.TB, p *pod) *cni.Result {
	t.Helper()
	result, err := cni.DecodeResult(p.Prev, cni.Latest)
	if err != nil {
		t.Fatal(err)
	}
	return result
}
