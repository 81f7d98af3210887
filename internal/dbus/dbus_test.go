package dbus_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/internal/dbus"
)

const busConfig = `<busconfig>
  <listen>unix:path=SOCKET</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>`

// bus starts a bus that ends with the test, and returns its socket and process.
func bus(t *testing.T) (string, *os.Process) {
	t.Helper()
	dir := t.TempDir()
	socket, config := filepath.Join(dir, "socket"), filepath.Join(dir, "config")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(busConfig, "SOCKET", socket)), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--nosyslog")
	// It ends with the test's thread, also when that is killed.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck // it is killed
	})
	for range 600 {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return socket, cmd.Process
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("dbus-daemon does not get ready")
	return "", nil
}

// silence listens, and says nothing.
func silence(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return socket
}

// leavesNothing fails if goroutines or file descriptors are left at the test's
// end. Goroutines may need a moment to end, and the last that used a descriptor
// closes it.
func leavesNothing(t *testing.T) {
	t.Helper()
	fds := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	fds() // the poller has descriptors of its own, which stay
	goroutines, descriptors := runtime.NumGoroutine(), fds()
	t.Cleanup(func() {
		for range 1000 {
			if runtime.NumGoroutine() <= goroutines && fds() <= descriptors {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		stacks := make([]byte, 1<<16)
		t.Errorf("%d file descriptors, %d before; goroutines are\n%s", fds(), descriptors, stacks[:runtime.Stack(stacks, true)])
	})
}

func TestCalls(t *testing.T) {
	socket, _ := bus(t)
	leavesNothing(t)
	// No address of a bus is taken from the environment.
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
	for range 3 {
		conn, err := dbus.Dial(t.Context(), socket)
		if err != nil {
			t.Fatal(err)
		}
		const driver = "org.freedesktop.DBus"
		for service, want := range map[string]bool{driver: true, "com.example.Nobody": false} {
			if has, err := conn.HasOwner(service); has != want || err != nil {
				t.Errorf("%s has an owner: %v, %v", service, has, err)
			}
		}
		self := dbus.Object{Service: driver, Path: "/org/freedesktop/DBus"}
		if owner, err := conn.Call(self, driver+".GetNameOwner", driver); owner != driver || err != nil {
			t.Errorf("the owner is %q, %v", owner, err)
		}
		_, err = conn.Call(self, driver+".GetNameOwner", "com.example.Nobody")
		var refusal *dbus.Error
		if !errors.As(err, &refusal) || refusal.Name != driver+".Error.NameHasNoOwner" || !strings.Contains(refusal.Text, "com.example.Nobody") {
			t.Errorf("a refusal is %#v", err)
		}
		if _, err := conn.Call(dbus.Object{Service: "com.example.Nobody", Path: "/"}, "com.example.Nobody.Do"); !errors.As(err, &refusal) {
			t.Errorf("a call of nobody: %v", err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if _, err := conn.HasOwner(driver); err == nil {
			t.Error("a closed connection answers")
		}
	}
}

func TestNoBus(t *testing.T) {
	leavesNothing(t)
	dead := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for _, socket := range []string{dead, dead + "/none", dead + ".none"} {
		_, err := dbus.Dial(t.Context(), socket)
		if want := !strings.HasSuffix(socket, "/none"); errors.Is(err, dbus.ErrNoBus) != want {
			t.Errorf("%s: %v", socket, err)
		}
	}
}

// A bus that says nothing is waited for as long as the context says.
func TestSilence(t *testing.T) {
	socket := silence(t)
	leavesNothing(t)
	deadline, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := dbus.Dial(deadline, socket); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("until a deadline: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := dbus.Dial(cancelled, socket); !errors.Is(err, context.Canceled) {
		t.Errorf("until cancelled: %v", err)
	}
}

// A context that ends takes the connection with it, also from a call that waits.
func TestEnd(t *testing.T) {
	socket, daemon := bus(t)
	leavesNothing(t)
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := dbus.Dial(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, cancel)
	for _, when := range []string{"while it waits", "after the end"} {
		if _, err := conn.HasOwner("org.freedesktop.DBus"); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", when, err)
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}
