package dhcp_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// reference starts the reference's daemon on a socket.
func reference(t testing.TB, socket string) *process {
	t.Helper()
	p := start(t, filepath.Join(host.Reference(t), "dhcp"), "daemon", "-socketpath", socket)
	until(t, "the reference's daemon", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return p
}

// by calls an attachment's plugin of another implementation.
func (a *attachment) by(t testing.TB, bin, verb, config string) (string, *cni.Error) {
	t.Helper()
	env := append(host.Env(verb, a.id, a.netns, "eth0", bin), "CNI_ARGS="+a.args)
	stdout, stderr, exit := host.Plugin(t, bin, a.plugin, env, config)
	if exit == 0 {
		return stdout, nil
	}
	failure, err := cni.DecodeError([]byte(stdout))
	if err != nil {
		t.Fatalf("%s: exit status %d: %s%s", verb, exit, stdout, stderr)
	}
	return "", failure
}

// TestSwitch switches a node with running containers from the reference to ours: the lease that the reference's daemon has got
// is taken up by CHECK, and an attachment that was never checked is deleted all the same.
func TestSwitch(t *testing.T) {
	l := newLAN(t)
	server := l.dnsmasq(t)
	socket := filepath.Join(t.TempDir(), "dhcp.sock")
	old := reference(t, socket)
	d := &daemon{socket: socket}
	checked, unchecked := l.attach(t, d, ""), l.attach(t, d, "")
	for _, a := range []*attachment{checked, unchecked} {
		out, failure := a.by(t, host.Reference(t), "ADD", a.config)
		if failure != nil {
			t.Fatal(failure)
		}
		a.prev = out
	}
	addrs := checked.onLink(t)
	if _, failure := checked.call(t, "STATUS", checked.config); failure == nil || failure.Code != cni.CodeUnavailable || !strings.Contains(failure.Msg, "the reference's daemon") {
		t.Errorf("STATUS with the reference's daemon: %v", failure)
	}
	old.kill()
	d.start(t)
	leases := strings.Count(server.leased(t), "\n")
	if failure := checked.check(t); failure != nil {
		t.Fatalf("CHECK: %v", failure)
	}
	if now := strings.Count(server.leased(t), "\n"); now != leases {
		t.Errorf("the server has %d leases, before %d: it takes us for another client\n%s", now, leases, server.leased(t))
	}
	if len(d.leases(t)) != 1 || !slices.Equal(checked.onLink(t), addrs) {
		t.Errorf("leases %v, addresses %v", d.leases(t), checked.onLink(t))
	}
	checked.del(t)
	until(t, "a release", func() bool { return !server.has(t, strings.TrimSuffix(addrs[0], "/24")+" ") })
	unchecked.del(t)
	if _, there := host.Links(t, unchecked.netns)["eth0"]; there {
		t.Error("the interface is left")
	}
}

// TestSwitchBack deletes an attachment of ours by the reference, whose daemon knows nothing of it.
func TestSwitchBack(t *testing.T) {
	l := newLAN(t)
	l.dnsmasq(t)
	d := newDaemon(t)
	a := l.attach(t, d, "")
	a.add(t)
	d.kill9(t)
	if err := os.Remove(d.socket); err != nil {
		t.Fatal(err)
	}
	reference(t, d.socket)
	if _, failure := a.by(t, host.Reference(t), "DEL", a.withPrev(t)); failure != nil {
		t.Fatal(failure)
	}
	if _, there := host.Links(t, a.netns)["eth0"]; there {
		t.Error("the interface is left")
	}
}

// TestForeign has our bridge ask the reference's dhcp, which lies before ours on the path: it too has to release before the link goes.
func TestForeign(t *testing.T) {
	l := newLAN(t)
	l.dnsmasq(t)
	socket := filepath.Join(t.TempDir(), "dhcp.sock")
	theirs := reference(t, socket)
	a := l.attach(t, &daemon{socket: socket}, "")
	path := host.Reference(t) + ":" + host.Bin(t)
	call := func(verb, config string) string {
		t.Helper()
		stdout, stderr, exit := host.Plugin(t, host.Bin(t), "bridge", host.Env(verb, a.id, a.netns, "eth0", path), config)
		if exit != 0 {
			t.Fatalf("%s: %s%s", verb, stdout, stderr)
		}
		return stdout
	}
	a.prev = call("ADD", a.config)
	call("DEL", a.withPrev(t))
	// The server gets nothing of it: it comes from no address, and the kernel drops that.
	until(t, "a release", func() bool { return strings.Contains(theirs.String(), "releasing lease") })
	if strings.Contains(theirs.String(), "failed to release") {
		t.Error("the link was gone")
	}
}

// TestDelWithoutDaemon removes the interface, and fails as long as a lease is on disk that nobody can give back.
func TestDelWithoutDaemon(t *testing.T) {
	l := newLAN(t)
	l.dnsmasq(t)
	d := newDaemon(t)
	a, never := l.attach(t, d, ""), l.attach(t, d, "")
	a.add(t)
	d.kill9(t)
	_, failure := a.call(t, "DEL", a.withPrev(t))
	if failure == nil || failure.Code != cni.CodeUnavailable || !strings.Contains(failure.Msg, d.socket) {
		t.Errorf("DEL: %v", failure)
	}
	if _, there := host.Links(t, a.netns)["eth0"]; there {
		t.Error("the interface is left")
	}
	if _, failure := never.call(t, "DEL", never.config); failure != nil {
		t.Errorf("DEL of what never was: %v", failure)
	}
	d.start(t)
	a.del(t)
	if left := d.leases(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestUndo has an ADD fail after there is a lease: it is released, which takes the link that is about to go.
func TestUndo(t *testing.T) {
	l := newLAN(t)
	server := l.dnsmasq(t, "--dhcp-option=121,10.50.0.0/16,10.77.0.1") // a gateway that is nowhere
	d := newDaemon(t)
	a := l.attach(t, d, `"request":[{"option":"121"}]`)
	before := host.Snapshot(t)
	if out, failure := a.call(t, "ADD", a.config); failure == nil {
		t.Fatalf("ADD succeeded: %s", out)
	}
	until(t, "a lease and its release", func() bool { return server.count("DHCPACK(srv)") == 1 && server.count("DHCPRELEASE(srv)") == 1 })
	host.Unchanged(t, before, host.SharedBridge(l.bridge))
	if left := d.leases(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestCallerGone kills the plugin while it waits: what the daemon gets for it then is nobody's.
func TestCallerGone(t *testing.T) {
	l := newLAN(t)
	s := l.script(t, 20*time.Second, 40*time.Second, time.Minute)
	s.set(func() { s.silent = true })
	d := newDaemon(t)
	a := l.attach(t, d, "")
	cmd := exec.Command(filepath.Join(host.Bin(t), "bridge"))
	cmd.Env = host.Env("ADD", a.id, a.netns, "eth0", host.Bin(t))
	cmd.Stdin = strings.NewReader(a.config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now().Add(-time.Second)
	until(t, "a question", func() bool { return len(s.kinds("DISCOVER", begun)) > 0 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	s.set(func() { s.silent = false })
	time.Sleep(2 * time.Second)
	if left := d.leases(t); len(left) > 0 {
		t.Errorf("leases of nobody: %v", left)
	}
	if _, failure := a.call(t, "DEL", a.config); failure != nil {
		t.Errorf("DEL: %v", failure)
	}
}

// TestReleaseOnTheWire looks at the addresses of frames that reach the server.
func TestReleaseOnTheWire(t *testing.T) {
	l := newLAN(t)
	l.script(t, 20*time.Second, 40*time.Second, time.Minute) // no renewal comes in between
	host.RunIn(t, l.server, "nft", `table ip t {
		set seen { type ether_addr . ipv4_addr . ipv4_addr; flags dynamic; }
		chain c { type filter hook input priority 0; udp dport 67 add @seen { ether saddr . ip saddr . ip daddr } ; }
	}`)
	seen := func() string { return host.RunIn(t, l.server, "nft", "list", "set", "ip", "t", "seen") }
	d := newDaemon(t)
	a := l.attach(t, d, "")
	mac := a.add(t).Interfaces[2].MAC
	if first := seen(); !strings.Contains(first, mac+" . 0.0.0.0 . 255.255.255.255") || strings.Contains(first, "10.99.0.60") {
		t.Errorf("asked by %s", first)
	}
	host.RunIn(t, l.server, "nft", "flush", "set", "ip", "t", "seen")
	a.del(t)
	if last := seen(); strings.Count(last, " . ") != strings.Count(last, mac+" . 10.99.0.60 . 10.99.0.1")*2+2 || !strings.Contains(last, mac) {
		t.Errorf("released by %s, want %s", last, mac)
	}
}

// TestBroadcast asks servers to answer by broadcast.
func TestBroadcast(t *testing.T) {
	for _, on := range []bool{false, true} {
		l := newLAN(t)
		s := l.script(t, 20*time.Second, 40*time.Second, time.Minute)
		a := l.attach(t, newDaemon(t, fmt.Sprintf("-broadcast=%t", on)), "")
		a.add(t)
		s.set(func() {
			if s.broadcast != on {
				t.Errorf("-broadcast=%t: the flag in the message is %t", on, s.broadcast)
			}
		})
	}
}

// TestActivated passes the daemon a socket as systemd does.
func TestActivated(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "dhcp.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	file, err := listener.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := &process{Cmd: exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" daemon`, filepath.Join(host.Bin(t), "dhcp"))}
	p.ExtraFiles = []*os.File{file}
	p.Stdout, p.Stderr = &p.output, &p.output
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	l := newLAN(t)
	l.script(t, 20*time.Second, 40*time.Second, time.Minute)
	d := &daemon{socket: socket}
	a := l.attach(t, d, "")
	a.add(t)
	if len(d.leases(t)) != 1 {
		t.Errorf("no lease beside the socket: %s", &p.output)
	}
	a.del(t)
}

// TestHostPrefix runs a daemon that sees the host's files below a folder.
func TestHostPrefix(t *testing.T) {
	prefix := t.TempDir()
	if err := os.Symlink("/run", filepath.Join(prefix, "run")); err != nil {
		t.Fatal(err)
	}
	start(t, filepath.Join(host.Bin(t), "dhcp"), "daemon", "-hostprefix", prefix)
	const socket = "/run/cni/dhcp.sock"
	until(t, "the socket", func() bool { _, err := os.Stat(socket); return err == nil })
	l := newLAN(t)
	l.script(t, 20*time.Second, 40*time.Second, time.Minute)
	d := &daemon{socket: socket}
	a := l.attach(t, d, "")
	a.add(t)
	if left := d.leases(t); len(left) != 1 || !strings.Contains(fmt.Sprint(left), `"netns":"/run/netns/`) {
		t.Errorf("leases: %v", left)
	}
	a.del(t)
}

// TestTwoDaemons refuses to be the second on a socket, and takes that of one that was killed.
func TestTwoDaemons(t *testing.T) {
	d := newDaemon(t)
	second := start(t, filepath.Join(host.Bin(t), "dhcp"), "daemon", "-socketpath", d.socket)
	if err := second.wait(); err == nil {
		t.Error("a second daemon has started and ended")
	}
	matches(t, second.String(), `another daemon serves`)
	d.kill9(t)
	d.start(t)
}

// TestDaemonAlone calls the daemon where the program is missing that has it.
func TestDaemonAlone(t *testing.T) {
	alone := t.TempDir()
	host.Run(t, "cp", filepath.Join(host.Bin(t), "plumb-cni"), filepath.Join(alone, "dhcp"))
	_, err := host.Try(filepath.Join(alone, "dhcp"), "daemon")
	if err == nil || !strings.Contains(err.Error(), filepath.Join(alone, "plumb-tool")+": no such file or directory; install it beside plumb-cni") {
		t.Errorf("%v", err)
	}
}
