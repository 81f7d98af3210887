// Package daemons has the tests of attachments on a host whose interfaces other programs look after as well: systemd-udevd,
// systemd-networkd and NetworkManager, as Debian configures them. They act on interfaces that appear, each by rules of its own, and
// none of these may hit what a plugin made.
//
// scripts/test-vm alone runs these tests: the daemons are no guests for the machine that one works on.
package daemons

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// treeEnv names the folder with the daemons' packages, unpacked by scripts/vm/daemons.
const treeEnv = "PLUMB_TEST_DAEMONS"

func TestMain(m *testing.M) {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if os.Getenv(treeEnv) == "" || err != nil || !strings.Contains(string(cmdline), "plumb.job=") {
		fmt.Println("these tests run in a virtual machine: scripts/test-vm ./test/daemons")
		return
	}
	host.Main(m)
}
