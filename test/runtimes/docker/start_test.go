package docker

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// label chooses networks.
func label(networks string) string { return "--label=plumb.networks=" + networks }

// TestStart has networks there before the first instruction of a container.
func TestStart(t *testing.T) {
	host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	// ping is the container's only process, and sends once.
	d.Run(t, "run", "--rm", "--runtime", "plumb", "--network", "none", label("myptp"), image, "ping", "-c", "1", "-W", "2", host.Internet4)
	d.Run(t, "run", "--rm", "--runtime", "plumb", "--network", "none", label("myptp"), image, "ping", "-c", "1", "-W", "2", host.Internet6)
	out := d.Run(t, "run", "--rm", "--runtime", "plumb", "--network", "none", label("myptp,backend@inner"),
		"--label=plumb.ip.backend=10.221.0.77", "--label=plumb.mac.backend=02:00:00:00:00:77", image, "ip", "-o", "addr")
	for _, want := range []string{": eth0    inet 10.220.0.", ": eth0    inet6 fd00:220::", ": inner    inet 10.221.0.77/24"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out = d.Run(t, "run", "--rm", "--runtime", "plumb", "--network", "none", label("backend"),
		"--label=plumb.mac.backend=02:00:00:00:00:77", image, "cat", "/sys/class/net/eth0/address")
	if out != "02:00:00:00:00:77" {
		t.Errorf("eth0 has the address %s", out)
	}
	// What asks for nothing is runc's alone.
	if out := d.Run(t, "run", "--rm", "--runtime", "plumb", "--network", "none", image, "ls", "/sys/class/net"); out != "lo" {
		t.Errorf("without a label there is %s", out)
	}
	gone(t, before)
}

// TestPublish has ports published by -p and by the label.
func TestPublish(t *testing.T) {
	outside := host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	// The first of the networks has no portmap.
	d.run(t, "plumb", "c1", label("backend,myptp"), "--publish", "8080:80", "--publish", "5353:80/udp", "--label=plumb.ports=8081:80,8082:80,127.0.0.1:8083:80/tcp")
	for _, port := range []string{"8080", "8081", "8082"} {
		node.Answers(t, outside, "tcp", host.Uplink4+":"+port, "c1")
		node.Answers(t, "", "tcp", "127.0.0.1:"+port, "c1")
	}
	node.Answers(t, outside, "tcp", "["+host.Uplink6+"]:8080", "c1")
	node.Answers(t, outside, "udp", host.Uplink4+":5353", "c1")
	node.Answers(t, "", "tcp", "127.0.0.1:8083", "c1")
	node.Silent(t, outside, "tcp", host.Uplink4+":8083")
	// The same port once more: the second container doesn't start.
	_, err := d.Try("run", "--rm", "--runtime", "plumb", "--network", "none", label("myptp"), "--publish", "8080:80", image)
	if err == nil || !strings.Contains(err.Error(), "8080") || !strings.Contains(err.Error(), d.inspect(t, "c1", "{{.Id}}")) {
		t.Errorf("a port that is taken: %v", err)
	}
	d.Run(t, "rm", "--force", "c1")
	node.Silent(t, outside, "tcp", host.Uplink4+":8080")
	gone(t, before)
}

// TestRefuse has containers that can't be attached not start, say why, and leave nothing.
func TestRefuse(t *testing.T) {
	host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	d.run(t, "runc", "other")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown network":          {[]string{label("nosuch")}, `find network "nosuch" in /etc/cni/net.d`},
		"second network is broken": {[]string{label("myptp,backend,broken")}, `network "broken"`},
		"no portmap":               {[]string{label("backend"), "--publish=80:80"}, "none of its networks can"},
		"no host port":             {[]string{label("myptp"), "--publish=80"}, "nobody chooses one"},
		"-P":                       {[]string{label("myptp"), "--publish-all"}, "docker run -P"},
		"not an address":           {[]string{label("myptp"), "--label=plumb.ip.myptp=10.1"}, `address "10.1"`},
		"another address":          {[]string{label("backend"), "--label=plumb.ip.backend=192.0.2.1"}, "192.0.2.1"},
		"a network that isn't":     {[]string{label("myptp"), "--label=plumb.ip.backend=10.221.0.7"}, "is not in plumb.networks"},
		"ports alone":              {[]string{"--label=plumb.ports=80:80"}, "label plumb.ports needs plumb.networks"},
		"name of an interface":     {[]string{label("myptp@much-too-long-a-name")}, "much-too-long-a-name"},
		"the host's network":       {[]string{label("myptp"), "--network=host"}, "has the host's network"},
		"another's network":        {[]string{label("myptp"), "--network=container:other"}, "shares the network of"},
	} {
		args := []string{"run", "--rm", "--runtime", "plumb", "--name", "refused"}
		if !strings.Contains(strings.Join(c.args, " "), "--network=") {
			args = append(args, "--network=none")
		}
		_, err := d.Try(append(append(args, c.args...), image, "true")...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	d.Run(t, "rm", "--force", "other")
	gone(t, before)
}

// TestShare has a container in the namespace of another.
func TestShare(t *testing.T) {
	outside := host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	d.run(t, "plumb", "c1", label("myptp"), "--publish=8080:80")
	d.Run(t, "run", "--rm", "--runtime", "plumb", "--network", "container:c1", image, "ping", "-c", "1", "-W", "2", host.Internet4)
	node.Answers(t, outside, "tcp", host.Uplink4+":8080", "c1")
	d.Run(t, "rm", "--force", "c1")
	gone(t, before)
}

// TestDNS has what networks say in resolv.conf, unless docker run says something else.
func TestDNS(t *testing.T) {
	d := install(t)
	before := host.Snapshot(t)
	read := func(args ...string) string {
		args = append([]string{"run", "--rm", "--runtime", "plumb", "--network", "none", label("named")}, args...)
		return d.Run(t, append(args, image, "cat", "/etc/resolv.conf")...)
	}
	if got := read(); !strings.Contains(got, "nameserver 10.222.0.1") || strings.Count(got, "nameserver") != 1 || !strings.Contains(got, "search named.test") {
		t.Errorf("resolv.conf:\n%s", got)
	}
	if got := read("--dns", "192.0.2.53"); !strings.Contains(got, "nameserver 192.0.2.53") || strings.Contains(got, "10.222.0.1") || !strings.Contains(got, "search named.test") {
		t.Errorf("resolv.conf with --dns:\n%s", got)
	}
	d.run(t, "plumb", "c1", label("named"))
	d.Run(t, "restart", "--time", "0", "c1")
	if got := d.Run(t, "exec", "c1", "cat", "/etc/resolv.conf"); strings.Count(got, "10.222.0.1") != 1 || strings.Count(got, "search") != 1 {
		t.Errorf("resolv.conf after a restart:\n%s", got)
	}
	d.Run(t, "rm", "--force", "c1")
	gone(t, before)
}

// TestNames has containers find each other by name, by the plugin dnsname: at once, before the first instruction.
func TestNames(t *testing.T) {
	d := install(t)
	config := `{"cniVersion":"1.0.0","name":"names","plugins":[
		{"type":"bridge","bridge":"brbackend","isGateway":true,"ipam":{"type":"host-local","subnet":"10.225.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}},
		{"type":"dnsname","domainName":"names.test","capabilities":{"aliases":true}}]}`
	if err := os.WriteFile("/etc/cni/net.d/60-names.conflist", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	before := host.Snapshot(t)
	id := d.run(t, "plumb", "c1", label("names"), "--hostname", "other")
	for _, name := range []string{"c1", "c1.names.test", "other", id[:12]} {
		d.Run(t, "run", "--rm", "--runtime", "plumb", "--network", "none", label("names"), image, "ping", "-c", "1", "-W", "2", name)
	}
	d.run(t, "runc", "c2")
	d.plumb(t).Run(t, "connect", "c2", "names")
	d.Run(t, "run", "--rm", "--runtime", "plumb", "--network", "none", label("names"), image, "ping", "-c", "1", "-W", "2", "c2")
	d.plumb(t).Run(t, "disconnect", "c2", "names")
	d.Run(t, "rm", "--force", "c1")
	gone(t, before)
}

// TestCrowd starts containers at once, and removes them at once.
func TestCrowd(t *testing.T) {
	host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	const crowd = 8
	var all sync.WaitGroup
	var names []string
	for i := range crowd {
		name := fmt.Sprintf("c%d", i)
		names = append(names, name)
		all.Go(func() {
			if _, err := d.Try("run", "--detach", "--runtime", "plumb", "--network", "none", "--name", name, label("myptp,backend"),
				"--publish", fmt.Sprintf("%d:80", 8000+i), image); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if list := d.list(t); len(list) != 2*crowd {
		t.Errorf("%d attachments: %v", len(list), list)
	}
	for _, name := range names {
		host.Ping(t, d.sandbox(t, name), host.Internet4)
	}
	d.Run(t, append([]string{"rm", "--force"}, names...)...)
	gone(t, before)
}

// TestRuntime compares plumb-runc with runc where there is nothing for it to do.
func TestRuntime(t *testing.T) {
	d := install(t)
	status := func(runtime string, args ...string) (string, string) {
		out, err := d.Try(append([]string{"run", "--rm", "--runtime", runtime, "--network", "none", image}, args...)...)
		return out, fmt.Sprint(err != nil)
	}
	for _, args := range [][]string{{"sh", "-c", "exit 42"}, {"sh", "-c", "kill -9 $$"}, {"nosuch"}, {"sh", "-c", "cat /proc/self/cgroup | wc -l"}} {
		theirs, failed := status("runc", args...)
		if ours, ourFailed := status("plumb", args...); ours != theirs || failed != ourFailed {
			t.Errorf("%q: %s, failed %s; with runc %s, failed %s", args, ours, ourFailed, theirs, failed)
		}
	}
	// What the engine does to a running container.
	d.run(t, "plumb", "c1")
	d.Run(t, "pause", "c1")
	d.Run(t, "unpause", "c1")
	d.Run(t, "exec", "c1", "true")
	d.Run(t, "kill", "--signal", "TERM", "c1")
	if code := d.Run(t, "wait", "c1"); code != "0" {
		t.Errorf("after SIGTERM the container's status is %s", code)
	}
	// An interactive one has a console, which runc passes by a socket.
	d.Run(t, "run", "--rm", "--tty", "--runtime", "plumb", "--network", "none", image, "test", "-t", "0")
}

// TestHookKilled kills the engine's parts while a container is being attached, by a plugin that never ends.
func TestHookKilled(t *testing.T) {
	host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	watch := d.watch(t)
	bin := t.TempDir()
	host.Run(t, "sh", "-c", "cp -a "+host.Bin(t)+"/. "+bin)
	if err := os.WriteFile(bin+"/hang", []byte("#!/bin/sh\n[ $CNI_COMMAND = DEL ] || { echo $PPID >"+bin+"/hangs; sleep 100; }\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := `{"cniVersion":"1.0.0","name":"hangs","plugins":[
		{"type":"ptp","ipam":{"type":"host-local","subnet":"10.224.0.0/24"}},{"type":"hang"}]}`
	if err := os.WriteFile("/etc/cni/net.d/50-hangs.conflist", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	watch.end(t, syscall.SIGTERM)
	watch.args = append(d.plumb(t).Args, "--path", bin, "watch")
	watch.start(t)
	host.Run(t, "sed", "-i", "s|--plumb-path=[^\"]*|--plumb-path="+bin+"|", d.dir+"/daemon.json")
	d.daemon.end(t, syscall.SIGTERM)
	d.start(t)

	done := make(chan error, 1)
	go func() {
		_, err := d.Try("run", "--rm", "--runtime", "plumb", "--network", "none", label("hangs"), image, "true")
		done <- err
	}()
	node.Eventually(t, func() error { _, err := host.Try("grep", ".", bin+"/hangs"); return err })
	host.Run(t, "sh", "-c", "kill -9 $(cat "+bin+"/hangs)") // the hook
	if err := <-done; err == nil {
		t.Error("the container started")
	}
	gone(t, before)
}
