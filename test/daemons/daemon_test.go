package daemons

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/test/host"
)

// A daemon is a program that runs beside the tests.
type daemon struct {
	args  []string
	ready func() bool
	cmd   *exec.Cmd
	log   string
}

// daemons are those of one host, in the order of their start.
type daemons struct{ bus, udevd, networkd, manager *daemon }

// start mounts the daemons' packages over /usr and /etc and starts them. They end with the test.
func start(t *testing.T) *daemons {
	t.Helper()
	tree := os.Getenv(treeEnv)
	for _, dir := range []string{"/run/dbus", "/run/udev", "/run/systemd", "/run/etc/upper", "/run/etc/work", "/var/lib/NetworkManager"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Their order decides: what was unpacked hides the machine's.
	host.Run(t, "mount", "-t", "overlay", "-o", "lowerdir="+tree+"/usr:/usr", "overlay", "/usr")
	host.Run(t, "mount", "-t", "overlay", "-o", "lowerdir="+tree+"/etc:/etc,upperdir=/run/etc/upper,workdir=/run/etc/work", "overlay", "/etc")
	t.Cleanup(func() {
		for _, dir := range []string{"/etc", "/usr"} {
			host.Run(t, "umount", "--lazy", dir)
		}
	})
	// What a policy of persistent MACs is derived from.
	if err := os.WriteFile("/etc/machine-id", []byte("9a1f7fdbd5a54d7cbc7f2c4f5a3b0d11\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	works := func(name string, args ...string) func() bool {
		return func() bool { _, err := host.Try(name, args...); return err == nil }
	}
	d := &daemons{
		bus:      &daemon{args: []string{"dbus-daemon", "--system", "--nofork", "--nopidfile"}, ready: works("busctl", "--system", "list")},
		udevd:    &daemon{args: []string{"/lib/systemd/systemd-udevd"}, ready: works("udevadm", "control", "--ping")},
		networkd: &daemon{args: []string{"/lib/systemd/systemd-networkd"}, ready: works("networkctl", "list")},
		manager:  &daemon{args: []string{"NetworkManager", "--no-daemon"}, ready: works("nmcli", "-t", "device")},
	}
	for _, x := range d.all() {
		t.Cleanup(func() { x.stop(t) })
		x.start(t)
	}
	host.Run(t, "udevadm", "trigger", "--action=add", "--subsystem-match=net", "--settle")
	return d
}

func (d *daemons) all() []*daemon { return []*daemon{d.bus, d.udevd, d.networkd, d.manager} }

// watchers are those that act on interfaces.
func (d *daemons) watchers() []*daemon { return d.all()[1:] }

// freeze stops the daemons where they are until thaw: what happens meanwhile they learn later, from the kernel's queues.
func (d *daemons) freeze(t *testing.T) { t.Helper(); d.signal(t, syscall.SIGSTOP) }
func (d *daemons) thaw(t *testing.T)   { t.Helper(); d.signal(t, syscall.SIGCONT) }

func (d *daemons) signal(t *testing.T, s os.Signal) {
	t.Helper()
	for _, x := range d.watchers() {
		if err := x.cmd.Process.Signal(s); err != nil {
			t.Fatalf("%v to %s: %v", s, x.args[0], err)
		}
	}
}

// settle waits until each daemon knows each interface of the host and has done with it what it does, and the kernel has the addresses checked.
func (d *daemons) settle(t *testing.T) {
	t.Helper()
	host.Run(t, "udevadm", "settle", "--timeout=30")
	wait(t, "networkd and NetworkManager to know all interfaces", func() error {
		known, err := host.Try("nmcli", "-t", "-f", "DEVICE,STATE", "device")
		if err != nil {
			return err
		}
		for name, link := range host.Links(t, "") {
			state, err := os.ReadFile(fmt.Sprintf("/run/systemd/netif/links/%d", link.Index))
			if err != nil || bytes.Contains(state, []byte("ADMIN_STATE=pending")) || bytes.Contains(state, []byte("ADMIN_STATE=initialized")) {
				return fmt.Errorf("networkd on %s: %v %s", name, err, state)
			}
			if !strings.Contains("\n"+known, "\n"+name+":") {
				return fmt.Errorf("NetworkManager doesn't list %s:\n%s", name, known)
			}
		}
		for _, a := range host.Addrs(t, "") {
			if a.Tentative {
				return fmt.Errorf("%+v", a)
			}
		}
		return nil
	})
	time.Sleep(2 * time.Second) // for what they do next
}

// restart ends networkd and NetworkManager and starts them anew, and shows udevd each interface as if it had just come.
func (d *daemons) restart(t *testing.T) {
	t.Helper()
	for _, x := range []*daemon{d.networkd, d.manager} {
		x.stop(t)
		x.start(t)
	}
	for _, action := range []string{"add", "change"} {
		host.Run(t, "udevadm", "trigger", "--action="+action, "--subsystem-match=net", "--settle")
	}
}

func (d *daemon) start(t *testing.T) {
	t.Helper()
	d.log = filepath.Join("/run", filepath.Base(d.args[0])+".log")
	log, err := os.Create(d.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d.cmd = exec.Command(d.args[0], d.args[1:]...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait(t, d.args[0], func() error {
		if !d.ready() {
			return fmt.Errorf("it isn't ready:\n%s", d.said())
		}
		return nil
	})
}

// stop ends the daemon as its service manager would.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	if d.cmd == nil {
		return
	}
	if t.Failed() {
		t.Logf("%s wrote:\n%s", d.args[0], d.said())
	}
	d.cmd.Process.Signal(syscall.SIGCONT) //nolint:errcheck // a daemon that has died is found by its log
	d.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck
	timer := time.AfterFunc(10*time.Second, func() { d.cmd.Process.Kill() })
	d.cmd.Wait() //nolint:errcheck // its exit status says nothing
	timer.Stop()
	d.cmd = nil
}

func (d *daemon) said() string {
	data, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(data), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}

// wait gives a condition a minute to come true: processes start slowly in an emulator.
func wait(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("wait for %s: %v", what, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
