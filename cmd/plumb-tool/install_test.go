package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

// plugins runs plumb plugins with arguments.
func plugins(t testing.TB, args ...string) string {
	t.Helper()
	return host.Run(t, filepath.Join(host.Bin(t), "plumb"), append([]string{"plugins"}, args...)...)
}

// files lists a folder: names, and what a link leads to.
func files(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		line := e.Name()
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			line += " -> " + target
		}
		list = append(list, line)
	}
	return strings.Join(list, "\n")
}

// about runs a plugin without a verb and returns what it says of itself.
func about(t testing.TB, path string) string {
	t.Helper()
	out, err := exec.Command(path).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "CNI") {
		t.Fatalf("%s: %v\n%s", path, err, out)
	}
	return string(out)
}

// TestInstall places the plugins into a folder that isn't there, and does nothing
// the second time.
func TestInstall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cni/bin")
	plugins(t, "install", dir)
	listed := strings.Fields(host.Run(t, filepath.Join(host.Bin(t), "plumb-cni"), "--list"))
	want := []string{".plumb", "plumb-cni", "plumb-runc", "plumb-tool"}
	for _, name := range listed {
		want = append(want, name+" -> plumb-cni")
	}
	slices.Sort(want)
	if got := strings.Split(files(t, dir), "\n"); !slices.Equal(got, want) {
		t.Errorf("it placed %q, want %q", got, want)
	}
	if out := plugins(t, "install", dir); out != "all is in its place\n" {
		t.Errorf("the second time it says %q", out)
	}
	if out := host.Run(t, filepath.Join(dir, "plumb"), "version"); !strings.HasPrefix(out, "plumb ") {
		t.Errorf("plumb there says %q", out)
	}
	if _, err := host.Try(filepath.Join(host.Bin(t), "plumb"), "plugins", "install", dir, "--with", "bridge"); err == nil || !strings.Contains(err.Error(), "dnsname") {
		t.Errorf("--with bridge: %v; want to be told of dnsname", err)
	}
	plugins(t, "remove", dir)
	if got := files(t, dir); got != "" {
		t.Errorf("left:\n%s", got)
	}
}

// TestInstallCopies has no links in the folder, and upgrades what is there either
// way.
func TestInstallCopies(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"--copy"}, nil, {"--copy", "--with", "dnsname"}} {
		plugins(t, append([]string{"install", dir}, args...)...)
		link := strings.Contains(files(t, dir), "bridge -> plumb-cni")
		if slices.Contains(args, "--copy") == link {
			t.Errorf("%q placed\n%s", args, files(t, dir))
		}
		if got := about(t, filepath.Join(dir, "bridge")); !strings.Contains(got, "bridge") {
			t.Errorf("the bridge says %q", got)
		}
	}
	// An upgrade: what stands there is of another release, whole or half.
	old := filepath.Join(dir, "plumb-cni")
	for _, name := range []string{"plumb-cni", "bridge"} {
		other := filepath.Join(t.TempDir(), name)
		host.Run(t, "cp", old, other)
		host.Run(t, "sh", "-c", `printf x >>"$0"`, other)
		host.Run(t, "mv", other, filepath.Join(dir, name))
	}
	host.Run(t, "ln", filepath.Join(dir, "bridge"), filepath.Join(dir, "forgotten"))
	out := plugins(t, "install", dir, "--copy")
	if !strings.Contains(out, "removed "+dir+"/forgotten") || !strings.Contains(files(t, dir), "dnsname") {
		t.Errorf("it says\n%sand leaves\n%s", out, files(t, dir))
	}
	same := host.Run(t, "sh", "-c", `cd "$0" && stat -c %i plumb-cni bridge dnsname | sort -u | wc -l`, dir)
	if strings.TrimSpace(same) != "1" {
		t.Errorf("%s different files in\n%s", same, files(t, dir))
	}
}

// TestInstallAfterKill upgrades a folder in which an earlier run was killed just
// before it put a link in its place.
func TestInstallAfterKill(t *testing.T) {
	later := t.TempDir()
	for _, name := range []string{"plumb-cni", "plumb-tool", "plumb-runc"} {
		host.Run(t, "cp", filepath.Join(host.Bin(t), name), later)
		host.Run(t, "sh", "-c", `printf x >>"$0"`, filepath.Join(later, name))
	}
	for name, link := range map[string][]string{"symbolic": {"ln", "-s", "plumb-cni"}, "hard": {"ln", "theirs"}} {
		dir := t.TempDir()
		host.Run(t, "cp", "/bin/true", filepath.Join(dir, "theirs"))
		plugins(t, "install", dir)
		host.Run(t, "env", append([]string{"-C", dir}, append(link, ".plumb/arriving")...)...)
		plugins(t, "install", dir, "--from", later)
		host.Run(t, "cmp", "/bin/true", filepath.Join(dir, "theirs"))
		for _, file := range []string{"plumb-cni", "plumb-tool", "plumb-runc"} {
			host.Run(t, "cmp", filepath.Join(later, file), filepath.Join(dir, file))
			if info, err := os.Lstat(filepath.Join(dir, file)); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%s: %s is %v, %v", name, file, info.Mode(), err)
			}
		}
		plugins(t, "remove", dir)
		if got := files(t, dir); got != "theirs" {
			t.Errorf("%s: left:\n%s", name, got)
		}
	}
}

// TestInstallFails leaves the plugins of others in their places where there is no
// room for ours, and nothing of it once it is removed.
func TestInstallFails(t *testing.T) {
	dir := t.TempDir()
	host.Run(t, "mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", dir)
	t.Cleanup(func() { host.Run(t, "umount", dir) })
	host.Run(t, "cp", "/bin/true", filepath.Join(dir, "bridge"))
	before := files(t, dir)
	_, err := host.Try(filepath.Join(host.Bin(t), "plumb"), "plugins", "install", "--force", dir)
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("it says %v", err)
	}
	host.Run(t, "cmp", "/bin/true", filepath.Join(dir, "bridge"))
	plugins(t, "remove", dir)
	if got := files(t, dir); got != before {
		t.Errorf("left:\n%s\nwant\n%s", got, before)
	}
	host.Run(t, "cmp", "/bin/true", filepath.Join(dir, "bridge"))
}

// TestInstallBesidePluginsOfOthers touches no plugin that somebody has built in
// our module.
func TestInstallBesidePluginsOfOthers(t *testing.T) {
	dir := t.TempDir()
	host.Run(t, "go", "build", "-C", "../..", "-o", dir, "./examples/somaxconn")
	plugins(t, "install", dir)
	if out := about(t, filepath.Join(dir, "somaxconn")); !strings.Contains(out, "somaxconn") {
		t.Errorf("somaxconn says %q", out)
	}
	plugins(t, "remove", dir)
	if got := files(t, dir); got != "somaxconn" {
		t.Errorf("left:\n%s", got)
	}
}

// TestInstallOverOthers keeps files of others where it may, or leaves all as it is.
func TestInstallOverOthers(t *testing.T) {
	dir := t.TempDir()
	host.Run(t, "cp", "-a", host.Reference(t)+"/.", dir)
	host.Run(t, "ln", "-s", "bridge", filepath.Join(dir, "cnitool"))
	before := files(t, dir)
	_, err := host.Try(filepath.Join(host.Bin(t), "plumb"), "plugins", "install", dir)
	if err == nil || !strings.Contains(err.Error(), "bridge") || !strings.Contains(err.Error(), "--force") {
		t.Errorf("over the reference's: %v; want what is in the way, and a hint", err)
	}
	if after := files(t, dir); after != before {
		t.Errorf("it failed and changed\n%s\nto\n%s", before, after)
	}
	plugins(t, "install", dir, "--force", "--with", "dnsname")
	if got := about(t, filepath.Join(dir, "bridge")); !strings.Contains(got, "+plumb.") {
		t.Errorf("the bridge is %q", got)
	}
	netDir := t.TempDir()
	for file, list := range map[string]string{
		"names.conflist": `{"cniVersion":"1.0.0","name":"named","plugins":[{"type":"bridge"},{"type":"dnsname"}]}`,
		"fused.conflist": `{"cniVersion":"1.0.0","name":"fused","plugins":[{"type":"plumb","plugins":[{"type":"bridge"}]}]}`,
	} {
		if err := os.WriteFile(filepath.Join(netDir, file), []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := plugins(t, "remove", dir, "--netdir", netDir)
	if !strings.Contains(out, `"named"`) || !strings.Contains(out, `"fused"`) {
		t.Errorf("nothing is said of the list that uses dnsname:\n%s", out)
	}
	if after := files(t, dir); after != before {
		t.Errorf("after it is removed there is\n%s\nand was\n%s", after, before)
	}
	if got := about(t, filepath.Join(dir, "bridge")); strings.Contains(got, "plumb") || !strings.Contains(got, "CNI bridge plugin") {
		t.Errorf("the bridge is %q", got)
	}
}

// TestInstallOverPackage places nothing where a package has its links, unless it
// has to, and then those come back as long as there is something for them to lead
// to.
func TestInstallOverPackage(t *testing.T) {
	dir, lib := t.TempDir(), filepath.Join(t.TempDir(), "lib")
	host.Run(t, "cp", "-a", host.Bin(t)+"/.", lib)
	for _, name := range []string{"bridge", "ptp"} {
		host.Run(t, "ln", "-s", filepath.Join(lib, "plumb-cni"), filepath.Join(dir, name))
	}
	before := files(t, dir)
	_, err := host.Try(filepath.Join(host.Bin(t), "plumb"), "plugins", "install", dir)
	if err == nil || !strings.Contains(err.Error(), lib+"/plumb-cni is a package's") || !strings.Contains(err.Error(), "bridge, ptp") || !strings.Contains(err.Error(), "--force") {
		t.Errorf("over a package's: %v; want whose it is, and a hint", err)
	}
	if out := plugins(t, "remove", dir); !strings.Contains(out, "left bridge, ptp") {
		t.Errorf("remove says\n%s", out)
	}
	if after := files(t, dir); after != before {
		t.Errorf("left is\n%s\nand was\n%s", after, before)
	}
	for _, gone := range []bool{false, true} {
		plugins(t, "install", dir, "--force")
		if out := plugins(t, "install", dir); out != "all is in its place\n" {
			t.Errorf("the second time it says %q", out)
		}
		want := before
		if gone {
			host.Run(t, "rm", "-r", lib)
			want = ""
		}
		plugins(t, "remove", dir)
		if after := files(t, dir); after != want {
			t.Errorf("left is\n%s\nwant\n%s", after, want)
		}
	}
}

// TestSwitchOfNode goes from the reference to plumb, to a later plumb and back,
// with containers that never stop to be reached; ADDs go on all the while.
func TestSwitchOfNode(t *testing.T) {
	host.Internet(t)
	t.Cleanup(func() { host.Try("ip", "link", "del", "br99") }) //nolint:errcheck // there may be none
	config, dataDir := bridged(t)
	dir := t.TempDir()
	host.Run(t, "cp", "-a", host.Reference(t)+"/.", dir)
	in := func(id string) *attach.Attachment {
		a := attach.New(t, config, id)
		a.Bin = dir
		a.Add(t)
		return a
	}
	theirs, goes := in("theirs"), in("goes")
	stop := []func(){pinging(t, "the reference's", theirs.NetNS, host.Internet4, 900)}

	plugins(t, "install", dir, "--force")
	theirs.Check(t)
	goes.Del(t)
	ours := in("ours")
	stop = append(stop, pinging(t, "ours", ours.NetNS, host.Internet4, 600))

	// A later plumb, which is told from this one by its length.
	later := t.TempDir()
	for _, name := range []string{"plumb-cni", "plumb-tool", "plumb-runc"} {
		host.Run(t, "cp", filepath.Join(host.Bin(t), name), later)
		host.Run(t, "sh", "-c", `printf x >>"$0"`, filepath.Join(later, name))
	}
	upgraded := make(chan error)
	go func() {
		_, err := host.Try(filepath.Join(host.Bin(t), "plumb"), "plugins", "install", dir, "--from", later)
		upgraded <- err
	}()
	var meanwhile []*attach.Attachment
	for i := range 5 {
		meanwhile = append(meanwhile, in(fmt.Sprintf("meanwhile%d", i)))
	}
	if err := <-upgraded; err != nil {
		t.Fatal(err)
	}
	for _, a := range append(meanwhile, ours) {
		a.Check(t)
	}
	for _, a := range meanwhile {
		a.Del(t)
	}

	// Back: ours is alive, and the reference deletes it.
	if out := plugins(t, "remove", dir, "--datadir", dataDir); !strings.Contains(out, "put back the other "+dir+"/bridge") {
		t.Errorf("it says\n%s", out)
	}
	if got := about(t, filepath.Join(dir, "bridge")); strings.Contains(got, "plumb") {
		t.Errorf("the bridge is %q", got)
	}
	for _, end := range stop {
		end()
	}
	ours.Del(t)
	theirs.Del(t)
	plugins(t, "remove", dir, "--datadir", dataDir)
	if got := files(t, dir); strings.Contains(got, "plumb") {
		t.Errorf("left:\n%s", got)
	}
	if n := mentions(t, "plumb"); n != 0 {
		t.Errorf("%d mentions are left: %s", n, host.Run(t, "nft", "list ruleset"))
	}
}
