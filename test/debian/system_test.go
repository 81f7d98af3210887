package debian_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// A system is the machine's own, as it would be if what is done to it were: changes are kept in memory, the database of packages
// included. Only /run is that of the private host.
type system struct {
	root    string
	changes string
}

// newSystem returns a system without packages of plugins.
func newSystem(t *testing.T) *system {
	t.Helper()
	dir := t.TempDir()
	mount := func(args ...string) {
		t.Helper()
		host.Run(t, "mount", args...)
		target := args[len(args)-1]
		t.Cleanup(func() { host.Run(t, "umount", "--recursive", target) })
	}
	mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", dir)
	s := &system{root: filepath.Join(dir, "root"), changes: filepath.Join(dir, "changes")}
	for _, d := range []string{s.root, s.changes, filepath.Join(dir, "work")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("-t", "overlay", "-o", "lowerdir=/,upperdir="+s.changes+",workdir="+filepath.Join(dir, "work"), "overlay", s.root)
	for _, d := range []string{"/proc", "/sys", "/dev", "/run"} {
		mount("--rbind", d, s.root+d)
	}
	s.run(t, "dpkg --purge --force-depends containernetworking-plugins plumb golang-github-containernetworking-plugin-dnsname 2>&1")
	s.run(t, "rm -rf /opt/cni /usr/lib/cni /var/lib/cni /etc/cni /etc/plumb; mkdir -p /etc/cni/net.d")
	return s
}

// run has a shell in the system run a script, and returns what that prints.
func (s *system) run(t *testing.T, script string) string {
	t.Helper()
	return host.Run(t, "chroot", s.root, "sh", "-ec", script)
}

// install installs or upgrades a package.
func (s *system) install(t *testing.T, deb string) {
	t.Helper()
	data, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.root+"/tmp/package.deb", data, 0o644); err != nil {
		t.Fatal(err)
	}
	s.run(t, "dpkg --install /tmp/package.deb 2>&1 && rm /tmp/package.deb")
}

// programs returns the checksums of what is in the folders of plugins.
func (s *system) programs(t *testing.T) string {
	t.Helper()
	return s.run(t, "find /usr/lib/cni /opt/cni -type f -exec sha256sum {} + 2>/dev/null | sort -k 2 || true")
}

// changed lists the files that are other ones than those of the machine, but for dpkg's own.
func (s *system) changed(t *testing.T) string {
	t.Helper()
	var list []string
	for line := range strings.Lines(host.Run(t, "find", s.changes, "-type", "f", "-o", "-type", "l")) {
		path := strings.TrimPrefix(strings.TrimSpace(line), s.changes)
		own := false
		for _, dir := range []string{"/var/lib/dpkg/", "/var/log/", "/var/cache/", "/var/lib/systemd/"} {
			own = own || strings.HasPrefix(path, dir)
		}
		if path != "" && !own {
			list = append(list, path)
		}
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// build returns the package, with a version. Tests share it, in the private host's /run.
func build(t *testing.T, version string) string {
	t.Helper()
	file := "/run/plumb_" + version + ".deb"
	if _, err := os.Stat(file); err == nil {
		return file
	}
	root, dir := host.Root(t), t.TempDir()
	cmd := host.Outside(root, "env", "PACKAGE_VERSION="+version, filepath.Join(root, "scripts/deb"), dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	host.Run(t, "sh", "-ec", "cp "+dir+"/plumb_"+version+"_*.deb "+file)
	return file
}

// A container is on a network of the system.
type container struct {
	*system
	netns string
	port  int // of the host
}

// network is on a bridge, with a port that is published.
const network = `{"cniVersion":"1.0.0","name":"net","plugins":[
	{"type":"bridge","bridge":"br9","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","subnet":"10.99.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}},
	{"type":"portmap","capabilities":{"portMappings":true}}]}`

func (c *container) cnitool(t *testing.T, verb, path string) {
	t.Helper()
	ports := fmt.Sprintf(`{"portMappings":[{"hostPort":%d,"containerPort":80,"protocol":"tcp"}]}`, c.port)
	c.run(t, "CAP_ARGS='"+ports+"' CNI_PATH="+path+" cnitool "+verb+" net "+c.netns)
}

// attach adds a container by the plugins in a folder.
func (s *system) attach(t *testing.T, path string, port int) *container {
	t.Helper()
	if err := os.WriteFile(s.root+"/etc/cni/net.d/10-net.conflist", []byte(network), 0o644); err != nil {
		t.Fatal(err)
	}
	c := &container{s, host.NetNS(t), port}
	c.cnitool(t, "add", path)
	c.ping(t)
	return c
}

// ping fails the test unless the container reaches the host.
func (c *container) ping(t *testing.T) {
	t.Helper()
	host.Run(t, "nsenter", "--net="+c.netns, "ping", "-c", "1", "-W", "5", "10.99.0.1")
}

// free fails the test if anything of plumb's is left on the host or in the system.
func (s *system) free(t *testing.T, changed string) {
	t.Helper()
	if now := s.changed(t); now != changed {
		t.Errorf("files that are changed:\n%s\nwant:\n%s", now, changed)
	}
	if said := s.run(t, "dpkg-divert --list | grep plumb || true; dpkg --list plumb 2>/dev/null | grep ' plumb ' || true"); said != "" {
		t.Errorf("dpkg knows of plumb: %s", said)
	}
	if _, err := os.Stat("/run/plumb"); err == nil {
		t.Error("/run/plumb is there")
	}
	for _, table := range host.NFT(t).Tables {
		if table.Name == "plumb" {
			t.Errorf("table %s plumb is there", table.Family)
		}
	}
}

// answers tells whether a program is a plugin of plumb's: Debian's doesn't know the newest version of the protocol.
func (s *system) answers(t *testing.T, program string) bool {
	t.Helper()
	return strings.Contains(s.run(t, `echo '{"cniVersion":"1.0.0"}' | CNI_COMMAND=VERSION `+program), "1.1.0")
}

// command runs a program that may fail, in the system.
func (s *system) command(args ...string) *exec.Cmd {
	return exec.Command("chroot", append([]string{s.root}, args...)...)
}
