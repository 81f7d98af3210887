package main_test

import (
	"os"
	"path/filepath"
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
