package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// A list is placed whole, and only one that a runtime can use.
func TestListsInstall(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "net.conflist")
	try := func(text string, args ...string) error {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := host.Try(filepath.Join(host.Bin(t), "plumb"), append([]string{"lists", "install", file, dir}, args...)...)
		return err
	}
	const good = `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"ptp"}]}`
	for _, x := range []struct {
		text, says string
		args       []string
	}{
		{good[:30], "net.conflist", nil},
		{`{"cniVersion":"1.0.0","name":"net","plugins":[]}`, "plugins", nil},
		{`{"cniVersion":"1.0.0","name":"net","type":"ptp"}`, "one plugin", nil},
		{good, "no name for a list", []string{"--as", "net.json"}},
		{good, "no name for a list", []string{"--as", "../net.conflist"}},
		{good, "ptp", []string{"--plugins", dir}},
	} {
		if err := try(x.text, x.args...); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s %v: %v, want %q", x.text, x.args, err, x.says)
		}
		if got := files(t, dir); got != "" {
			t.Errorf("%v leaves %s", x.args, got)
		}
	}
	for range 2 {
		if err := try(good, "--as", "10-net.conflist", "--plugins", host.Bin(t)); err != nil {
			t.Error(err)
		}
		if got := files(t, dir); got != "10-net.conflist" {
			t.Errorf("placed is %q", got)
		}
	}
}

// What is mistyped is told of, with its file.
func TestListsCheck(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"10-good.conflist": `{"cniVersion":"1.0.0","name":"good","plugins":[{"type":"bridge","isGateway":true,"ipam":{"type":"host-local","subnet":"10.1.0.0/16"}},
			{"type":"portmap","capabilities":{"portMappings":true}},{"type":"of-others","anything":1}]}`,
		"15-nerdctl.conflist": `{"cniVersion":"1.0.0","name":"nerdctl","nerdctlID":"17f29b07","nerdctlLabels":{"nerdctl/default-network":"true"},
			"args":{"podman_labels":{"a":"b"}},"plugins":[{"type":"ptp"}]}`,
		"20-bad.conflist": `{"cniVersion":"1.0.0","name":"bad","disbleCheck":true,"plugins":[{"type":"bridge","isGatway":true,"ipam":{"type":"host-local","sbnet":"10.1.0.0/16"}},
			{"type":"bandwidth","ingresRate":1000},{"type":"plumb","plugins":[{"type":"tuning","sysctl":{"net.core.somaxconn":"7"},"promiscuous":true}]}]}`,
		"30-torn.conf":  `{"cniVersion":"1.0.0","name":"torn","type":`,
		"40-one.conf":   `{"cniVersion":"1.0.0","name":"one","type":"loopback","lo":true}`,
		"50-other.conf": `{"cniVersion":"1.0.0","name":"other","type":"ptp","ipam":{"type":"whereabouts","range":"10.0.0.0/8"}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plumb := filepath.Join(host.Bin(t), "plumb")
	if out, err := host.Try(plumb, "lists", "check", filepath.Join(dir, "10-good.conflist")); err != nil || out != "" {
		t.Errorf("a good list: %v %s", err, out)
	}
	stdout, err := exec.Command(plumb, "lists", "check", dir).Output()
	if err == nil {
		t.Error("the exit status is 0")
	}
	want := []string{
		dir + `/20-bad.conflist: network bad: nothing reads key "disbleCheck"; is "disableCheck" meant?`,
		dir + `/20-bad.conflist: network bad: plugin bridge: nothing reads key "ipam.sbnet"; is "ipam.subnet" meant?`,
		dir + `/20-bad.conflist: network bad: plugin bridge: nothing reads key "isGatway"; is "isGateway" meant?`,
		dir + `/20-bad.conflist: network bad: plugin bandwidth: nothing reads key "ingresRate"; is "ingressRate" meant?`,
		dir + `/20-bad.conflist: network bad: plugin tuning: nothing reads key "promiscuous"`,
		`load network configuration ` + dir + `/30-torn.conf: decode network configuration: unexpected end of JSON input (line 1, column 43)`,
		dir + `/40-one.conf: network one: plugin loopback: nothing reads key "lo"`,
	}
	if got := strings.Split(strings.TrimSpace(string(stdout)), "\n"); !slices.Equal(got, want) {
		t.Errorf("it tells\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
