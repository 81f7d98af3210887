package resolver

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/plumb-cni/plumb/state/dnsname"
)

// deleted is what the kernel puts behind the path of a program that another file
// has taken the place of.
const deleted = " (deleted)"

// renew becomes the program that an upgrade has put into the place of this one.
// That reads the same files, and goes on to listen on the same socket: whoever has
// asked just now asks again. It returns if there is none.
func (r *Resolver) renew() {
	self, err := os.Readlink("/proc/self/exe")
	program, gone := strings.CutSuffix(self, deleted)
	if err != nil || !gone || unix.Access(program, unix.X_OK) != nil {
		return
	}
	file, err := r.listener.File()
	if err != nil {
		return
	}
	defer file.Close()
	conn, err := file.SyscallConn() // not Fd, which would have the listener wait in the kernel
	if err != nil {
		return
	}
	_ = conn.Control(func(socket uintptr) {
		if _, err := unix.FcntlInt(socket, unix.F_SETFD, 0); err == nil {
			// If it fails the old one does.
			_ = unix.Exec(program, append([]string{program}, dnsname.Args(r.folder, int(socket))...), dnsname.Env())
		}
	})
}
