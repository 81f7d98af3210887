// Package node is what the tests of all runtimes share: the machine that a runtime runs on, what it finds there, and what must be
// left of it.
//
// The machine is test/host's private one (host.Main belongs in TestMain, host.Internet is the world outside), so a runtime that is
// started by a test has an empty /run, /var/lib/cni and /etc/cni and no network but the test's. It sees the machine's cgroups. All that it is to keep
// belongs in a folder of the test (t.TempDir).
package node

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/test/host"
)

// Plugins is a folder of plugins for a runtime, and what to call it.
type Plugins struct{ Name, Dir string }

// Ours returns the plugins of this repository, those that are installed on request only included.
func Ours(t testing.TB) Plugins { t.Helper(); return Plugins{"plumb", host.Bin(t)} }

// Reference returns the reference's of host.ReferenceVersion.
func Reference(t testing.TB) Plugins { t.Helper(); return Plugins{"reference", host.Reference(t)} }

// patience is how long a command of a runtime, or what follows from it, may take on a machine that others use as well.
const patience = 2 * time.Minute

// A Runtime is how the commands of a runtime are called: with more environment, and with arguments in front of those of each call.
type Runtime struct {
	Env  []string
	Args []string // the first is the program
}

// Try runs the program and returns what it wrote to standard output, without white space at its ends. The error holds the command and what it
// wrote to standard error.
func (r Runtime) Try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args = append(r.Args[:len(r.Args):len(r.Args)], args...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), r.Env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second // what it left running may hold the streams open
	if err := cmd.Run(); err != nil {
		return strings.TrimSpace(stdout.String()), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// Run is Try, and ends the test when the command fails.
func (r Runtime) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := r.Try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// routerAnycast is the pattern of the addresses that the kernel gives to an IPv6 router, on all of its links.
const routerAnycast = `^route 6 table local anycast `

// bridgesOpened is the pattern of the bridges that portmap remembers to have set a sysctl of.
const bridgesOpened = `^nft element inet plumb localnet-opened `

// Clean fails the test when more is left on the host than there was before: links, addresses, routes, rules of nftables and
// iptables, sysctls, files of plugins. The patterns name what may be (host.SharedBridge); that the host forwards, and what all
// attachments share and costs nothing while it is empty, always may.
func Clean(t testing.TB, before host.State, patterns ...string) {
	t.Helper()
	host.Unchanged(t, before, append(patterns,
		host.SharedNFT, host.SharedFiles, host.SharedForwarding, host.SharedFirewall, routerAnycast, bridgesOpened)...)
}

// Eventually fails the test unless f succeeds within a generous time, and tells its last error.
func Eventually(t testing.TB, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after %v: %v", patience, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Answers fails the test unless the server that is reached from ns ("" is the host) at that address is the container of that host name, and
// returns what it said. It tries for a moment, because a container's process listens some time after its start.
func Answers(t testing.TB, ns, network, address, container string) host.Answer {
	t.Helper()
	var answer host.Answer
	Eventually(t, func() (err error) {
		answer, err = host.Ask(t, ns, network, address, "")
		if err != nil {
			return fmt.Errorf("%s %s from %q: %w", network, address, ns, err)
		}
		return nil
	})
	if answer.Server != container {
		t.Errorf("%s %s from %q leads to %s, not to %s", network, address, ns, answer.Server, container)
	}
	return answer
}

// Silent fails the test when anybody answers at that address.
func Silent(t testing.TB, ns, network, address string) {
	t.Helper()
	if answer, err := host.Ask(t, ns, network, address, ""); err == nil {
		t.Errorf("%s %s from %q leads to %s, where nobody should answer", network, address, ns, answer.Server)
	}
}
