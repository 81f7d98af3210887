package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/plugins/all"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// names are those that the program answers to as a plugin.
func names() []string {
	var list []string
	for _, p := range all.Plugins() {
		list = append(list, p.Name())
	}
	return list
}

// TestAbout: callers parse what a plugin says of itself without CNI_COMMAND.
func TestAbout(t *testing.T) {
	version, err := os.ReadFile(filepath.Join(host.Root(t), "VERSION"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names() {
		stdout, stderr, exit := host.Plugin(t, host.Bin(t), name, nil, "")
		want := fmt.Sprintf("CNI %s plugin v1.9.1+plumb.%s\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n",
			name, strings.TrimSpace(string(version)))
		if exit != 0 || stdout != "" || stderr != want {
			t.Errorf("%s: exit status %d, %q, %q; want %q", name, exit, stdout, stderr, want)
		}
	}
}

func TestUnknownName(t *testing.T) {
	dir := t.TempDir()
	link(t, filepath.Join(host.Bin(t), "plumb-cni"), filepath.Join(dir, "macvlane"))
	for _, program := range []struct{ dir, name string }{{dir, "macvlane"}, {host.Bin(t), "plumb-cni"}} {
		stdout, stderr, exit := host.Plugin(t, program.dir, program.name, []string{"CNI_COMMAND=ADD"}, "{}")
		if exit != 1 || stdout != "" || !strings.Contains(stderr, fmt.Sprintf("there is no plugin %q", program.name)) || !strings.Contains(stderr, "--list") {
			t.Errorf("%s: exit status %d, %q, %q", program.name, exit, stdout, stderr)
		}
	}
}

// TestList compares the names that the program lists with the links that
// scripts/build made of them: those on request only where it was told so.
func TestList(t *testing.T) {
	bin := host.Bin(t)
	listed := strings.Fields(host.Run(t, filepath.Join(bin, "plumb-cni"), "--list"))
	always := slices.DeleteFunc(names(), all.OnRequest)
	if want := append([]string{"cnitool", "plumb"}, always...); !slices.Equal(listed, want) {
		t.Errorf("--list says %v, want %v", listed, want)
	}
	onRequest := strings.Fields(host.Run(t, filepath.Join(bin, "plumb-cni"), "--list-on-request"))
	if want := []string{"dnsname"}; !slices.Equal(onRequest, want) {
		t.Errorf("--list-on-request says %v, want %v", onRequest, want)
	}
	for _, name := range append(listed, onRequest...) {
		if target, err := os.Readlink(filepath.Join(bin, name)); err != nil || target != "plumb-cni" {
			t.Errorf("%s: %q, %v; want a link to plumb-cni in the same folder", name, target, err)
		}
	}
}

// TestFolderMountedElsewhere adds a container with the folder of the plugins
// as a runtime in a container of its own has it: alone, and by another path.
func TestFolderMountedElsewhere(t *testing.T) {
	bin, elsewhere := host.Bin(t), t.TempDir()
	env := host.Env("ADD", "mounted", host.NetNS(t), "eth0", elsewhere)
	script := `mount --bind "$1" "$2"; mount -t tmpfs none "$1"; shift 2
		printf %s "$1" | env -i "${@:3}" CNI_COMMAND=ADD "$2"/ptp; printf %s "$1" | env -i "${@:3}" CNI_COMMAND=DEL "$2"/ptp`
	args := append([]string{"--mount", "bash", "-euc", script, "bash", bin, elsewhere, ptp("mounted"), elsewhere}, env...)
	if out := host.Run(t, "unshare", args...); !regexp.MustCompile(`"10\.88\.0\.\d+/24"`).MatchString(out) {
		t.Errorf("ADD answered %s", out)
	}
}

// ptp is a configuration of a network.
func ptp(network string) string {
	return fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,"type":"ptp","ipam":{"type":"host-local","subnet":"10.88.0.0/24"}}`, network)
}

// TestIPAM: the IPAM plugin found first on CNI_PATH is the one that is asked,
// in our process only if it is ours.
func TestIPAM(t *testing.T) {
	bin := host.Bin(t)
	foreign := t.TempDir()
	calls := filepath.Join(t.TempDir(), "calls")
	script(t, filepath.Join(foreign, "host-local"), fmt.Sprintf(`
		{ echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS $CNI_PATH"; cat; echo; } >>%s
		[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.99.0.9/24","gateway":"10.99.0.1"}]}'`, calls))
	linked := t.TempDir()
	link(t, filepath.Join(bin, "plumb-cni"), filepath.Join(linked, "host-local"))
	empty := t.TempDir()

	for _, test := range []struct {
		name    string
		path    []string
		address string
		foreign bool
	}{
		{"ours alone", []string{bin}, "10.88.0.", false},
		{"ours first", []string{bin, foreign}, "10.88.0.", false},
		{"theirs first", []string{foreign, bin}, "10.99.0.9/24", true},
		{"theirs first that has any", []string{empty, foreign, bin}, "10.99.0.9/24", true},
		{"ours by a link from elsewhere", []string{linked, foreign, bin}, "10.88.0.", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := host.Snapshot(t)
			log := filepath.Join(t.TempDir(), "log")
			ns := host.NetNS(t)
			want := ""
			for _, verb := range []string{"ADD", "DEL"} {
				env := append(host.Env(verb, "ipam", ns, "eth0", test.path...), "PLUMB_LOG="+log)
				stdout, stderr, exit := host.Plugin(t, bin, "ptp", env, ptp("ipam"))
				if exit != 0 || stderr != "" || verb == "ADD" && !strings.Contains(stdout, test.address) {
					t.Fatalf("%s: exit status %d\n%s%s", verb, exit, stdout, stderr)
				}
				if test.foreign { // it is given the call as it came
					want += fmt.Sprintf("%s ipam eth0 %s %s\n%s\n", verb, ns, strings.Join(test.path, ":"), ptp("ipam"))
				}
			}
			got, _ := os.ReadFile(calls) // not there before the first call
			os.Remove(calls)             //nolint:errcheck // likewise
			if string(got) != want {
				t.Errorf("the foreign plugin was called with\n%s\nwant\n%s", got, want)
			}
			host.Unchanged(t, before, host.SharedFiles, host.SharedForwarding)
		})
	}
}

// TestOwnIPAMIsNoProcess looks at the programs that an ADD executes.
func TestOwnIPAMIsNoProcess(t *testing.T) {
	dir, trace := straced(t, "ptp", "execve")
	ns := host.NetNS(t)
	env := host.Env("ADD", "alone", ns, "eth0", host.Bin(t))
	t.Cleanup(func() {
		host.Plugin(t, host.Bin(t), "ptp", host.Env("DEL", "alone", ns, "eth0", host.Bin(t)), ptp("alone"))
	})
	if stdout, stderr, exit := host.Plugin(t, dir, "ptp", env, ptp("alone")); exit != 0 {
		t.Fatalf("exit status %d\n%s%s", exit, stdout, stderr)
	}
	if calls := regexp.MustCompile(`execve\(.*`).FindAllString(read(t, trace), -1); len(calls) != 1 {
		t.Errorf("ADD executed %q", calls)
	}
}

// straced returns a folder with a plugin that writes its system calls of the
// given names to the file trace.
func straced(t *testing.T, plugin, calls string) (dir, trace string) {
	t.Helper()
	dir = t.TempDir()
	trace = filepath.Join(dir, "trace")
	script(t, filepath.Join(dir, plugin), fmt.Sprintf("exec strace -qq -f -e trace=%s -e signal=none -o %s %s", calls, trace, filepath.Join(host.Bin(t), plugin)))
	return dir, trace
}

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

func script(t *testing.T, file, body string) {
	t.Helper()
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
