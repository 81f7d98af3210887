package host

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow eavesdrop="false" send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>`

// A Daemon is a program that runs beside a test, and ends with it.
type Daemon struct {
	args  []string
	ready func() bool
	stop  func()
}

// Start starts it, and waits until it is ready.
func (d *Daemon) Start(t testing.TB) {
	t.Helper()
	cmd := exec.Command(d.args[0], d.args[1:]...)
	// It ends with the test's thread, also when that is killed.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait() //nolint:errcheck // it is killed
		close(ended)
	}()
	d.stop = func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
		select {
		case <-ended:
		case <-time.After(time.Minute):
			cmd.Process.Kill() //nolint:errcheck // as above
			<-ended
		}
	}
	t.Cleanup(d.Stop)
	for range 600 {
		if d.ready() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s does not get ready", d.args[0])
}

// Stop ends it, if it runs.
func (d *Daemon) Stop() {
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
}

// Firewalld runs firewalld on a system bus of the private host, with its
// settings as they come. Those that are permanent live until the test ends.
func Firewalld(t testing.TB) *Daemon {
	t.Helper()
	if err := os.MkdirAll("/run/dbus", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/run/bus.conf", []byte(busConfig), 0o644); err != nil {
		t.Fatal(err)
	}
	const socket = "/run/dbus/system_bus_socket"
	bus := &Daemon{args: []string{"dbus-daemon", "--config-file=/run/bus.conf", "--nofork", "--nopidfile", "--nosyslog"}, ready: func() bool {
		_, err := os.Stat(socket)
		return err == nil
	}}
	t.Cleanup(func() { os.Remove(socket) })
	bus.Start(t)
	if err := syscall.Mount("tmpfs", "/etc/firewalld", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount("/etc/firewalld", syscall.MNT_DETACH) }) //nolint:errcheck // the host goes too
	d := &Daemon{args: []string{"firewalld", "--nofork", "--nopid", "--log-file=/run/firewalld.log"}, ready: func() bool {
		_, err := Try("firewall-cmd", "--state")
		return err == nil
	}}
	d.Start(t)
	return d
}
