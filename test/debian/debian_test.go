// Package debian_test installs the Debian package, uses it, upgrades it and purges it, beside Debian's own package of plugins.
package debian_test

import (
	"os"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// TestOverDebians installs the package where Debian's is, and has it give all back.
func TestOverDebians(t *testing.T) {
	old, updated := build(t, "0.1.0"), build(t, "0.1.1")
	s := newSystem(t)
	s.install(t, host.DebianPackage(t))
	// What no package brought is as good.
	s.run(t, "mkdir -p /opt/cni/bin && for name in bridge flannel; do printf '#!/bin/sh\nexit 7\n' >/opt/cni/bin/$name; chmod +x /opt/cni/bin/$name; done")
	theirs, changed := s.programs(t), s.changed(t)
	if !strings.Contains(theirs, "/usr/lib/cni/bridge") {
		t.Fatalf("Debian's plugins: %s", theirs)
	}

	s.install(t, old)
	s.run(t, "dpkg --verify plumb && dpkg --audit")
	moved := s.programs(t)
	for line := range strings.Lines(theirs) {
		sum, file, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if file == "/opt/cni/bin/flannel" {
			continue
		}
		if !strings.Contains(moved, sum+"  "+file+".distrib") {
			t.Errorf("%s is not kept", file)
		}
		if !s.answers(t, file) {
			t.Errorf("%s is not plumb's", file)
		}
		if strings.HasPrefix(file, "/usr") && s.answers(t, file+".distrib") {
			t.Errorf("%s.distrib is not Debian's", file)
		}
	}
	one, two := s.attach(t, "/usr/lib/cni", 8099), s.attach(t, "/opt/cni/bin", 8098)

	s.install(t, host.DebianPackage(t)) // comes again, as with an upgrade
	if now := s.programs(t); now != moved {
		t.Errorf("after Debian's package came again:\n%s\nwant:\n%s", now, moved)
	}
	s.install(t, updated)
	if said := s.run(t, "dpkg-query -W plumb"); !strings.Contains(said, "0.1.1") {
		t.Errorf("upgraded: %s", said)
	}
	if now := s.programs(t); now != moved {
		t.Errorf("after the upgrade:\n%s\nwant:\n%s", now, moved)
	}
	for _, c := range []*container{one, two} {
		c.ping(t)
		c.cnitool(t, "check", "/usr/lib/cni")
		c.cnitool(t, "del", "/usr/lib/cni")
	}
	host.Run(t, "ip", "link", "del", "br9")

	s.run(t, "rm /etc/cni/net.d/*")
	s.run(t, "dpkg --purge plumb 2>&1")
	if now := s.programs(t); now != theirs {
		t.Errorf("given back:\n%s\nwant:\n%s", now, theirs)
	}
	s.run(t, "dpkg --verify containernetworking-plugins")
	s.run(t, "rm -rf /var/lib/cni") // addresses that were given last, which are Debian's now
	s.free(t, changed)
}

// TestBeforeDebians installs the package on its own, and Debian's later.
func TestBeforeDebians(t *testing.T) {
	s := newSystem(t)
	changed := s.changed(t)
	s.install(t, build(t, "0.1.0"))
	c := s.attach(t, "/usr/lib/cni", 8099)
	s.install(t, host.DebianPackage(t))
	if !s.answers(t, "/usr/lib/cni/bridge") || s.answers(t, "/usr/lib/cni/bridge.distrib") {
		t.Error("Debian's package, which came later, stands before plumb's")
	}
	s.run(t, "dpkg --verify containernetworking-plugins && dpkg --verify plumb")
	c.ping(t)
	s.run(t, "dpkg --purge containernetworking-plugins 2>&1")
	c.cnitool(t, "check", "/usr/lib/cni")
	c.cnitool(t, "del", "/usr/lib/cni")
	host.Run(t, "ip", "link", "del", "br9")
	s.run(t, "rm /etc/cni/net.d/*; dpkg --purge plumb 2>&1")
	s.free(t, changed)
	if _, err := os.Stat(s.root + "/var/lib/cni"); err == nil {
		t.Errorf("left: %s", s.run(t, "find /var/lib/cni"))
	}
}

// TestAlive removes the package while a container is attached: that goes on, and Debian's plugins delete it. What they can't know of goes
// when the package comes and goes once more.
func TestAlive(t *testing.T) {
	s := newSystem(t)
	s.install(t, host.DebianPackage(t))
	changed := s.changed(t)
	s.install(t, build(t, "0.1.0"))
	c := s.attach(t, "/usr/lib/cni", 8099)
	said := s.run(t, "dpkg --purge plumb 2>&1")
	if !strings.Contains(said, "which is alive") || !strings.Contains(said, "their records stay") {
		t.Errorf("purged with a container: %s", said)
	}
	c.ping(t)
	s.run(t, `cd /; CNI_COMMAND=DEL CNI_CONTAINERID=x CNI_NETNS=`+c.netns+` CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni /usr/lib/cni/bridge <<'END'
{"cniVersion":"1.0.0","name":"net","type":"bridge","bridge":"br9","ipam":{"type":"host-local","subnet":"10.99.0.0/24"}}
END`)
	if out, err := host.TryIn(c.netns, "ip", "link", "show", "eth0"); err == nil {
		t.Errorf("Debian's bridge left %s", out)
	}
	host.Run(t, "ip", "link", "del", "br9")
	s.install(t, build(t, "0.1.0"))
	s.run(t, "dpkg --purge plumb 2>&1; rm -r /etc/cni/net.d/* /var/lib/cni")
	s.free(t, changed)
}

// TestChosen upgrades and purges the package where the administrator has put other things into /opt than it did.
func TestChosen(t *testing.T) {
	old, updated := build(t, "0.1.0"), build(t, "0.1.1")
	s := newSystem(t)
	changed := s.changed(t)
	s.run(t, "mkdir -p /opt/cni/bin && printf '#!/bin/sh\nexit 7\n' >/opt/cni/bin/tap && chmod +x /opt/cni/bin/tap")
	theirs := s.programs(t)
	s.install(t, old)

	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin"} {
		out, err := s.command("plumb", "plugins", "install", dir).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "what leads to /usr/lib/plumb/plumb-cni is a package's") {
			t.Errorf("plumb plugins install %s: %v, %s", dir, err, out)
		}
	}
	s.run(t, "printf '#!/bin/sh\nexit 8\n' >/opt/cni/bin/mine; chmod +x /opt/cni/bin/mine; mv /opt/cni/bin/mine /opt/cni/bin/vrf")
	s.install(t, updated)
	if out, err := s.command("/opt/cni/bin/vrf").CombinedOutput(); err == nil || err.Error() != "exit status 8" {
		t.Errorf("after an upgrade the administrator's plugin says %s (%v)", out, err)
	}
	s.run(t, "rm /opt/cni/bin/vrf")

	s.run(t, "plumb plugins install --force /opt/cni/bin")
	chosen := s.run(t, "ls -l /opt/cni/bin")
	if !strings.Contains(chosen, "bridge -> plumb-cni") {
		t.Errorf("placed is\n%s", chosen)
	}
	s.install(t, old)
	if now := s.run(t, "ls -l /opt/cni/bin"); now != chosen {
		t.Errorf("after an upgrade there is\n%s\nand was\n%s", now, chosen)
	}
	s.run(t, "plumb plugins remove /opt/cni/bin")
	if !s.answers(t, "/opt/cni/bin/bridge") || !strings.Contains(s.run(t, "readlink /opt/cni/bin/bridge"), "/usr/lib/plumb") {
		t.Error("the package's links did not come back")
	}

	// The package goes first.
	s.run(t, "plumb plugins install --force /opt/cni/bin")
	s.run(t, "dpkg --purge plumb 2>&1")
	if !s.answers(t, "/opt/cni/bin/bridge") {
		t.Error("the package has taken along what the administrator placed")
	}
	s.run(t, "/opt/cni/bin/plumb plugins remove /opt/cni/bin")
	if now := s.programs(t); now != theirs {
		t.Errorf("given back:\n%s\nwant:\n%s", now, theirs)
	}
	s.run(t, "rm -r /opt/cni")
	s.free(t, changed)
}

// TestUsers removes the package while networks use plugins that nobody else has.
func TestUsers(t *testing.T) {
	s := newSystem(t)
	changed := s.changed(t)
	s.install(t, build(t, "0.1.0"))
	s.run(t, `ln -s ../plumb/plumb-cni /usr/lib/cni/dnsname
cat >/etc/cni/net.d/named.conflist <<'END'
{"cniVersion":"1.0.0","name":"named","plugins":[{"type":"bridge"},{"type":"dnsname"}]}
END
cat >/etc/cni/net.d/fused.conflist <<'END'
{"cniVersion":"1.0.0","name":"fused","plugins":[{"type":"plumb","plugins":[{"type":"bridge"}]}]}
END
cat >/etc/cni/net.d/plain.conflist <<'END'
{"cniVersion":"1.0.0","name":"plain","plugins":[{"type":"bridge"}]}
END`)
	if said := s.run(t, "dpkg --install --force-downgrade /run/plumb_0.1.0.deb 2>&1"); strings.Contains(said, "fails without") {
		t.Errorf("an upgrade says %s", said)
	}
	said := s.run(t, "dpkg --remove plumb 2>&1")
	for network, named := range map[string]bool{"named": true, "fused": true, "plain": false} {
		if strings.Contains(said, `network "`+network+`"`) != named {
			t.Errorf("of network %s it says\n%s", network, said)
		}
	}
	s.run(t, "rm /etc/cni/net.d/*; dpkg --purge plumb 2>&1")
	s.free(t, changed)
}

// TestTools tries what is there for people.
func TestTools(t *testing.T) {
	s := newSystem(t)
	s.install(t, build(t, "0.1.0"))
	for _, script := range []string{
		`plumb version | grep -F 'plumb '`,
		`zcat /usr/share/man/man8/plumb.8.gz | grep -F PLUMB`,
		`zcat /usr/share/man/man7/plumb-bridge.7.gz | grep -F isDefaultGateway`,
		`. /usr/share/bash-completion/completions/plumb && complete -p plumb`,
		`plumb __complete plugins '' 2>/dev/null | grep -F install`,
		`grep -F '#compdef plumb' /usr/share/zsh/vendor-completions/_plumb`,
		`grep -F 'complete -c plumb' /usr/share/fish/vendor_completions.d/plumb.fish`,
		`grep -F draft-07 /usr/share/plumb/cni.schema.json`,
		`grep -F Apache /usr/share/doc/plumb/copyright`,
		`plumb-runc --version || test -x /usr/bin/plumb-runc`,
		`! test -e /usr/lib/cni/dnsname`,
	} {
		if out, err := s.command("bash", "-c", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
	units := 0
	for line := range strings.Lines(s.run(t, "grep -h ^ExecStart= /lib/systemd/system/plumb-*.service")) {
		units++
		program, args, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "ExecStart="), " ")
		if out, err := s.command(append(append([]string{program}, strings.Fields(args)...), "-h")...).CombinedOutput(); err != nil && !strings.Contains(string(out), "-socketpath") {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	if units != 2 {
		t.Errorf("%d units start a program", units)
	}
}
