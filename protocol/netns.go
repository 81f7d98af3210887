package protocol

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/cni"
)

// sandbox refuses a request whose network namespace is the host's own: what
// would be made or removed there is the host's. A path that leads nowhere is
// let pass; on DEL it is normal, and other verbs find out for themselves.
//
// A /proc/PID path is a special case on DEL. The container's process is gone
// and its number may be another's by now, one of the host's. The namespace is
// gone then, and refusing would leave the attachment behind for good: DEL goes
// on without a namespace.
func (c *call) sandbox() error {
	if c.req.NetNS == "" || c.req.NetNSOverride {
		return nil
	}
	same, err := SameNetNS(c.env.HostNS, c.req.NetNS)
	if err != nil {
		return cni.Errorf(cni.CodeIO, "compare CNI_NETNS %s with the host's network namespace: %w", c.req.NetNS, err)
	}
	if !same {
		return nil
	}
	if c.req.Verb == cni.VerbDel && reusable(c.req.NetNS) {
		fmt.Fprintf(c.env.Stderr, "%s DEL: %s is the host's network namespace by now; deleting without one\n",
			c.handler.Name(), c.req.NetNS)
		c.req.NetNS = ""
		return nil
	}
	return cni.Errorf(cni.CodeInvalidEnvironment, "CNI_NETNS %s is the host's own network namespace", c.req.NetNS).
		WithDetails("set CNI_NETNS_OVERRIDE=1 if that is meant")
}

// SameNetNS reports whether two paths are the same namespace. They are when
// device and inode of what they lead to are (namespaces(7)). An empty host
// path is the calling thread's namespace, which the process's first thread
// need not share. A path that leads nowhere is no namespace, and no error.
func SameNetNS(host, path string) (bool, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	theirs, err := os.Stat(path)
	if err != nil {
		return false, nil
	}
	if host == "" {
		host = "/proc/thread-self/ns/net"
	}
	ours, err := os.Stat(host)
	if err != nil {
		return false, err
	}
	return os.SameFile(ours, theirs), nil
}

// reusable reports whether path names a namespace by the number of a process
// that may have come to an end: /proc/PID/ns/net or /proc/PID/task/TID/ns/net.
// Process 1 and this one have not.
func reusable(path string) bool {
	part := strings.Split(strings.TrimPrefix(filepath.Clean(path), "/"), "/")
	if len(part) < 4 || part[0] != "proc" {
		return false
	}
	pid, err := strconv.Atoi(part[1])
	return err == nil && pid > 1 && pid != os.Getpid()
}
