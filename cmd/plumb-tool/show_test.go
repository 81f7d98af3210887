package main_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

// TestShow prints what there is of two containers, each in one piece, whatever plugin made it.
func TestShow(t *testing.T) {
	const ptp = `{"cniVersion":"1.1.0","name":"net","type":"ptp","ipam":{"type":"static","addresses":[{"address":"10.7.0.%d/24","gateway":"10.7.0.1"}]}}`
	const tuning = `{"cniVersion":"1.1.0","name":"net","type":"tuning","mtu":1400}`
	var want strings.Builder
	for i, id := range []string{"one", "two"} {
		a := attach.New(t, fmt.Sprintf(ptp, i+2), id)
		a.Add(t)
		b := a.Then(t, tuning)
		b.Add(t)
		fmt.Fprintf(&want, `container %s
  interface eth0, network net, sandbox %s
    ptp
      address 10.7.0.%d
      host link %s
    tuning
      sandbox tuned eth0 mtu
`, id, a.NetNS, i+2, a.HostEnd(t))
	}
	plumb := filepath.Join(host.Bin(t), "plumb")
	for _, args := range [][]string{{"show"}, {"show", "net"}} {
		if got := host.Run(t, plumb, args...); got != want.String() {
			t.Errorf("%q prints\n%s\nwant\n%s", args, got, want.String())
		}
	}
}

// TestArguments has commands say which argument is missing, or too many.
func TestArguments(t *testing.T) {
	for args, want := range map[string]string{
		"plugins install":       "DIR is missing; usage: plumb plugins install DIR [flags]",
		"plugins install /a /b": `too many arguments: ["/b"]; usage: plumb plugins install DIR`,
		"lists install file":    "DIR is missing; usage: plumb lists install FILE DIR",
		"fuse":                  "NETWORK is missing; usage: plumb fuse NETWORK",
		"show a b":              `too many arguments: ["b"]; usage: plumb show [NETWORK]`,
		"plugins frob":          `unknown command "frob" for "plumb plugins"`,
		"lists frob":            `unknown command "frob" for "plumb lists"`,
		"docker frob":           `unknown command "frob" for "plumb docker"`,
		"completion frob":       `unknown command "frob" for "plumb completion"`,
		"frob":                  `unknown command "frob" for "plumb"`,
		"show nonesuch":         `network "nonesuch" has no attachments`,
	} {
		_, err := host.Try(filepath.Join(host.Bin(t), "plumb"), strings.Fields(args)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("plumb %s: %v, want %s", args, err, want)
		}
	}
}
