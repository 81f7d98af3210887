package resolver

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Detach leaves what the process has of whoever started it, who must neither wait
// for its end nor bring it about, and returns the socket that it was passed as a
// descriptor.
func Detach(socket int) (*net.UnixListener, error) {
	file := os.NewFile(uintptr(socket), "socket")
	if file == nil {
		return nil, fmt.Errorf("%d is no descriptor", socket)
	}
	copied, err := net.FileListener(file) // which an exec closes
	file.Close()                          // not by its finalizer, when the number is another's
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w; the plugin dnsname starts the resolver", socket, err)
	}
	listener, ok := copied.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("descriptor %d is no socket of a path", socket)
	}
	if err := closeInherited(); err != nil {
		return nil, err
	}
	leaveCgroups()
	return listener, nil
}

// closeInherited closes what was there when this program began: all that an exec
// does not close, which this process opens nothing of.
func closeInherited() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= unix.Stderr { // these lead to /dev/null
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	return nil
}

// leaveCgroups moves the process to the root of each hierarchy, as far as it
// may: a service manager ends all that is in a service's cgroup with that.
func leaveCgroups() {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		// proc_pid_mountinfo(5): ... root, mount point, ... - type ...
		mount, rest, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(mount)
		if !ok || len(fields) < 5 || fields[3] != "/" || !strings.HasPrefix(rest, "cgroup") {
			continue
		}
		_ = os.WriteFile(filepath.Join(fields[4], "cgroup.procs"), []byte("0"), 0)
	}
}
