// Package host gives a test binary a machine of its own and the tools to look at it.
//
// A test of plumb changes links, routes and rules of "the host". Main makes sure that this is never the
// machine that the tests are started on: it runs the test binary again in a mount and a network namespace that
// exist for this run alone, where /run, /sys and the folders of CNI are empty. In there the tests are root of an
// otherwise untouched kernel and need no care for each other's leftovers, other test packages
// running at the same time included.
//
// The kernel is observed with iproute2, nft and iptables, never with the libraries that the code under test uses,
// so that one misunderstanding can't hide in both. The package needs the standard library only.
package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// insideEnv names the process outside whose child made the private host. Processes that are started inside
// (fuzz workers, a test that executes its own binary) inherit it, and are not wrapped once more.
const insideEnv = "PLUMB_TEST_HOST"

// tools are what the helpers execute; scripts/deps installs them.
var tools = []string{"ip", "tc", "nft", "iptables-save", "ping", "unshare", "nsenter"}

// Main is the whole of a TestMain: it runs the tests of m in a private host and exits with their status.
//
// It needs root and ends the run with status 1 where it isn't, rather than skipping what then nobody would miss.
// What must happen before (answering as a helper process, say) belongs in front of the call.
func Main(m *testing.M) {
	outer, fresh := strings.CutPrefix(os.Getenv(insideEnv), "new:")
	if outer == "" {
		status, err := wrap()
		removeBuilt()
		if err != nil {
			fmt.Fprintln(os.Stderr, "test/host:", err)
			status = 1
		}
		os.Exit(status)
	}
	err := private(outer)
	if err == nil && fresh {
		if err = settle(); err == nil {
			err = os.Setenv(insideEnv, outer)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/host: prepare the private host:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// wrap runs this same test binary with its arguments in new namespaces and returns its exit status.
func wrap() (int, error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("these tests make network namespaces: run them as root")
	}
	path := os.Getenv("PATH") + ":/usr/sbin:/sbin" // a shell opened by su has no sbin on Debian
	if err := os.Setenv("PATH", path); err != nil {
		return 1, err
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return 1, fmt.Errorf("%w: run scripts/deps, which installs what the tests need", err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=new:%d", insideEnv, os.Getpid()))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL, // go test kills this process, not its child, when a time limit has passed
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that started the child
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("make a mount and a network namespace: %w", err)
	}
	go func() {
		for s := range signals {
			cmd.Process.Signal(s) //nolint:errcheck // it has ended: Wait says so
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), fmt.Errorf("the test process was ended by %v", ws.Signal())
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// private confirms that this process is not in the namespaces of process outer, whatever the environment claims.
func private(outer string) error {
	for _, kind := range []string{"mnt", "net"} {
		theirs, err := os.Readlink("/proc/" + outer + "/ns/" + kind)
		if err != nil {
			return fmt.Errorf("%s=%s: %w", insideEnv, outer, err)
		}
		if ours, err := os.Readlink("/proc/self/ns/" + kind); err != nil || ours == theirs {
			return fmt.Errorf("%s=%s: still in that process's %s namespace (%v)", insideEnv, outer, kind, err)
		}
	}
	return nil
}

// settle turns the new namespaces into a host: nothing is shared with the machine's mounts, the folders that CNI
// and iproute2 write to are empty, lo is up, and the sysctls that plugins change start out from the same values everywhere
// (the kernel lets a new namespace inherit those of IPv4 from the machine).
func settle() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib/cni", "/etc/cni", "/etc/plumb"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
		}
	}
	if err := mountSys(); err != nil {
		return err
	}
	// ip netns add would do this at its first call; done here, parallel first calls can't race.
	if err := os.Mkdir(netnsDir, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(netnsDir, netnsDir, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", netnsDir, err)
	}
	if err := syscall.Mount("", netnsDir, "", syscall.MS_SHARED|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("share %s: %w", netnsDir, err)
	}
	for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter"} {
		if err := os.WriteFile("/proc/sys/net/"+key, []byte("0"), 0); err != nil {
			return err
		}
	}
	_, err := Try("ip", "link", "set", "lo", "up")
	return err
}

// mountSys mounts /sys anew, since /sys/class/net shows the namespace that sysfs was mounted in. The cgroups, which
// runtimes look for below it, move over.
func mountSys() error {
	const cgroups, aside = "/sys/fs/cgroup", "/run/cgroup"
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	moved := syscall.Mount(cgroups, aside, "", syscall.MS_MOVE, "") // fails where nothing is mounted there
	if err := syscall.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount sysfs: %w", err)
	}
	if moved == nil {
		if err := syscall.Mount(aside, cgroups, "", syscall.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move the cgroups: %w", err)
		}
	}
	return os.Remove(aside)
}

// Outside returns the command that runs name with args in the namespaces that the tests were started from: that is
// where a download finds its server. The working directory is dir.
func Outside(dir, name string, args ...string) *exec.Cmd {
	if outer := os.Getenv(insideEnv); outer != "" {
		// The shell changes the folder, because nsenter's option for it (the one that older releases have) opens it in the namespace left.
		enter := []string{"--target", outer, "--mount", "--net", "sh", "-c", `cd "$0" && exec "$@"`, dir, name}
		name, args = "nsenter", append(enter, args...)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	return cmd
}

// Root returns the folder of the module, found upwards from the working directory, which go test sets to the package's folder.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		data, readErr := os.ReadFile(filepath.Join(dir, "go.mod"))
		if readErr == nil && strings.HasPrefix(string(data), "module github.com/plumb-cni/plumb\n") {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			err = errors.New("not below the module's folder")
		}
		dir = parent
	}
	t.Fatalf("find the module's folder: %v", err)
	return ""
}
